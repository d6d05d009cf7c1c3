//! `dev`, as somebody meets it who has just installed it, and other people's TLS: curl, OpenSSL, Go
//! and Node.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    certs::{Authority, Leaf},
    client::new_user,
    database::find,
    email_address,
    go::faroetest,
    process::{Process, output_of, program},
};

/// What a start without arguments would take as its folder.
const DEFAULT_FOLDER: &str = ".faroe-sidecar";
const FILES: [&str; 5] = ["ca.pem", "client.key", "client.pem", "server.key", "server.pem"];
const HOUR: time::Duration = time::Duration::HOUR;
const DAY: time::Duration = time::Duration::DAY;
/// Long enough for a compiler.
const LIMIT: Duration = Duration::from_secs(300);

/// `dev` in a folder of its own.
struct Dev {
    process: Process,
    endpoint: SocketAddr,
    /// Where it was started, and its lines are pasted.
    place: PathBuf,
    said: String,
}

impl Dev {
    fn start(place: &Path, options: &[&str]) -> Self {
        let ports = ["dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        // A careless umask changes nothing.
        let mut careless = Command::new("sh");
        let program = program([ports.as_slice(), options].concat());
        careless.args(["-c", "umask 000; exec \"$0\" \"$@\""]);
        careless.arg(program.get_program()).args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => careless.env(name, value),
                None => careless.env_remove(name),
            };
        }
        careless.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        careless.current_dir(place);
        let process = Process::start(careless);
        let line: Value = serde_json::from_str(&process.wait_for_log("\"listening\"")).unwrap();
        let endpoint = line["endpoint"].as_str().unwrap().parse().unwrap();
        process.wait_for_log("the store is ready");
        let said = process.wait_for_stdout("}'; echo\n");
        Self { process, endpoint, place: place.to_owned(), said }
    }

    /// The lines that are meant to be pasted.
    fn lines(&self) -> [&str; 2] {
        let lines: Vec<_> = self
            .said
            .lines()
            .filter(|line| line.starts_with("answer=$(curl ") || line.starts_with("curl "))
            .collect();
        lines.try_into().unwrap_or_else(|_| panic!("not two lines to paste:\n{}", self.said))
    }

    /// Pastes both lines into a shell: the user that was created and the one that was found.
    fn paste(&self) -> (Value, Value) {
        let [create, find] = self.lines();
        let output = self.shell(&format!("{create}\n{find}"));
        let user = |text: &[u8]| {
            let answer: Value = serde_json::from_slice(text)
                .unwrap_or_else(|_| panic!("no JSON: {}", shown(&output)));
            assert_eq!(answer["ok"], true, "{answer}");
            answer["values"]["user"].clone()
        };
        let said = String::from_utf8_lossy(&output.stdout);
        let (created, found) = said.split_once('\n').unwrap();
        (user(created.as_bytes()), user(found.as_bytes()))
    }

    fn shell(&self, script: &str) -> Output {
        find("curl", "curl");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).current_dir(&self.place);
        let output = output_of(shell, "", LIMIT);
        assert!(output.status.success(), "{}", shown(&output));
        output
    }

    fn file(&self, name: &str) -> PathBuf {
        self.place.join(DEFAULT_FOLDER).join(name)
    }

    fn url(&self, host: &str) -> String {
        format!("https://{host}:{}/", self.endpoint.port())
    }
}

fn shown(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn create_user() -> String {
    json!({ "action": "create_user", "arguments": new_user(&email_address()) }).to_string()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn material(folder: &Path) -> Vec<Vec<u8>> {
    FILES.iter().map(|name| fs::read(folder.join(name)).unwrap()).collect()
}

#[test]
fn the_lines_that_dev_prints_work_and_so_they_do_after_the_next_start() {
    let place = TempDir::new().unwrap();
    let mut dev = Dev::start(place.path(), &[]);
    assert!(dev.said.starts_with("New certificates in .faroe-sidecar"), "{}", dev.said);
    let (created, found) = dev.paste();
    assert_eq!(created, found);
    let first_id = created["id"].as_str().unwrap().to_owned();
    let address = created["email_address"].as_str().unwrap().to_owned();
    let folder = place.path().join(DEFAULT_FOLDER);
    let before = material(&folder);
    assert!(!dev.process.log().contains(&address), "{}", dev.process.log());
    assert!(dev.process.terminate().success());

    let dev = Dev::start(place.path(), &[]);
    assert!(dev.said.starts_with("Kept certificates in .faroe-sidecar"), "{}", dev.said);
    assert_eq!(material(&folder), before);
    let (created, found) = dev.paste();
    assert_eq!(created, found);
    assert_ne!(created["id"], json!(first_id));
    // The user of the first start is there still.
    let [_, look_up] = dev.lines();
    let output = dev.shell(&format!("id={first_id}\n{look_up}"));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["values"]["user"]["email_address"], json!(address));
}

#[test]
fn the_lines_work_with_any_folder() {
    let place = TempDir::new().unwrap();
    let folder = place.path().join("it's a new/folder; $(false)");
    let dev = Dev::start(place.path(), &["--dir", folder.to_str().unwrap()]);
    let (created, found) = dev.paste();
    assert_eq!(created, found);
    assert!(folder.join("users.sqlite").exists());
    assert!(!place.path().join(DEFAULT_FOLDER).exists());
}

#[test]
fn the_folder_is_its_owners_alone_and_has_no_key_that_could_sign() {
    let place = TempDir::new().unwrap();
    let dev = Dev::start(place.path(), &[]);
    dev.paste();
    let folder = place.path().join(DEFAULT_FOLDER);
    assert_eq!(mode(&folder), 0o700);
    let mut names = Vec::new();
    for file in fs::read_dir(&folder).unwrap() {
        let file = file.unwrap();
        assert_eq!(mode(&file.path()), 0o600, "{:?}", file.path());
        names.push(file.file_name().into_string().unwrap());
    }
    names.retain(|name| !name.starts_with("users.sqlite"));
    names.sort();
    assert_eq!(names, FILES, "no ca.key, and nothing left over");
}

#[test]
fn certificates_near_their_end_are_renewed_and_others_are_kept() {
    for (left, said) in [(29 * DAY, "New"), (31 * DAY, "Kept")] {
        let place = TempDir::new().unwrap();
        let folder = place.path().join(DEFAULT_FOLDER);
        fs::create_dir(&folder).unwrap();
        let authority = Authority::new();
        authority.issue("server", Leaf::server().valid(-HOUR, left));
        authority.issue("client", Leaf::client(&["faroe"]).valid(-HOUR, left));
        for name in FILES {
            fs::copy(authority.folder().join(name), folder.join(name)).unwrap();
        }
        let before = material(&folder);
        let dev = Dev::start(place.path(), &[]);
        assert!(dev.said.starts_with(&format!("{said} certificates")), "{left}: {}", dev.said);
        assert_eq!(material(&folder) == before, said == "Kept", "{left}");
        let (created, found) = dev.paste();
        assert_eq!(created, found, "{left}");
    }
}

#[test]
fn openssl_accepts_the_certificates() {
    let place = TempDir::new().unwrap();
    let dev = Dev::start(place.path(), &[]);
    let body = create_user();
    let request = format!(
        "POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let openssl = |check: [&str; 2]| {
        let mut openssl = Command::new(find("openssl", "openssl"));
        openssl.args(["s_client", "-verify_return_error", "-quiet", "-ign_eof"]);
        openssl.args(["-connect", &dev.endpoint.to_string()]).args(check);
        for (flag, file) in [("-CAfile", "ca.pem"), ("-cert", "client.pem"), ("-key", "client.key")]
        {
            openssl.arg(flag).arg(dev.file(file));
        }
        output_of(openssl, &request, LIMIT)
    };
    let output = openssl(["-verify_hostname", "localhost"]);
    assert!(output.status.success(), "{}", shown(&output));
    assert!(output.stdout.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", shown(&output));
    // The checks are made: another name fails.
    for (check, accepted) in [
        (["-verify_ip", "127.0.0.1"], true),
        (["-verify_ip", "::1"], true),
        (["-verify_hostname", "other.example"], false),
        (["-verify_ip", "127.0.0.2"], false),
    ] {
        let output = openssl(check);
        assert_eq!(output.status.success(), accepted, "{check:?}: {}", shown(&output));
    }
}

#[test]
fn curl_accepts_the_certificates_by_name_and_by_address() {
    let place = TempDir::new().unwrap();
    let dev = Dev::start(place.path(), &[]);
    for (host, version, spoken) in
        [("localhost", "--http2", "2 200"), ("127.0.0.1", "--http1.1", "1.1 200")]
    {
        let mut curl = Command::new(find("curl", "curl"));
        curl.args(["-sS", "--data-binary", "@-", "-o", "/dev/null", "-w"]);
        curl.args(["%{http_version} %{http_code}", version]);
        for (flag, file) in
            [("--cacert", "ca.pem"), ("--cert", "client.pem"), ("--key", "client.key")]
        {
            curl.arg(flag).arg(dev.file(file));
        }
        curl.arg(dev.url(host));
        let output = output_of(curl, &create_user(), LIMIT);
        assert!(output.status.success(), "{host}: {}", shown(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout), spoken, "{host}");
    }
}

/// A program that calls `dev`, with something to read.
fn call(mut command: Command, last: &[&str], input: &str) -> String {
    let place = TempDir::new().unwrap();
    let dev = Dev::start(place.path(), &[]);
    command.arg(dev.url("localhost"));
    command.args(["ca.pem", "client.pem", "client.key"].map(|name| dev.file(name))).args(last);
    let output = output_of(command, input, LIMIT);
    assert!(output.status.success(), "{}", shown(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The very client that a Faroe server has, with the lines of the README.
#[test]
fn the_client_of_a_faroe_server_is_answered_as_it_expects() {
    let said = call(faroetest("actions"), &[&email_address()], "");
    assert_eq!(said, "spoken: HTTP/2.0\nevery action was answered as a Faroe server expects\n");
}

#[test]
fn the_lines_of_go_in_the_readme_are_those_that_are_tested() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let tested = fs::read_to_string(root.join("tests/faroe/userserver.go")).unwrap();
    let (_, after_imports) = tested.split_once(")\n\n").unwrap();
    assert!(readme.contains(&format!("```go\n{after_imports}```")), "they differ");
}

#[test]
fn node_accepts_the_certificates() {
    let mut node = Command::new(find("node", "nodejs"));
    node.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node/caller.mjs"));
    let said = call(node, &[], &create_user());
    let (line, body) = said.split_once('\n').unwrap();
    assert_eq!(line, "HTTP/1.1 200");
    let answer: Value = serde_json::from_str(body).unwrap();
    assert_eq!(answer["ok"], true, "{answer}");
}
