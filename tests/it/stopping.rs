//! The end of a sidecar: load balancers notice first, nothing in hand is lost, and nobody waits for
//! ever. `interface`, "`serve`", `--drain-delay`, `--drain-timeout`.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::{io::AsyncReadExt as _, net::TcpListener};

use crate::{
    faults::{Answer, Misbehaving},
    harness::{
        client::{Client, RawHttp1, admin, admin_with},
        database::Kind,
        email_address,
        held_store::{HeldStore, free_read},
        http2::{self, Http2},
        metrics::{Metrics, wait_for_metrics},
        process::{PATIENCE, Pki, Process, Sidecar, SqliteFile, program, run},
        stores::{StoreKind, sqlite_sidecar},
    },
};

fn get_user() -> String {
    json!({ "action": "get_user", "arguments": { "user_id": "nobody" } }).to_string()
}

fn post(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// While the delay lasts everything is served, and every answer sends its caller elsewhere; a
/// connection of HTTP/1.1 without a request is left alone, because a POST may be on its way.
#[tokio::test(flavor = "multi_thread")]
async fn the_listener_goes_on_for_the_delay() {
    let (mut sidecar, _file) = sqlite_sidecar(&["--drain-delay", "4s"]);
    let client = sidecar.client();
    client.post(get_user()).await;
    let mut used = client.raw_http1().await;
    used.write(post(&get_user())).await.unwrap();
    let (head, _) = used.response().await.unwrap();
    assert!(!head.to_ascii_lowercase().contains("connection: close"), "{head}");
    let mut idle = client.http1().connect().await.unwrap();

    let start = Instant::now();
    sidecar.process.signal("TERM");
    sidecar.process.wait_for_log("draining");
    let ready = admin(sidecar.admin, "/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        ready.text().contains("drain: requests are served until the sidecar stops"),
        "{}",
        ready.text()
    );
    assert_eq!(admin(sidecar.admin, "/livez").await.status, StatusCode::OK);

    // A connection from before, and one from now.
    for mut connection in [used, client.raw_http1().await] {
        connection.write(post(&get_user())).await.unwrap();
        let (head, _) = connection.response().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.to_ascii_lowercase().contains("connection: close"), "{head}");
        assert!(connection.response().await.is_err(), "the connection ends after the answer");
    }
    // HTTP/2 gets its answer and GOAWAY; whoever comes again is served again.
    let new = sidecar.client();
    for _ in 0..3 {
        assert_eq!(new.post(get_user()).await.status, StatusCode::OK);
        until_closed(&new).await;
    }
    until_closed(&client).await;
    assert!(start.elapsed() < Duration::from_secs(4), "it took so long that nothing was tested");

    // The idle one ends with the delay, not before.
    assert_eq!(idle.read(&mut [0]).await.unwrap_or(0), 0);
    assert!(start.elapsed() >= Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(sidecar.process.wait().code(), Some(0));
}

/// Until the client's connection of HTTP/2 takes no more requests.
async fn until_closed(client: &Client) {
    let deadline = Instant::now() + PATIENCE;
    while !client.is_closed().await {
        assert!(Instant::now() < deadline, "no GOAWAY");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A sidecar in front of a store that never answers, with a call in hand.
async fn with_a_call_in_hand(options: &[&str]) -> (Sidecar, Misbehaving) {
    let (store, address) = Misbehaving::start(|_| Answer::Hang).await;
    let options = [&["--store-timeout", "60s"], options].concat();
    let sidecar = Sidecar::ready(&format!("grpc://{address}"), &options);
    let client = sidecar.client();
    tokio::spawn(async move { client.try_post(get_user()).await });
    let deadline = Instant::now() + PATIENCE;
    while store.calls() == 0 {
        assert!(Instant::now() < deadline, "the call does not arrive");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (sidecar, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_cuts_at_once() {
    for delay in ["0s", "50s"] {
        let (mut sidecar, _store) =
            with_a_call_in_hand(&["--drain-delay", delay, "--drain-timeout", "60s"]).await;
        sidecar.process.signal("TERM");
        sidecar.process.wait_for_log("draining");
        sidecar.process.signal("INT");
        // The test waits for less than the call, or the delay, would take.
        assert_eq!(sidecar.process.wait().code(), Some(1), "delay {delay}");
        sidecar.process.wait_for_log("were cut off");
    }
}

/// Nor does the database hold the end up, or a caller who has gone; and what may have been changed
/// is in the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_cuts_writes_too() {
    for caller_stays in [true, false] {
        let options = ["--store-timeout", "60s", "--drain-timeout", "60s"];
        let mut running = StoreKind::Bundled(Kind::Postgres).start(&options);
        let client = running.client();
        let user = client.create_user(&email_address()).await;
        let mut lock = PgConnection::connect(&running.database.url).await.unwrap();
        sqlx::raw_sql("BEGIN; LOCK TABLE users").execute(&mut lock).await.unwrap();
        let delete = json!({ "action": "delete_user", "arguments": { "user_id": user["id"] } });
        let call = tokio::spawn(async move { client.try_post(delete.to_string()).await });
        let waits = "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database \
                     WHERE NOT granted AND datname = current_database()";
        let deadline = Instant::now() + PATIENCE;
        while running.database.number(waits).await == 0 {
            assert!(Instant::now() < deadline, "the write does not arrive");
        }
        if !caller_stays {
            call.abort();
        }
        let process = &mut running.sidecar.process;
        process.signal("TERM");
        process.wait_for_log("draining");
        process.signal("TERM");
        assert_eq!(process.wait().code(), Some(1));
        let line = process.wait_for_log("user deleted");
        assert!(line.contains("\"outcome\":\"unknown\""), "{line}");
        assert!(line.contains(user["id"].as_str().unwrap()), "{line}");
    }
}

/// An answer belongs to its request: it is in hand until its reader has taken all of it, however long
/// that takes, as far as `--drain-timeout` goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_its_whole_answer() {
    // Longer than a peer is waited for that has all its answers and stays silent.
    const SLOW: Duration = Duration::from_secs(12);
    // Far more than what the kernels on the way take.
    const SIZE: usize = 3 << 20;
    let store = HeldStore::start().await;
    let options = ["--max-body", "4MiB", "--idle-timeout", "8s", "--drain-timeout", "60s"];
    let mut sidecar = store.sidecar(&options).await;
    let client = sidecar.client();
    let large = json!({ "action": "get_user", "arguments": { "user_id": "x".repeat(SIZE) } });

    // The socket is full.
    let mut http1 = RawHttp1::new(client.http1().connect_narrow().await.unwrap());
    http1.write(post(&large.to_string())).await.unwrap();
    // HTTP/2 has windows as well: one that is closed, and one that takes a part.
    let mut http2 = Vec::new();
    for window in [0, 10] {
        let stream = client.connect().await.unwrap();
        let settings = [(http2::INITIAL_WINDOW_SIZE, window)];
        let mut connection = Http2::start_with(stream, &settings).await;
        connection.send(&http2::post(1, &free_read())).await.unwrap();
        let head = connection.frame_of(http2::HEADERS).await;
        assert!(head.payload.starts_with(http2::STATUS_200), "{head:?}");
        http2.push(connection);
    }
    wait_for_metrics(&sidecar, "all are answered", |metrics| {
        metrics.value("action_duration_seconds_count{action=\"get_user\",outcome=\"ok\"}") == 3.0
    })
    .await;

    // They are sent away before the signal comes, with which the limit becomes another.
    admin_with(Method::POST, sidecar.admin, "/drain", "").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    sidecar.process.signal("TERM");
    sidecar.process.wait_for_log("draining: connections");
    let wait = async |mut connection: Http2| {
        let mut body = String::new();
        loop {
            let frame = connection.frame().await.unwrap();
            match frame.kind {
                http2::GOAWAY => break,
                _ => body.push_str(std::str::from_utf8(&frame.payload).unwrap()),
            }
        }
        tokio::time::sleep(SLOW).await;
        let update = http2::frame(http2::WINDOW_UPDATE, 0, 1, &(1_u32 << 20).to_be_bytes());
        connection.send(&update).await.unwrap();
        body += &connection.answer(1).await.1;
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["values"]["user"]["id"], "free");
    };
    let (zero, some) = (http2.remove(0), http2.remove(0));
    let read = async {
        tokio::time::sleep(SLOW).await;
        let (head, body) = http1.response().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(answer["values"]["user"]["id"].as_str().unwrap().len(), SIZE);
    };
    tokio::join!(wait(zero), wait(some), read);
    assert_eq!(sidecar.process.wait().code(), Some(0));
}

/// Before the signal there is no such limit, so that the time of an idle connection is that of an
/// answer which nobody takes: it would keep its place as long as the sidecar is kept.
#[tokio::test(flavor = "multi_thread")]
async fn who_never_reads_does_not_stay_after_a_request_to_drain() {
    let store = HeldStore::start().await;
    let mut sidecar = store.sidecar(&["--idle-timeout", "6s"]).await;
    let stream = sidecar.client().connect().await.unwrap();
    let settings = [(http2::INITIAL_WINDOW_SIZE, 0)];
    let mut connection = Http2::start_with(stream, &settings).await;
    connection.send(&http2::post(1, &free_read())).await.unwrap();
    let head = connection.frame_of(http2::HEADERS).await;
    assert!(head.payload.starts_with(http2::STATUS_200), "{head:?}");
    let begun = Instant::now();
    assert_eq!(admin_with(Method::POST, sidecar.admin, "/drain", "").await.text(), "draining\n");
    assert_eq!(connection.end().await, Some(http2::NO_ERROR));
    assert!(begun.elapsed() >= Duration::from_secs(5), "{:?}", begun.elapsed());
    wait_for_metrics(&sidecar, "its place is free", |metrics| metrics.connections() == 0.0).await;
    assert_eq!(sidecar.process.terminate().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_limit_counts_from_the_signal() {
    let options = ["--drain-delay", "1s", "--drain-timeout", "2s"];
    let (mut sidecar, _store) = with_a_call_in_hand(&options).await;
    let start = Instant::now();
    assert_eq!(sidecar.process.terminate().code(), Some(1));
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn the_delay_is_part_of_the_time_limit() {
    let pki = Pki::new();
    let mut arguments = pki.serve_options("sqlite://unused.sqlite");
    arguments.extend(["--drain-delay", "25s"].map(str::to_owned));
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("--drain-delay") && text.contains("--drain-timeout"), "{text}");
}

/// `drain` sends callers elsewhere and stops nothing; the delay counts from it.
#[tokio::test(flavor = "multi_thread")]
async fn drain_begins_without_stopping() {
    let (mut sidecar, _file) = sqlite_sidecar(&["--drain-delay", "2s"]);
    let address = sidecar.admin.to_string();
    let ask = |command: &[&str]| {
        let output = run([command, &["--admin-listen", &address]].concat());
        let text = [&*output.stdout, &*output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    assert_eq!(ask(&["health"]), (Some(0), "ok\n".to_owned()));
    assert_eq!(ask(&["health", "--ready"]), (Some(0), "ok\n".to_owned()));

    for _ in 0..2 {
        assert_eq!(ask(&["drain"]), (Some(0), "draining\n".to_owned()));
    }
    let begun = Instant::now();
    assert_eq!(sidecar.process.log().matches("draining by request").count(), 1);
    assert_eq!(ask(&["health"]).0, Some(0));
    let (code, text) = ask(&["health", "--ready"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("drain: requests are served until the sidecar stops"), "{text}");
    while begun.elapsed() < Duration::from_secs(3) {
        let mut connection = sidecar.client().raw_http1().await;
        connection.write(post(&get_user())).await.unwrap();
        let (head, _) = connection.response().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.to_ascii_lowercase().contains("connection: close"), "{head}");
    }
    // The delay is over already.
    sidecar.process.signal("TERM");
    assert_eq!(sidecar.process.wait().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_is_not_there_is_not_healthy() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    for command in [&["health"][..], &["health", "--ready"], &["drain"]] {
        let output = run([command, &["--admin-listen", &free]].concat());
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(&free) && text.lines().count() == 1, "{text}");
    }
}

/// A blip of the store takes nobody out of a Service; ten seconds do.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_goes_away_is_a_reason_not_to_be_ready_after_ten_seconds_only() {
    let users = SqliteFile::new();
    let options = ["store", "--listen", "tcp://127.0.0.1:0", "--log-format", "json", "--store"];
    let mut store = Process::start(program([&options[..], &[&users.url()]].concat()));
    let line: Value = serde_json::from_str(&store.wait_for_log("\"listening\"")).unwrap();
    let url = line["store"].as_str().unwrap().replace("tcp://", "grpc://");
    let sidecar = Sidecar::ready(&url, &[]);
    assert_eq!(admin(sidecar.admin, "/readyz").await.status, StatusCode::OK);

    store.kill();
    let away = Instant::now();
    sidecar.process.wait_for_log("the store is not ready");
    loop {
        let ready = admin(sidecar.admin, "/readyz").await;
        if ready.status == StatusCode::SERVICE_UNAVAILABLE {
            assert!(ready.text().contains("store: no connection"), "{}", ready.text());
            break;
        }
        assert!(away.elapsed() < PATIENCE, "it stays ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // It was last seen up to a second before it went.
    assert!(away.elapsed() >= Duration::from_secs(8), "{:?}", away.elapsed());
    assert_eq!(Metrics::of(&sidecar).await.value("store_available"), 0.0);
}
