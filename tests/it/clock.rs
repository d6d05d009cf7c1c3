//! The clock of the machine jumps, as after a pause of a virtual machine or a correction by hand.
//! What ends by the clock ends with it, and nothing else takes notice.

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc, time::Duration};

use http::StatusCode;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{
    certs::{Authority, Leaf},
    client::admin,
    email_address,
    load::Load,
    process::{Pki, Process, Sidecar, SqliteFile, program},
};

const HOUR: i64 = 60 * 60;

const CALLERS: usize = 4;

/// What a request may take at the most: the timeout of the store, and what a busy machine adds.
const LIMIT: Duration = Duration::from_secs(10);

/// The clock of one sidecar.
struct Clock {
    folder: TempDir,
}

impl Clock {
    fn new() -> Self {
        let clock = Self { folder: tempfile::tempdir().unwrap() };
        clock.set(0);
        clock
    }

    /// So many seconds from the clock of the machine, at once.
    fn set(&self, offset: i64) {
        // Renamed, because it is read at every look at the clock.
        let new = self.folder.path().join("new");
        fs::write(&new, format!("{offset:+}")).unwrap();
        fs::rename(new, self.file()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }

    /// A sidecar that goes by this clock. Only the time of day is another: what measures durations
    /// does not jump on a real machine either.
    fn sidecar(&self, pki: Arc<Pki>, file: &SqliteFile) -> Sidecar {
        let mut command = program(pki.serve_options(&file.url()));
        command
            .env("LD_PRELOAD", library())
            .env("FAKETIME_TIMESTAMP_FILE", self.file())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let sidecar = Sidecar::of_process(Process::start(command), pki);
        sidecar.wait_until_ready();
        sidecar
    }
}

/// Debian keeps it in the folder of the architecture.
fn library() -> PathBuf {
    fs::read_dir("/usr/lib")
        .unwrap()
        .map(|folder| folder.unwrap().path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists())
        .expect("libfaketime is missing: install it with `apt-get install faketime`")
}

/// A client certificate ends by the clock, for connections that are open too, and is valid again
/// when the clock is back. So it is before its beginning.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_out_of_the_validity_of_a_certificate() {
    let (clock, file) = (Clock::new(), SqliteFile::new());
    // An hour each way.
    let sidecar = clock.sidecar(Arc::new(Pki::new()), &file);
    let connected = sidecar.client();
    let user = connected.create_user(&email_address()).await;
    let body = json!({ "action": "get_user", "arguments": { "user_id": user["id"] } }).to_string();
    for (hours, reason) in [(2, "certificate expired"), (-2, "certificate not valid yet")] {
        clock.set(hours * HOUR);
        if let Ok(reply) = connected.try_post(body.clone()).await {
            assert_eq!(reply.status, StatusCode::FORBIDDEN, "{reply:?}");
        }
        // A new session, and one that is resumed.
        for client in [sidecar.client().http1(), connected.http1()] {
            let answer = client.try_post(body.clone()).await;
            assert!(answer.is_err(), "{answer:?}");
        }
        sidecar.process.wait_for_log(reason);
        clock.set(0);
        for client in [sidecar.client().http1(), connected.http1()] {
            assert_eq!(client.get_user(&user).await, user);
        }
    }
}

/// Hours forward and back under load, within the validity of all certificates: no request fails,
/// and none waits for a time that has passed already or is far away.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_under_load() {
    let (clock, file) = (Clock::new(), SqliteFile::new());
    let authority = Authority::new();
    let long = |leaf: Leaf| leaf.valid(-time::Duration::days(30), time::Duration::days(30));
    let server = authority.issue("server", long(Leaf::server()));
    let client = authority.issue("client", long(Leaf::client(&["faroe"])));
    let pki = Arc::new(Pki { authority, server, client });
    let sidecar = clock.sidecar(pki, &file);
    let load = Load::start(&sidecar, CALLERS);
    let reconnecting = sidecar.client().http1();
    let user = reconnecting.create_user(&email_address()).await;
    for hours in [3, -3, 100, 0, -100, 1, 0] {
        clock.set(hours * HOUR);
        load.succeeds().await;
        // With the ticket of a session from another time.
        assert_eq!(reconnecting.get_user(&user).await, user);
    }
    let record = load.stop().await;
    record.check(&sidecar.client(), LIMIT).await;
    let outcomes = record.outcomes();
    assert!(outcomes.keys().eq(["ok"]), "{outcomes:?}");
    assert_eq!(admin(sidecar.admin, "/readyz").await.status, StatusCode::OK);
    // It did jump.
    let days: BTreeSet<_> = sidecar
        .process
        .log()
        .lines()
        .filter_map(|line| Some(line.split_once(r#""timestamp":""#)?.1[..10].to_owned()))
        .collect();
    assert!(days.len() >= 3, "{days:?}");
}
