//! The program itself.

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Condvar, LazyLock, Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

use super::{
    PLANTED,
    certs::{Authority, Identity, Leaf},
    client::Client,
};

/// How long anything may take that takes no time; a test that waits longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The program with these arguments, and no environment variable of ours or of OpenTelemetry from
/// outside.
pub fn program<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faroe-sidecar"));
    for (name, _) in std::env::vars_os() {
        let ours = |prefix| name.to_string_lossy().starts_with(prefix);
        if ours("FAROE_SIDECAR_") || ours("OTEL_") {
            command.env_remove(name);
        }
    }
    command.env_remove("KUBERNETES_SERVICE_HOST");
    command.args(arguments.into_iter().map(Into::into));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the program to its end.
pub fn run<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> Output {
    output_of(program(arguments), "", PATIENCE)
}

/// Runs the program so many times at once, all to their ends.
pub fn run_at_once(times: usize, arguments: &[&str]) -> Vec<Output> {
    let children: Vec<Child> = (0..times).map(|_| program(arguments).spawn().unwrap()).collect();
    let outputs: Vec<Output> =
        children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    outputs.into_iter().map(without_secret).collect()
}

/// Runs any command to its end, with something to read; one that does not end fails the test.
pub fn output_of(mut command: Command, input: &str, limit: Duration) -> Output {
    let is_ours = is_ours(&command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let id = child.id();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || {
        // One that ends without reading is judged by what it says.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let _ = sender.send(child.wait_with_output());
    });
    match ended.recv_timeout(limit) {
        Ok(output) => {
            let output = output.unwrap();
            if is_ours { without_secret(output) } else { output }
        }
        Err(_) => {
            let _ = Command::new("kill").args(["-s", "KILL", &id.to_string()]).status();
            panic!("it does not end: {command:?}");
        }
    }
}

/// Whether it is the program, in whatever it is wrapped. A client shows its user what it is told.
fn is_ours(command: &Command) -> bool {
    let ours = env!("CARGO_BIN_EXE_faroe-sidecar");
    std::iter::once(command.get_program()).chain(command.get_args()).any(|part| part == ours)
}

/// What the program has said to its end, which shows nothing that was planted.
pub fn without_secret(output: Output) -> Output {
    assert_no_secret(&String::from_utf8_lossy(&output.stdout));
    assert_no_secret(&String::from_utf8_lossy(&output.stderr));
    output
}

fn assert_no_secret(output: &str) {
    if let Some(line) = output.lines().find(|line| has_secret(line)) {
        panic!("a planted secret in the output: {line}");
    }
}

/// Whether there is something planted in a line, in any of the ways in which bytes are written: as
/// they are, in hexadecimal, as a list of numbers, and in Base64, as hashes and salts travel.
fn has_secret(line: &str) -> bool {
    static FORMS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let planted = PLANTED.as_bytes();
        let hexadecimal = planted.iter().map(|byte| format!("{byte:02x}")).collect();
        let numbers = planted.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        // A character of Base64 has six bits. Those that have bits of other bytes as well are left
        // out: what is planted may begin anywhere within a group of three bytes.
        let base64 = (0..3).map(|before| {
            let encoded = super::base64([&vec![0; before], planted].concat());
            encoded[(before * 8).div_ceil(6)..(before + planted.len()) * 8 / 6].to_owned()
        });
        [PLANTED.to_owned(), hexadecimal, numbers].into_iter().chain(base64).collect()
    });
    FORMS.iter().any(|form| line.contains(form))
}

#[test]
fn what_is_planted_is_found_however_it_is_written() {
    for before in ["", "x", "xy", "xyz"] {
        let secret = format!("{before}{PLANTED} hash");
        let hexadecimal: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        for written in [
            secret.clone(),
            format!("{secret:?}"),
            format!("{:?}", secret.as_bytes()),
            super::base64(&secret),
            hexadecimal,
        ] {
            assert!(has_secret(&format!("{{\"text\":\"{written}\"}}")), "{written}");
        }
    }
    assert!(!has_secret("nothing of the kind was plante"));
}

/// A running program, whose log is read as it comes. It is killed when it is dropped.
pub struct Process {
    child: Child,
    is_ours: bool,
    log: Arc<Log>,
    stdout: Arc<Mutex<String>>,
}

#[derive(Default)]
struct Log {
    text: Mutex<(String, bool)>,
    changed: Condvar,
}

impl Process {
    pub fn start(mut command: Command) -> Self {
        let is_ours = is_ours(&command);
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Log::default());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let writer = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.split(b'\n').map_while(Result::ok) {
                let mut text = writer.text.lock().unwrap_or_else(PoisonError::into_inner);
                text.0.push_str(&String::from_utf8_lossy(&line));
                text.0.push('\n');
                writer.changed.notify_all();
            }
            writer.text.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
            writer.changed.notify_all();
        });
        let stdout = Arc::new(Mutex::new(String::new()));
        let mut reader = child.stdout.take().unwrap();
        let writer = Arc::clone(&stdout);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut buffer) {
                writer
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        });
        Self { child, is_ours, log, stdout }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard error so far.
    pub fn log(&self) -> String {
        self.log.text.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line of the log that has `part` in it.
    pub fn wait_for_log(&self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut text = self.log.text.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(line) = text.0.lines().find(|line| line.contains(part)) {
                return line.to_owned();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!text.1 && !left.is_zero(), "no {part:?} in the log:\n{}", text.0);
            text = self.log.changed.wait_timeout(text, left).unwrap().0;
        }
    }

    /// Waits until the log has so many lines with `part` in them.
    pub fn wait_for_log_lines(&self, part: &str, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        let mut text = self.log.text.lock().unwrap_or_else(PoisonError::into_inner);
        while text.0.lines().filter(|line| line.contains(part)).count() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!text.1 && !left.is_zero(), "not {count} times {part:?}:\n{}", text.0);
            text = self.log.changed.wait_timeout(text, left).unwrap().0;
        }
    }

    /// Waits until standard output has `part` in it, and gives all of it.
    pub fn wait_for_stdout(&self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.stdout();
            if text.contains(part) {
                return text;
            }
            assert!(Instant::now() < deadline, "no {part:?} on standard output:\n{text}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for a whole line of standard output that begins so.
    pub fn wait_for_stdout_line(&mut self, beginning: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.child.try_wait().unwrap();
            let text = self.stdout();
            let mut lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            if let Some(line) = lines.find(|line| line.starts_with(beginning)) {
                return line.to_owned();
            }
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "no line {beginning:?} on standard output:\n{text}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args(["-s", name, &self.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end, and that of its log.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let text = self.log.text.lock().unwrap_or_else(PoisonError::into_inner);
                let left = deadline.saturating_duration_since(Instant::now());
                drop(self.log.changed.wait_timeout_while(text, left, |text| !text.1).unwrap());
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to stop and waits for its end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            // The test has failed, and what the program complained of may say why.
            for line in self
                .log()
                .lines()
                .filter(|line| ["\"WARN\"", "\"ERROR\""].iter().any(|level| line.contains(level)))
            {
                eprintln!("{line}");
            }
        } else {
            let log = self.log();
            assert_no_secret(&log);
            if self.is_ours {
                assert_no_secret(&self.stdout());
            }
            let panic = log.lines().find(|line| line.contains("panicked"));
            assert_eq!(panic, None, "the program must not panic");
        }
    }
}

/// A certificate authority, a server certificate, and a client certificate that may call.
pub struct Pki {
    pub authority: Authority,
    pub server: Identity,
    pub client: Identity,
}

impl Pki {
    pub fn new() -> Self {
        let authority = Authority::new();
        let server = authority.issue("server", Leaf::server());
        let client = authority.issue("client", Leaf::client(&["faroe"]));
        Self { authority, server, client }
    }

    /// The options of `serve` for it, on free ports.
    pub fn serve_options(&self, store: &str) -> Vec<String> {
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--tls-cert",
            &path(&self.server.certificate),
            "--tls-key",
            &path(&self.server.key),
            "--client-ca",
            &path(&self.authority.certificate()),
            "--allow-client",
            "dns:faroe",
            "--log-format",
            "json",
            "--log-level",
            "debug",
            "--store",
            store,
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

/// A running sidecar.
pub struct Sidecar {
    pub process: Process,
    pub pki: Arc<Pki>,
    pub endpoint: SocketAddr,
    pub admin: SocketAddr,
}

impl Sidecar {
    /// `serve` with a store and more options, when it listens.
    pub fn start(store: &str, options: &[&str]) -> Self {
        Self::start_with(Arc::new(Pki::new()), store, options)
    }

    /// The same with certificates that are there.
    pub fn start_with(pki: Arc<Pki>, store: &str, options: &[&str]) -> Self {
        let mut arguments = pki.serve_options(store);
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        Self::of_process(Process::start(program(arguments)), pki)
    }

    /// A process that was started as a sidecar, when it listens.
    pub fn of_process(process: Process, pki: Arc<Pki>) -> Self {
        let line: serde_json::Value =
            serde_json::from_str(&process.wait_for_log("\"listening\"")).unwrap();
        let address = |name: &str| line[name].as_str().unwrap().parse().unwrap();
        Self { endpoint: address("endpoint"), admin: address("admin"), process, pki }
    }

    /// The same, when it is ready.
    pub fn ready(store: &str, options: &[&str]) -> Self {
        let sidecar = Self::start(store, options);
        sidecar.wait_until_ready();
        sidecar
    }

    pub fn wait_until_ready(&self) {
        self.process.wait_for_log("the store is ready");
    }

    /// A client that may call, over HTTP/2.
    pub fn client(&self) -> Client {
        Client::new(self.endpoint, &self.pki, Some(&self.pki.client))
    }
}

/// Files as Kubernetes mounts a Secret: each is a symlink through `..data`, which is itself a symlink
/// that is swapped when the Secret changes.
pub struct Mounted {
    folder: tempfile::TempDir,
    version: u32,
}

impl Mounted {
    /// With copies of these files, by the names that they are to have.
    pub fn new(files: &[(&str, &Path)]) -> Self {
        let mut mounted = Self { folder: tempfile::tempdir().unwrap(), version: 0 };
        mounted.swap(files);
        for (name, _) in files {
            let target = Path::new("..data").join(name);
            std::os::unix::fs::symlink(target, mounted.path(name)).unwrap();
        }
        mounted
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts other content behind the same names, all at once.
    pub fn swap(&mut self, files: &[(&str, &Path)]) {
        self.version += 1;
        let version = format!("..{}", self.version);
        let folder = self.folder.path().join(&version);
        std::fs::create_dir(&folder).unwrap();
        for (name, content) in files {
            std::fs::copy(content, folder.join(name)).unwrap();
        }
        let link = self.folder.path().join("..data_tmp");
        std::os::unix::fs::symlink(&version, &link).unwrap();
        std::fs::rename(&link, self.folder.path().join("..data")).unwrap();
    }
}

/// A folder with an SQLite file in it.
pub struct SqliteFile {
    _folder: tempfile::TempDir,
    pub path: PathBuf,
}

impl SqliteFile {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.sqlite");
        Self { _folder: folder, path }
    }

    pub fn url(&self) -> String {
        format!("sqlite://{}", self.path.display())
    }
}
