//! The SQLite file and its disk: full, read-only, removed, replaced, overwritten. What callers see,
//! what the log says, and that nothing that was acknowledged is lost.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;
use serde_json::json;
use sqlx::{Connection as _, Executor as _, SqliteConnection};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::harness::{
    client::{admin, new_user},
    disk::Disk,
    email_address,
    load::{Load, Outcome},
    process::{PATIENCE, Pki, Process, Sidecar, SqliteFile, output_of, program, run},
    stores::sqlite_sidecar,
};

const CALLERS: usize = 4;

/// What a request may take at the most: the timeout of the store, and what a busy machine adds.
const LIMIT: Duration = Duration::from_secs(10);

/// A sidecar on a file of this disk.
fn sidecar_on(disk: &Disk, pki: &Arc<Pki>) -> Sidecar {
    let url = format!("sqlite://{}", disk.inside("users.sqlite").display());
    let program = program(pki.serve_options(&url));
    let sidecar = Sidecar::of_process(Process::start(disk.command(&program)), Arc::clone(pki));
    sidecar.wait_until_ready();
    sidecar
}

/// Writes fail and reads go on until there is room again; the sidecar needs no restart for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full() {
    let disk = Disk::new("2m");
    let sidecar = sidecar_on(&disk, &Arc::new(Pki::new()));
    let load = Load::start(&sidecar, CALLERS);
    load.succeeds().await;

    disk.fill();
    load.fails(50).await;
    load.reads(50).await;
    let line = sidecar.process.wait_for_log("SQLite 13");
    assert!(line.contains("database or disk is full"), "{line}");

    disk.make_room();
    load.succeeds().await;
    let record = load.stop().await;
    record.check(&sidecar.client(), LIMIT).await;
    for attempt in &record.attempts {
        match &attempt.outcome {
            Outcome::Ok => {}
            Outcome::Error(code) if !attempt.is_read() => assert_eq!(code, "internal_error"),
            _ => panic!("{attempt:?}"),
        }
    }
}

/// A crash while the disk is full: what was acknowledged is there, before there is room and after.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_on_a_disk_that_is_full() {
    let disk = Disk::new("2m");
    let pki = Arc::new(Pki::new());
    let mut sidecar = sidecar_on(&disk, &pki);
    let load = Load::start(&sidecar, CALLERS);
    load.succeeds().await;
    disk.fill();
    load.fails(50).await;
    sidecar.process.kill();
    let record = load.stop().await;

    let sidecar = sidecar_on(&disk, &pki);
    record.check_users(&sidecar.client()).await;
    disk.make_room();
    let load = Load::start(&sidecar, CALLERS);
    load.succeeds().await;
    load.stop().await.check(&sidecar.client(), LIMIT).await;
    record.check_users(&sidecar.client()).await;
}

/// The path does not lead to the file for a while, in which SQLite would go on without a word: no
/// call is made, nothing is acknowledged, and with the file back everything is as it was.
async fn a_file_that_is_away(removed: impl FnOnce(&Path), reason: &str) {
    let file = SqliteFile::new();
    let sidecar = Sidecar::ready(&file.url(), &[]);
    let load = Load::start(&sidecar, CALLERS);
    load.succeeds().await;
    let aside = file.path.with_extension("aside");
    fs::rename(&file.path, &aside).unwrap();
    removed(&file.path);
    let away = Instant::now();
    load.fails(50).await;
    sidecar.process.wait_for_log("the store could not be reached");
    sidecar.process.wait_for_log(reason);
    // And so is whoever looks at its readiness.
    let line = sidecar.process.wait_for_log("the store is not ready");
    assert!(line.contains("SQLite file"), "{line}");
    let back = Instant::now();
    fs::rename(&aside, &file.path).unwrap();
    load.succeeds().await;
    let record = load.stop().await;
    record.check(&sidecar.client(), LIMIT).await;
    let meanwhile = record.outcomes_of(|attempt| away <= attempt.start && attempt.end() < back);
    assert!(meanwhile.keys().eq(["503"]), "{meanwhile:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_removed() {
    a_file_that_is_away(|_| {}, "is gone: put it back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_replaced_by_what_is_no_database() {
    let garbage = |path: &Path| fs::write(path, [b'?'; 65_536]).unwrap();
    a_file_that_is_away(garbage, "is not the SQLite file that was opened").await;
}

/// Another database, in which the users are not: nobody is told that they do not exist.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_replaced_by_another_database() {
    let other = SqliteFile::new();
    assert_eq!(Sidecar::ready(&other.url(), &[]).process.terminate().code(), Some(0));
    let replace = |path: &Path| fs::rename(&other.path, path).unwrap();
    a_file_that_is_away(replace, "is not the SQLite file that was opened").await;
}

/// The file goes away between the question and the answer: the write that went with it is not
/// acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_removed_during_a_write() {
    let (sidecar, file) = sqlite_sidecar(&[]);
    let aside = file.path.with_extension("aside");
    let mut blocker = SqliteConnection::connect(&file.url()).await.unwrap();
    for attempt in 1.. {
        blocker.execute("BEGIN IMMEDIATE").await.unwrap();
        let client = sidecar.client();
        let body = json!({ "action": "create_user", "arguments": new_user(&email_address()) });
        let write = tokio::spawn(async move { client.post(body.to_string()).await });
        // Nothing says that the write has come as far as the lock: if it has not, once more.
        tokio::time::sleep(Duration::from_millis(100)).await;
        fs::rename(&file.path, &aside).unwrap();
        blocker.execute("ROLLBACK").await.unwrap();
        let reply = write.await.unwrap();
        fs::rename(&aside, &file.path).unwrap();
        if reply.status == StatusCode::OK {
            assert_eq!(reply.json()["error_code"], "internal_error", "{reply:?}");
            break;
        }
        assert!(attempt < 100, "no write was under way: {reply:?}");
    }
    let line = sidecar.process.wait_for_log(r#""outcome":"internal_error""#);
    assert!(line.contains("is gone: put it back"), "{line}");
}

/// Somebody else's lock on it is waited for at the start, and that holds up neither probes nor the
/// end.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_locked_at_the_start() {
    let file = SqliteFile::new();
    assert!(run(["migrate", "up", "--store", &file.url()]).status.success());
    let mut blocker = SqliteConnection::connect(&file.url()).await.unwrap();
    for ends in [true, false] {
        blocker.execute("BEGIN IMMEDIATE").await.unwrap();
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let pki = Arc::new(Pki::new());
        let mut arguments = pki.serve_options(&file.url());
        let at = arguments.iter().position(|argument| argument == "--admin-listen").unwrap();
        arguments[at + 1] = free.to_string();
        let mut process = Process::start(program(arguments));
        let probe = async |path: &str| {
            let deadline = Instant::now() + PATIENCE;
            while TcpStream::connect(free).await.is_err() {
                assert!(Instant::now() < deadline, "nobody listens");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            timeout(PATIENCE, admin(free, path)).await.expect("it answers")
        };
        assert_eq!(probe("/livez").await.status, StatusCode::OK);
        let ready = probe("/readyz").await;
        assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
        for missing in ["store: ", "listener: "] {
            assert!(ready.text().contains(missing), "{}", ready.text());
        }
        if ends {
            // It would wait for two minutes.
            assert_eq!(process.terminate().code(), Some(0), "{}", process.log());
            blocker.execute("ROLLBACK").await.unwrap();
        } else {
            blocker.execute("ROLLBACK").await.unwrap();
            let sidecar = Sidecar::of_process(process, pki);
            sidecar.wait_until_ready();
            sidecar.client().create_user(&email_address()).await;
        }
    }
}

/// Garbage written into the file itself: who asks for what was there is told of an error, and
/// not that there is no such user.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_overwritten() {
    let file = SqliteFile::new();
    let pki = Arc::new(Pki::new());
    let mut sidecar = Sidecar::start_with(Arc::clone(&pki), &file.url(), &[]);
    sidecar.wait_until_ready();
    let client = sidecar.client();
    let mut users = Vec::new();
    for _ in 0..200 {
        users.push(client.create_user(&email_address()).await);
    }
    // At its end everything goes from the log of SQLite into the file.
    assert_eq!(sidecar.process.terminate().code(), Some(0));
    let sidecar = Sidecar::start_with(pki, &file.url(), &[]);
    sidecar.wait_until_ready();
    fs::write(&file.path, [b'?'; 1 << 20]).unwrap();

    let client = sidecar.client();
    for user in &users {
        let counter = &user["sessions_counter"];
        let by_email_address = json!({ "email_address": user["email_address"] });
        for (action, arguments) in [
            ("get_user", json!({ "user_id": user["id"] })),
            ("get_user_by_email_address", by_email_address),
            (
                "increment_user_sessions_counter",
                json!({ "user_id": user["id"], "user_sessions_counter": counter }),
            ),
            ("delete_user", json!({ "user_id": user["id"] })),
        ] {
            let body = json!({ "action": action, "arguments": arguments }).to_string();
            let reply = client.post(body).await;
            match reply.status {
                StatusCode::OK => assert_eq!(reply.json()["error_code"], "internal_error"),
                // A new connection finds out before it asks.
                status => assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE),
            }
        }
    }
    let log = sidecar.process.log();
    assert!(log.contains("SQLite 11: ") || log.contains("SQLite 26: "), "it says why");
}

/// The program where the modes of files bind it, as they do not bind root.
fn bound_by_modes(program: &Command) -> Command {
    let mut command = Command::new("setpriv");
    if output_of(Command::new("id"), "", PATIENCE).stdout.starts_with(b"uid=0(") {
        command.args(["--bounding-set", "-all", "--inh-caps", "-all"]);
    }
    command
        .arg(program.get_program())
        .args(program.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Users that cannot be changed are no users of a sidecar: it does not start.
#[test]
fn a_file_that_is_read_only_stops_the_start() {
    let file = SqliteFile::new();
    fs::write(&file.path, "").unwrap();
    set_mode(&file.path, 0o400);
    let pki = Pki::new();
    let program = program(pki.serve_options(&file.url()));
    let output = output_of(bound_by_modes(&program), "", PATIENCE);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("SQLite file") && error.contains("Permission denied"), "{error}");
}

/// The same of a disk that is read-only.
#[test]
fn a_disk_that_is_read_only_stops_the_start() {
    let disk = Disk::new("2m");
    disk.make_read_only();
    let url = format!("sqlite://{}", disk.inside("users.sqlite").display());
    let pki = Pki::new();
    let program = program(pki.serve_options(&url));
    let output = output_of(disk.command(&program), "", PATIENCE);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("SQLite file") && error.contains("Read-only"), "{error}");
}

/// A file that becomes read-only is one for whoever opens it then: those who have it open go on,
/// and what they acknowledge is in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_becomes_read_only() {
    let file = SqliteFile::new();
    let folder = file.path.parent().unwrap();
    let pki = Arc::new(Pki::new());
    let program = program(pki.serve_options(&file.url()));
    let process = Process::start(bound_by_modes(&program));
    let mut sidecar = Sidecar::of_process(process, Arc::clone(&pki));
    sidecar.wait_until_ready();
    let load = Load::start(&sidecar, CALLERS);
    load.succeeds().await;
    set_mode(&file.path, 0o400);
    set_mode(folder, 0o500);
    load.succeeds().await;
    let record = load.stop().await;
    sidecar.process.kill();

    set_mode(folder, 0o700);
    set_mode(&file.path, 0o600);
    let sidecar = Sidecar::start_with(pki, &file.url(), &[]);
    sidecar.wait_until_ready();
    record.check(&sidecar.client(), LIMIT).await;
    let outcomes = record.outcomes();
    assert!(outcomes.keys().eq(["ok"]), "{outcomes:?}");
}

/// Whoever could not write to it when it was first needed can when it may be written to again.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_read_only_for_a_while() {
    let file = SqliteFile::new();
    let pki = Arc::new(Pki::new());
    let program = program(pki.serve_options(&file.url()));
    let process = Process::start(bound_by_modes(&program));
    let sidecar = Sidecar::of_process(process, pki);
    sidecar.wait_until_ready();
    let client = sidecar.client();
    let (action, arguments) = ("create_user", new_user(&email_address()));
    let body = json!({ "action": action, "arguments": arguments }).to_string();
    set_mode(&file.path, 0o400);
    assert_eq!(client.post(body.clone()).await.status, StatusCode::SERVICE_UNAVAILABLE);
    sidecar.process.wait_for_log("the SQLite file cannot be written to");
    set_mode(&file.path, 0o600);
    assert_eq!(client.post(body).await.json()["ok"], true);
}
