//! Deployments as they are rendered, on this machine: which of them are played, and what their
//! images, volumes and addresses are here. Probes, hooks, options and figures stay as they are.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use super::{
    kubelet::{Image, Network, Pod, Status},
    manifest::{Container, PodSpec, Volume, VolumeSource, repository},
};
use crate::harness::{
    certs::{Authority, Identity, Leaf},
    client::Client,
    database::{Database, Kind},
    process::{Mounted, Pki, program, run},
};

/// The containers by their names: the sidecar's, and that of the store beside it.
pub const SIDECAR: &str = "faroe-sidecar";
pub const STORE: &str = "users";

/// Where the sidecar listens in the pod, and where a store does.
const ENDPOINT: u16 = 8443;
const ADMIN: u16 = 9090;
const STORE_PORT: u16 = 50051;
const ON_LOCALHOST: &str = "tcp://127.0.0.1:50051";
const ON_A_SOCKET: &str = "unix:///run/faroe-userstore/store.sock";

/// A Deployment.
pub struct Workload {
    pub pod: PodSpec,
    pub pki: Arc<Pki>,
    users: Database,
    /// Where the store listens in the pod.
    listen: &'static str,
}

impl Workload {
    /// Somebody's Deployment with the Kustomize component of the native sidecar.
    pub fn native() -> Self {
        Self::kustomization("native", ON_LOCALHOST)
    }

    /// The same over a Unix socket.
    pub fn native_on_a_socket() -> Self {
        Self::kustomization("socket", ON_A_SOCKET)
    }

    /// Somebody's Deployment with the component of the plain container.
    pub fn plain() -> Self {
        Self::kustomization("plain", ON_LOCALHOST)
    }

    /// The Deployment of somebody's chart that includes the native sidecar.
    pub fn native_by_chart() -> Self {
        Self::including_chart(&["--set=container=native", "--kube-version=1.33.0"])
    }

    /// The same with the plain container, for clusters that have no other.
    pub fn plain_by_chart() -> Self {
        Self::including_chart(&["--set=container=plain", "--kube-version=1.28.0"])
    }

    /// The chart's own Deployment.
    pub fn user_server(kind: Kind) -> Self {
        let chart = repository("deploy/helm/faroe-sidecar");
        let values = format!("--values={}", chart.join("ci/database-values.yaml").display());
        let options = [&values, "--kube-version=1.33.0", "--show-only=templates/deployment.yaml"];
        let users = kind.database();
        // As the chart's Job does it before.
        assert!(run(["migrate", "up", "--store", &users.url]).status.success());
        Self { users, ..Self::new(PodSpec::of_chart(&chart, &options), "") }
    }

    fn kustomization(name: &str, listen: &'static str) -> Self {
        let folder = repository("tests/deploy.d/kustomize").join(name);
        Self::new(PodSpec::of_kustomization(&folder), listen)
    }

    fn including_chart(options: &[&str]) -> Self {
        let store = format!("--set=faroe-sidecar.store.url={ON_A_SOCKET}");
        let options = [options, &[&store, "--show-only=templates/deployment.yaml"]].concat();
        let chart = repository("tests/deploy.d/host-chart");
        Self::new(PodSpec::of_including_chart(&chart, &options), ON_A_SOCKET)
    }

    fn new(pod: PodSpec, listen: &'static str) -> Self {
        let authority = Authority::new();
        let server = authority.issue("server", Leaf::server());
        // Whoever those manifests let in.
        let names = ["faroe", "faroe.internal", "spiffe://example.org/ns/faroe/sa/faroe"];
        let client = authority.issue("client", Leaf::client(&names));
        let pki = Arc::new(Pki { authority, server, client });
        Self { pod, pki, users: Kind::Sqlite.database(), listen }
    }

    /// Starts a pod whose store is held back.
    pub fn start_without_store(&self) -> Replica {
        let here = Here::of(self);
        let images = |containers: &[Container]| -> Vec<Image> {
            containers.iter().map(|container| self.image(container, &here)).collect()
        };
        let (init, own) = (images(&self.pod.init_containers), images(&self.pod.containers));
        let grace = self.pod.termination_grace_period();
        Replica {
            pod: Pod::start(init, own, here.network.clone(), grace),
            endpoint: here.network.address(ENDPOINT),
            secret: here.secret,
            folder: here.folder,
        }
    }

    pub fn start(&self) -> Replica {
        let replica = self.start_without_store();
        replica.let_the_store_start();
        replica
    }

    /// A client of a pod, over HTTP/2.
    pub fn client(&self, replica: &Replica) -> Client {
        Client::new(replica.endpoint, &self.pki, Some(&self.pki.client))
    }

    fn image(&self, manifest: &Container, here: &Here) -> Image {
        match &*manifest.name {
            SIDECAR => sidecar(manifest, here),
            STORE => self.store(manifest, here),
            // What prepares the store's pod.
            "prepare" => Image {
                manifest: manifest.clone(),
                start: Box::new(|| command("true", &[])),
                exec: Box::new(|command| panic!("not in the image: {command:?}")),
            },
            other => panic!("nobody knows the image of {other}"),
        }
    }

    /// The bundled store stands for somebody's own.
    fn store(&self, manifest: &Container, here: &Here) -> Image {
        let listen = here.text(manifest, self.listen);
        let options = ["store", "--store", &self.users.url, "--listen", &listen].map(str::to_owned);
        let gate = here.folder.path().join(GATE);
        Image {
            manifest: manifest.clone(),
            start: Box::new(move || once_there(&gate, &program(&options))),
            exec: Box::new(|words| match words {
                [sleep, seconds] if sleep == "sleep" => command(sleep, &[seconds]),
                _ => panic!("not in the image: {words:?}"),
            }),
        }
    }
}

/// A pod of a Deployment.
pub struct Replica {
    pub pod: Pod,
    pub endpoint: SocketAddr,
    /// The Secret with certificate, key and client CA, as it is mounted.
    pub secret: Mounted,
    folder: tempfile::TempDir,
}

/// The file that the program of a store waits for.
const GATE: &str = "the-store-may-start";

impl Replica {
    /// Lets a store start that was held back.
    pub fn let_the_store_start(&self) {
        fs::write(self.folder.path().join(GATE), "").unwrap();
    }

    pub async fn wait_until_ready(&self) {
        self.pod.wait_for("it becomes ready", Status::is_ready).await;
    }
}

fn sidecar(manifest: &Container, here: &Here) -> Image {
    let options: Vec<String> =
        manifest.args.iter().map(|option| here.text(manifest, option)).collect();
    // The defaults in a pod, before what the manifest says.
    let defaults = [("LISTEN", ENDPOINT), ("ADMIN_LISTEN", ADMIN)].map(|(name, port)| {
        (format!("FAROE_SIDECAR_{name}"), here.network.address(port).to_string())
    });
    let variables = manifest
        .env
        .iter()
        .map(|variable| (variable.name.clone(), here.text(manifest, &variable.value)));
    let environment: Vec<(String, String)> = defaults.into_iter().chain(variables).collect();
    let in_container = move |options: &[String]| {
        let mut command = program(options);
        command.envs(environment.clone());
        command
    };
    let exec = in_container.clone();
    Image {
        manifest: manifest.clone(),
        start: Box::new(move || in_container(&options)),
        exec: Box::new(move |words| match words {
            [sidecar, options @ ..] if sidecar == SIDECAR => exec(options),
            _ => panic!("not in the image: {words:?}"),
        }),
    }
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The command, run as soon as this file is there.
fn once_there(file: &Path, then: &Command) -> Command {
    let mut waiting =
        command("sh", &["-c", "until [ -e \"$0\" ]; do sleep 0.05; done; exec \"$@\""]);
    waiting.arg(file).arg(then.get_program()).args(then.get_args());
    for (name, value) in then.get_envs() {
        match value {
            Some(value) => waiting.env(name, value),
            None => waiting.env_remove(name),
        };
    }
    waiting
}

/// Where the things of a pod are on this machine.
struct Here {
    network: Network,
    volumes: BTreeMap<String, PathBuf>,
    secret: Mounted,
    folder: tempfile::TempDir,
}

impl Here {
    fn of(workload: &Workload) -> Self {
        let Workload { pod, pki, users, .. } = workload;
        let containers = pod.init_containers.iter().chain(&pod.containers);
        let ports = containers.flat_map(|container| &container.ports);
        let ports = ports.map(|port| port.container_port).chain([ENDPOINT, ADMIN, STORE_PORT]);
        let secret = Mounted::new(&files(&pki.server, &pki.authority.certificate()));
        let folder = tempfile::tempdir().unwrap();
        let volume = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let volumes = pod.volumes.iter().map(|Volume { name, source }| {
            let path = match source {
                VolumeSource::EmptyDir {} => volume(name),
                VolumeSource::Secret { secret_name } => match &**secret_name {
                    "faroe-sidecar-tls" | "user-server-tls" => secret.folder().to_owned(),
                    "users-database" => {
                        let path = volume(name);
                        fs::write(path.join("url"), &users.url).unwrap();
                        path
                    }
                    other => panic!("nobody knows the Secret {other}"),
                },
            };
            (name.clone(), path)
        });
        let volumes = volumes.collect();
        Self { network: Network::new(&ports.collect()), volumes, secret, folder }
    }

    /// A text of a container with its paths and addresses as they are here.
    fn text(&self, container: &Container, text: &str) -> String {
        let mut mounts = container.volume_mounts.iter();
        let text = match mounts.find(|mount| text.contains(&mount.mount_path)) {
            Some(mount) => {
                let folder = self.volumes[&mount.name].to_str().unwrap();
                text.replace(&mount.mount_path, folder)
            }
            None => text.to_owned(),
        };
        self.network.here(&text)
    }
}

/// What is in the Secret of the certificates.
pub fn files<'a>(server: &'a Identity, ca: &'a Path) -> [(&'static str, &'a Path); 3] {
    [("tls.crt", &server.certificate), ("tls.key", &server.key), ("ca.crt", ca)]
}
