//! A small model of the kubelet: it starts the containers of a pod in their order, probes them,
//! starts again what ends, and ends the pod as it ends pods. Containers are real processes.
//!
//! What it does, and when, is what Kubernetes' own `pkg/kubelet` does:
//!
//! - Init containers start one after the other: each when the one before it has succeeded or, if that
//!   is a native sidecar (one that is restarted always), has started. The pod's own containers start
//!   after them, all at once.
//! - A container has started when its startup probe has passed; liveness and readiness are looked at
//!   from then on. One whose startup or liveness fails, or that ends, is started again.
//! - A pod that is deleted is probed no more. The `preStop` hooks of all containers run at once; a
//!   container gets SIGTERM when its own has ended, but a native sidecar not before the pod's own
//!   containers and the sidecars after it have ended. The grace period runs from the deletion; who is
//!   there at its end is killed, though nobody before two seconds after SIGTERM.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    future::pending,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    process::{Command, ExitStatus},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, timeout, timeout_at},
};

use super::manifest::{Container as Manifest, Hook, Probe};
use crate::harness::{
    client::Error,
    process::{PATIENCE, Process},
};

/// How often the kubelet looks at what has ended.
const RELIST: Duration = Duration::from_secs(1);
/// How long a container that ends again and again is left alone.
const BACK_OFF: Duration = Duration::from_secs(10);
/// From SIGTERM to SIGKILL, at the least.
const MINIMUM_GRACE: Duration = Duration::from_secs(2);
/// How often the model looks whether a process has ended.
const POLL: Duration = Duration::from_millis(10);

/// The network of a pod: an address of its own, with a port of this machine for each of the pod.
#[derive(Debug, Clone)]
pub struct Network(BTreeMap<u16, SocketAddr>);

impl Network {
    /// Nobody else uses the address, so that the ports stay free while no container has them.
    pub fn new(ports: &BTreeSet<u16>) -> Self {
        let mut host = [0; 3];
        getrandom::fill(&mut host).unwrap();
        let [a, b, c] = host;
        let ip = IpAddr::V4(Ipv4Addr::new(127, a | 1, b, c | 1));
        let sockets: Vec<_> =
            ports.iter().map(|port| (*port, TcpListener::bind((ip, 0)).unwrap())).collect();
        let address = |(port, socket): &(u16, TcpListener)| (*port, socket.local_addr().unwrap());
        Self(sockets.iter().map(address).collect())
    }

    /// A text that names addresses in the pod, with those of this machine.
    pub fn here(&self, text: &str) -> String {
        let in_pod = ["0.0.0.0", "127.0.0.1"];
        self.0.iter().fold(text.to_owned(), |text, (port, here)| {
            in_pod
                .iter()
                .fold(text, |text, ip| text.replace(&format!("{ip}:{port}"), &here.to_string()))
        })
    }

    /// Where a port of the pod is.
    pub fn address(&self, port: u16) -> SocketAddr {
        *self.0.get(&port).unwrap_or_else(|| panic!("the pod has no port {port}"))
    }
}

/// A container with the program that is in its image.
pub struct Image {
    pub manifest: Manifest,
    /// The program.
    pub start: Box<dyn Fn() -> Command + Send + Sync>,
    pub exec: Exec,
}

/// A command beside it in the container, from its words.
pub type Exec = Box<dyn Fn(&[String]) -> Command + Send + Sync>;

/// What the kubelet knows of a pod.
#[derive(Debug, Clone)]
pub struct Status {
    pub is_deleted: bool,
    containers: BTreeMap<String, ContainerStatus>,
}

#[derive(Debug, Clone, Default)]
pub struct ContainerStatus {
    pub is_running: bool,
    /// The startup probe has passed, or the init container has succeeded.
    pub has_started: bool,
    pub is_ready: bool,
    pub restarts: u32,
    /// How often the liveness probe has passed and failed.
    pub liveness: (u32, u32),
    has_ended: bool,
}

impl Status {
    /// Whether all containers are.
    pub fn is_ready(&self) -> bool {
        self.containers.values().all(|container| container.is_ready)
    }

    pub fn container(&self, name: &str) -> &ContainerStatus {
        &self.containers[name]
    }
}

/// How a container has ended.
pub struct End {
    pub container: String,
    pub process: Process,
    pub status: ExitStatus,
    /// At the end of the grace period.
    pub is_killed: bool,
    /// What was wrong with the `preStop` hook.
    pub hook: Result<(), String>,
    /// When, from the deletion.
    pub after: Duration,
}

/// A pod, from its start to its deletion.
pub struct Pod {
    containers: Vec<Arc<Container>>,
    status: watch::Sender<Status>,
    supervisors: JoinSet<()>,
}

struct Container {
    image: Image,
    network: Network,
    /// How long its end may take.
    grace: Duration,
    /// Whether it is an init container that has to succeed before others start.
    ends_by_itself: bool,
    /// Who has to be started before it starts.
    after: Vec<String>,
    /// Who has to be ended before it gets SIGTERM.
    until: Vec<String>,
    process: Mutex<Option<Process>>,
    status: watch::Sender<Status>,
}

impl Pod {
    /// Starts a pod with these init containers and these of its own.
    pub fn start(init: Vec<Image>, own: Vec<Image>, network: Network, grace: Duration) -> Self {
        let init_count = init.len();
        let images: Vec<Image> = init.into_iter().chain(own).collect();
        let names: Vec<String> = images.iter().map(|image| image.manifest.name.clone()).collect();
        let containers = names.iter().map(|name| (name.clone(), ContainerStatus::default()));
        let status =
            watch::Sender::new(Status { is_deleted: false, containers: containers.collect() });
        let containers: Vec<Arc<Container>> = images
            .into_iter()
            .enumerate()
            .map(|(number, image)| {
                let is_init = number < init_count;
                let is_sidecar = is_init && image.manifest.is_restarted_always();
                Arc::new(Container {
                    image,
                    network: network.clone(),
                    grace,
                    ends_by_itself: is_init && !is_sidecar,
                    after: names[..number.min(init_count)].to_vec(),
                    until: if is_sidecar { names[number + 1..].to_vec() } else { Vec::new() },
                    process: Mutex::new(None),
                    status: status.clone(),
                })
            })
            .collect();
        let supervisors =
            containers.iter().map(|container| Arc::clone(container).supervise()).collect();
        Self { containers, status, supervisors }
    }

    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Waits until the pod is so.
    pub async fn wait_for(&self, what: &str, reached: impl Fn(&Status) -> bool) {
        let mut status = self.status();
        let reached = timeout(2 * PATIENCE, status.wait_for(reached)).await.is_ok();
        assert!(reached, "{what}: {:?}", self.status.borrow());
    }

    /// Ends the program of a container as a crash does.
    pub fn crash(&self, container: &str) {
        let container = self.container(container);
        lock(&container.process).as_mut().unwrap().signal("KILL");
    }

    fn container(&self, name: &str) -> &Container {
        let container = self.containers.iter().find(|it| it.name() == name);
        container.unwrap_or_else(|| panic!("the pod has no container {name}"))
    }

    /// Deletes the pod, and gives how each container has ended, in the order of their starts.
    pub async fn delete(mut self) -> Vec<End> {
        let deleted = Instant::now();
        self.status.send_modify(|status| status.is_deleted = true);
        while let Some(supervisor) = self.supervisors.join_next().await {
            supervisor.unwrap();
        }
        let mut ends = JoinSet::new();
        for (number, container) in self.containers.iter().enumerate() {
            let container = Arc::clone(container);
            ends.spawn(async move { (number, container.end(deleted).await) });
        }
        let mut ends = ends.join_all().await;
        ends.sort_by_key(|(number, _)| *number);
        ends.into_iter().map(|(_, end)| end).collect()
    }
}

impl Drop for Pod {
    /// Ends the programs here, where the test sees what is wrong with their logs.
    fn drop(&mut self) {
        self.supervisors.abort_all();
        for container in &self.containers {
            drop(lock(&container.process).take());
        }
    }
}

impl Container {
    fn name(&self) -> &str {
        &self.image.manifest.name
    }

    fn update(&self, change: impl FnOnce(&mut ContainerStatus)) {
        self.status.send_modify(|status| change(status.containers.get_mut(self.name()).unwrap()));
    }

    async fn wait_for(&self, reached: impl FnMut(&Status) -> bool) {
        self.status.subscribe().wait_for(reached).await.unwrap();
    }

    /// Keeps it running until the pod is deleted.
    async fn supervise(self: Arc<Self>) {
        tokio::select! {
            never = self.run() => match never {},
            () = self.wait_for(|status| status.is_deleted) => {}
        }
    }

    async fn run(&self) -> Infallible {
        let started = |status: &Status, name: &String| status.containers[name].has_started;
        self.wait_for(|status| self.after.iter().all(|name| started(status, name))).await;
        loop {
            *lock(&self.process) = Some(Process::start((self.image.start)()));
            self.update(|status| status.is_running = true);
            if self.ends_by_itself {
                let end = ended(&self.process).await;
                assert!(end.success(), "{}: {end}", self.name());
                self.update(|status| {
                    (status.is_running, status.has_started, status.is_ready) = (false, true, true);
                });
                return pending().await;
            }
            tokio::select! {
                _ = ended(&self.process) => {}
                () = self.probe() => self.stop().await,
            }
            let mut restarts = 0;
            self.update(|status| {
                restarts = status.restarts;
                *status = ContainerStatus {
                    restarts: restarts + 1,
                    liveness: status.liveness,
                    ..ContainerStatus::default()
                };
            });
            // The first time it is started again as soon as that is noticed.
            sleep(if restarts == 0 { RELIST } else { BACK_OFF }).await;
        }
    }

    /// Probes it until it has to be started again.
    async fn probe(&self) {
        let manifest = &self.image.manifest;
        if let Some(startup) = &manifest.startup_probe
            && !self.prober(startup).result(|_| {}).await
        {
            return;
        }
        self.update(|status| {
            status.has_started = true;
            status.is_ready = manifest.readiness_probe.is_none();
        });
        let liveness = async {
            let Some(probe) = &manifest.liveness_probe else { return pending().await };
            let mut prober = self.prober(probe);
            let count = |passed| {
                self.update(|ContainerStatus { liveness: (pass, fail), .. }| {
                    *(if passed { pass } else { fail }) += 1;
                });
            };
            while prober.result(count).await {}
        };
        let readiness = async {
            let Some(probe) = &manifest.readiness_probe else { return pending().await };
            let mut prober = self.prober(probe);
            loop {
                let is_ready = prober.result(|_| {}).await;
                self.update(|status| status.is_ready = is_ready);
            }
        };
        tokio::select! {
            () = liveness => {}
            () = readiness => {}
        }
    }

    fn prober<'a>(&self, probe: &'a Probe) -> Prober<'a> {
        let address = self.network.address(probe.http_get.port);
        let first = Instant::now() + probe.initial_delay();
        let mut ticks = interval_at(first, probe.period());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Prober { probe, address, ticks, last: true, run: 0 }
    }

    /// Its end with its pod, which was deleted then.
    async fn end(&self, deleted: Instant) -> End {
        let deadline = deleted + self.grace;
        let hook = self.pre_stop(deadline).await;
        let over = |status: &Status, name: &String| status.containers[name].has_ended;
        let turn = self.wait_for(|status| self.until.iter().all(|name| over(status, name)));
        let _ = timeout_at(deadline, turn).await;
        let (status, is_killed) = self.terminate(deadline).await;
        self.update(|status| status.has_ended = true);
        let process = lock(&self.process).take().unwrap();
        let container = self.name().to_owned();
        End { container, process, status, is_killed, hook, after: deleted.elapsed() }
    }

    /// Its end without that of its pod.
    async fn stop(&self) {
        let deadline = Instant::now() + self.grace;
        let _ = self.pre_stop(deadline).await;
        self.terminate(deadline).await;
    }

    async fn pre_stop(&self, deadline: Instant) -> Result<(), String> {
        match &self.image.manifest.lifecycle.pre_stop {
            None => Ok(()),
            Some(Hook::Sleep { seconds }) => {
                let whole = Duration::from_secs(*seconds);
                timeout_at(deadline, sleep(whole)).await.map_err(|_| "cut off".to_owned())
            }
            Some(Hook::Exec { command }) => {
                let process = Mutex::new(Some(Process::start((self.image.exec)(command))));
                match timeout_at(deadline, ended(&process)).await {
                    Err(_) => Err(format!("{:?}: cut off", command)),
                    Ok(status) if status.success() => Ok(()),
                    Ok(status) => Err(format!("{:?}: {status}", command)),
                }
            }
        }
    }

    /// SIGTERM, and SIGKILL if need be. How it has ended, and whether it was killed.
    async fn terminate(&self, deadline: Instant) -> (ExitStatus, bool) {
        {
            let mut process = lock(&self.process);
            let process = process.as_mut().unwrap();
            if process.ended().is_none() {
                process.signal("TERM");
            }
        }
        let deadline = deadline.max(Instant::now() + MINIMUM_GRACE);
        if let Ok(status) = timeout_at(deadline, ended(&self.process)).await {
            return (status, false);
        }
        lock(&self.process).as_mut().unwrap().signal("KILL");
        (ended(&self.process).await, true)
    }
}

/// Waits until a process has ended.
async fn ended(process: &Mutex<Option<Process>>) -> ExitStatus {
    loop {
        // There is none when the pod itself has been dropped.
        if let Some(status) = lock(process).as_mut().and_then(Process::ended) {
            return status;
        }
        sleep(POLL).await;
    }
}

fn lock(process: &Mutex<Option<Process>>) -> MutexGuard<'_, Option<Process>> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks at one thing of a container, again and again.
struct Prober<'a> {
    probe: &'a Probe,
    address: SocketAddr,
    ticks: Interval,
    last: bool,
    run: u64,
}

impl Prober<'_> {
    /// The next result that counts, after as many in a row as its threshold says. `each` is told of
    /// every one.
    async fn result(&mut self, each: impl Fn(bool)) -> bool {
        loop {
            self.ticks.tick().await;
            let passed = matches!(
                timeout(self.probe.timeout(), get(self.address, &self.probe.http_get.path)).await,
                Ok(Ok(200..400))
            );
            each(passed);
            self.run = if passed == self.last { self.run + 1 } else { 1 };
            self.last = passed;
            let threshold = match passed {
                true => self.probe.success_threshold,
                false => self.probe.failure_threshold,
            };
            if self.run >= threshold {
                return passed;
            }
        }
    }
}

/// The status of an answer.
async fn get(address: SocketAddr, path: &str) -> Result<u16, Error> {
    let io = TokioIo::new(TcpStream::connect(address).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    tokio::spawn(connection);
    let request = Request::get(path).header("host", address.to_string());
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    Ok(response.status().as_u16())
}
