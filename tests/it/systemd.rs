//! What systemd is told: a real socket takes its place, and waits as it would. `sd_notify(3)`.

use std::{
    ffi::OsString,
    fs, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use sd_notify::NotifyState;
use tempfile::TempDir;

use crate::harness::{
    certs::Leaf,
    client::admin,
    held_store::{HeldStore, held_read},
    process::{PATIENCE, Pki, Process, Sidecar, SqliteFile, program, run},
};

const READY: &str = "READY=1\n";
const STOPPING: &str = "STOPPING=1\n";
const WATCHDOG: &str = "WATCHDOG=1\n";

/// systemd, as far as a service knows it.
struct Manager {
    socket: UnixDatagram,
    address: OsString,
    _folder: TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self { socket, address: path.into(), _folder: folder }
    }

    /// One whose socket is in no file system.
    fn of_abstract_name() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().as_os_str().as_encoded_bytes();
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let mut address = OsString::from("@");
        address.push(folder.path());
        Self { socket, address, _folder: folder }
    }

    /// `serve` as its service.
    fn service(&self, pki: &Pki, store: &str, options: &[&str]) -> Command {
        let mut arguments = pki.serve_options(store);
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        let mut command = program(arguments);
        command.env("NOTIFY_SOCKET", &self.address);
        command.env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
        command
    }

    /// A sidecar on an SQLite file, with these variables, when it has said that it serves.
    fn serving(&self, variables: &[(&str, &str)]) -> (Sidecar, SqliteFile) {
        let (pki, file) = (Arc::new(Pki::new()), SqliteFile::new());
        let mut command = self.service(&pki, &file.url(), &[]);
        command.envs(variables.iter().copied());
        let process = Process::start(command);
        assert_eq!(self.state(), READY);
        (Sidecar::of_process(process, pki), file)
    }

    /// What it is told next, if that comes in time.
    fn told_within(&self, limit: Duration) -> Option<String> {
        let mut buffer = [0; 4096];
        let deadline = Instant::now() + limit;
        loop {
            // A limit of zero would be none.
            let left = deadline.saturating_duration_since(Instant::now());
            self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
            match self.socket.recv(&mut buffer) {
                Ok(length) => return Some(String::from_utf8(buffer[..length].to_vec()).unwrap()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // The end of another test's process.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The next change of state, which is anything but a status.
    fn state_within(&self, limit: Duration) -> Option<String> {
        let deadline = Instant::now() + limit;
        loop {
            match self.told_within(deadline.saturating_duration_since(Instant::now())) {
                Some(told) if told.starts_with("STATUS=") => {}
                told => return told,
            }
        }
    }

    fn state(&self) -> String {
        self.state_within(PATIENCE).expect("systemd is told nothing")
    }

    /// Waits for this status.
    fn wait_for_status(&self, status: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = self.told_within(deadline.saturating_duration_since(Instant::now()));
            let told = told.unwrap_or_else(|| panic!("no status {status:?}"));
            if told.strip_prefix("STATUS=").is_some_and(|told| told.starts_with(status)) {
                assert_eq!(told.lines().count(), 1, "{told}");
                return;
            }
        }
    }

    fn is_told_nothing_more(&self) {
        let told = self.told_within(Duration::from_millis(1));
        assert_eq!(told, None, "whoever has ended has said it before");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_ready_when_it_serves() {
    for manager in [Manager::new(), Manager::of_abstract_name()] {
        let (sidecar, _file) = manager.serving(&[]);
        assert_eq!(admin(sidecar.admin, "/livez").await.status, StatusCode::OK);
        sidecar.client().connect().await.unwrap();
        manager.wait_for_status("ready");
    }
}

/// Neither material nor ports come after it: without one of them there is nothing to hear.
#[test]
fn what_does_not_start_is_never_ready() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let file = SqliteFile::new();
    let folder = file.path.parent().unwrap().to_str().unwrap().to_owned();
    for (option, value) in [
        ("--tls-cert", "/missing"),
        ("--client-ca", "/missing"),
        ("--listen", &*taken),
        ("--admin-listen", &*taken),
        ("--store", &*format!("sqlite://{folder}")),
    ] {
        let (manager, pki) = (Manager::new(), Pki::new());
        let mut arguments = pki.serve_options(&file.url());
        let at = arguments.iter().position(|argument| argument == option).unwrap();
        arguments[at + 1] = value.to_owned();
        let mut command = program(arguments);
        command.env("NOTIFY_SOCKET", &manager.address);
        assert!(!Process::start(command).wait().success(), "{option}");
        manager.is_told_nothing_more();
    }
}

#[test]
fn a_status_says_what_is_missing() {
    let manager = Manager::new();
    let pki = Arc::new(Pki::new());
    let process = Process::start(manager.service(&pki, "grpc://127.0.0.1:1", &[]));
    // The store may come later.
    assert_eq!(manager.state(), READY);
    manager.wait_for_status("not ready: store: no connection");
    let sidecar = Sidecar::of_process(process, pki);
    assert!(run(["drain", "--admin-listen", &sidecar.admin.to_string()]).status.success());
    manager.wait_for_status("draining");
}

#[test]
fn a_service_is_alive_until_it_hangs() {
    // Half of it is time enough on a busy machine.
    const WATCHDOG_TIME: Duration = Duration::from_secs(3);
    let manager = Manager::new();
    let usec = WATCHDOG_TIME.as_micros().to_string();
    let (sidecar, _file) = manager.serving(&[("WATCHDOG_USEC", &usec)]);
    let start = Instant::now();
    for _ in 0..4 {
        let told = manager.state_within(WATCHDOG_TIME);
        assert_eq!(told.as_deref(), Some(WATCHDOG), "systemd would have killed it");
    }
    // Three times half of it.
    let took = start.elapsed();
    assert!(took >= WATCHDOG_TIME && took < WATCHDOG_TIME * 9 / 4, "{took:?}");

    sidecar.process.signal("STOP");
    let stopped = || {
        let status = fs::read_to_string(format!("/proc/{}/status", sidecar.process.id())).unwrap();
        status.contains("State:\tT")
    };
    let deadline = Instant::now() + PATIENCE;
    while !stopped() {
        assert!(Instant::now() < deadline, "it does not stop");
    }
    // What was said before.
    while manager.told_within(Duration::from_millis(1)).is_some() {}
    assert_eq!(manager.told_within(WATCHDOG_TIME), None);
    sidecar.process.signal("CONT");
    assert_eq!(manager.state(), WATCHDOG);
}

#[test]
fn a_watchdog_of_another_process_or_of_no_time_hears_nothing() {
    for variables in [
        &[("WATCHDOG_USEC", "200000"), ("WATCHDOG_PID", "1")][..],
        &[("WATCHDOG_USEC", "0")],
        &[("WATCHDOG_USEC", "soon")],
        &[],
    ] {
        let manager = Manager::new();
        let (mut sidecar, _file) = manager.serving(variables);
        assert_eq!(manager.state_within(Duration::from_millis(500)), None, "{variables:?}");
        assert!(sidecar.process.terminate().success());
    }
}

/// A file that nobody can read to its end until it is let go.
struct Held {
    path: PathBuf,
    fifo: PathBuf,
}

impl Held {
    fn new(path: &Path) -> Self {
        let fifo = path.with_extension("held");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let link = path.with_extension("link");
        fs::hard_link(&fifo, &link).unwrap();
        fs::rename(&link, path).unwrap();
        Self { path: path.to_owned(), fifo }
    }

    /// Puts a file in its place, for who reads it now and later.
    fn release(self, content: &Path) {
        let new = self.path.with_extension("new");
        fs::copy(content, &new).unwrap();
        fs::rename(&new, &self.path).unwrap();
        // Opening waits for who reads, and closing is the end of the file to them.
        drop(fs::File::options().write(true).open(&self.fifo).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_ends_when_all_of_it_is_done() {
    let manager = Manager::new();
    let pki = Arc::new(Pki::new());
    let store_ca = pki.authority.folder().join("store-ca.pem");
    let ca = pki.authority.certificate();
    fs::copy(&ca, &store_ca).unwrap();
    let options = ["--store-ca", store_ca.to_str().unwrap()];
    let process = Process::start(manager.service(&pki, "grpcs://localhost:1", &options));
    let sidecar = Sidecar::of_process(process, Arc::clone(&pki));
    assert_eq!(manager.state(), READY);
    let new = pki.authority.issue("new", Leaf::server());

    let mut last = 0;
    for (held, content) in [(&pki.server.key, &new.key), (&store_ca, &ca)] {
        let held = Held::new(held);
        let before = monotonic_usec();
        sidecar.process.signal("HUP");
        let told = manager.state();
        let lines: Vec<&str> = told.lines().collect();
        let [begin, time] = lines[..] else { panic!("{told}") };
        assert_eq!(begin, "RELOADING=1");
        let time: u64 = time.strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!((before..=monotonic_usec()).contains(&time) && time > last, "{told}");
        last = time;
        assert_eq!(manager.state_within(Duration::from_secs(1)), None, "it is reading still");
        fs::copy(&new.certificate, &pki.server.certificate).unwrap();
        held.release(content);
        assert_eq!(manager.state(), READY);
        let shown = sidecar.client().connect().await.unwrap();
        let shown = shown.get_ref().1.peer_certificates().unwrap()[0].clone();
        assert_eq!(shown, CertificateDer::from_pem_file(&new.certificate).unwrap());
    }
}

fn monotonic_usec() -> u64 {
    let now = NotifyState::monotonic_usec_now().unwrap().to_string();
    now.strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap()
}

/// systemd would wait for its end for ever.
#[test]
fn a_reload_that_is_refused_ends_too() {
    let manager = Manager::new();
    let (sidecar, _file) = manager.serving(&[]);
    fs::remove_file(&sidecar.pki.server.key).unwrap();
    sidecar.process.signal("HUP");
    assert!(manager.state().starts_with("RELOADING=1\n"));
    assert_eq!(manager.state(), READY);
    sidecar.process.wait_for_log("the old one is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_says_that_it_stops_before_it_has_stopped() {
    let store = HeldStore::start().await;
    let (manager, pki) = (Manager::new(), Arc::new(Pki::new()));
    let options = ["--store-timeout", "60s", "--drain-timeout", "60s"];
    let url = format!("grpc://{}", store.address);
    let mut command = manager.service(&pki, &url, &options);
    command.env("WATCHDOG_USEC", "500000");
    let mut sidecar = Sidecar::of_process(Process::start(command), pki);
    sidecar.wait_until_ready();
    let client = sidecar.client();
    let call = tokio::spawn(async move { client.try_post(held_read()).await });
    store.wait_for_calls_in_hand(1).await;

    sidecar.process.signal("TERM");
    let deadline = Instant::now() + PATIENCE;
    while manager.state() != STOPPING {
        assert!(Instant::now() < deadline, "systemd is not told that it stops");
    }
    // It is alive while requests are in hand.
    for _ in 0..4 {
        assert_eq!(manager.state(), WATCHDOG);
    }
    store.release();
    assert_eq!(call.await.unwrap().unwrap().status, StatusCode::OK);
    assert_eq!(sidecar.process.wait().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_manager_nothing_changes() {
    let nowhere = tempfile::tempdir().unwrap().path().join("notify");
    for address in [None, Some(nowhere.into_os_string()), Some("vsock:2:1234".into())] {
        let (pki, file) = (Arc::new(Pki::new()), SqliteFile::new());
        let mut command = program(pki.serve_options(&file.url()));
        command.env_remove("NOTIFY_SOCKET").env("WATCHDOG_USEC", "200000");
        if let Some(address) = &address {
            command.env("NOTIFY_SOCKET", address);
        }
        let mut sidecar = Sidecar::of_process(Process::start(command), pki);
        sidecar.wait_until_ready();
        assert_eq!(admin(sidecar.admin, "/livez").await.status, StatusCode::OK);
        sidecar.process.signal("HUP");
        sidecar.process.wait_for_log("was reloaded");
        assert!(sidecar.process.terminate().success());
        let warned = sidecar.process.log().matches("NOTIFY_SOCKET").count();
        assert_eq!(warned, usize::from(address.is_some()), "{address:?}");
    }
}
