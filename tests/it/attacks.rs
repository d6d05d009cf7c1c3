//! Peers that mean harm, and peers that are lost: floods, resets, bombs, readers that never read,
//! hosts that vanish without a word. While it goes on, someone else is answered; memory stays within bounds; and afterwards everything is as before.
//!
//! A peer that speaks HTTP has shown a certificate already: what is attacked here is what one
//! caller may do to the others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::StatusCode;
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, task::JoinHandle, time::timeout};

use crate::{
    harness::{
        client::new_user,
        email_address,
        held_store::{HeldStore, free_read, free_write, held_read, held_write, large_answer_read},
        http2::{self, Http2},
        metrics::{Metrics, wait_for_metrics},
        network::Line,
        process::{PATIENCE, Process, Sidecar, SqliteFile, program},
    },
    limits::{client_hello, post, wait_for_end, wait_until_quiet},
};

/// How much more memory a sidecar may have taken after an attack, in bytes. What is attacked in
/// vain costs nothing that stays; the allocator may.
const MEMORY: f64 = (64 << 20) as f64;

/// A sidecar under attack.
struct Attacked {
    sidecar: Sidecar,
    before: Metrics,
    bystander: Bystander,
}

impl Attacked {
    async fn start(store: &HeldStore, options: &[&str]) -> Self {
        let sidecar = store.sidecar(options).await;
        let bystander = Bystander::start(&sidecar).await;
        Self { before: Metrics::of(&sidecar).await, bystander, sidecar }
    }

    async fn http2(&self) -> Http2 {
        Http2::start(self.sidecar.client().connect().await.unwrap()).await
    }

    /// Waits until the sidecar has given everybody up but someone else.
    async fn wait_until_alone(&self) {
        wait_for_metrics(&self.sidecar, "only someone else is left", |metrics| {
            metrics.connections() == 1.0
        })
        .await;
    }

    /// The attack is over: nothing is left of it.
    async fn assert_unharmed(self) -> Metrics {
        self.bystander.assert_answered().await;
        let after = wait_until_quiet(&self.sidecar).await;
        let grown = after.resident_memory() - self.before.resident_memory();
        assert!(grown < MEMORY, "resident memory has grown by {grown} bytes");
        assert_eq!(self.sidecar.client().post(free_read()).await.status, StatusCode::OK);
        after
    }
}

/// Someone else, on a connection of their own, who expects an answer to every request.
struct Bystander {
    task: JoinHandle<usize>,
    goes: Arc<AtomicBool>,
}

impl Bystander {
    async fn start(sidecar: &Sidecar) -> Self {
        let client = sidecar.client();
        assert_eq!(client.post(free_read()).await.status, StatusCode::OK);
        let goes = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn({
            let goes = Arc::clone(&goes);
            async move {
                let mut answered = 0;
                while !goes.load(Ordering::Relaxed) {
                    let reply = timeout(PATIENCE, client.post_until_sent(free_read())).await;
                    assert_eq!(reply.expect("no answer").status, StatusCode::OK);
                    answered += 1;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                answered
            }
        });
        Self { task, goes }
    }

    async fn assert_answered(self) {
        self.goes.store(true, Ordering::Relaxed);
        assert!(self.task.await.unwrap() > 0);
    }
}

/// What a caller is told that sends more than a well-behaved one would.
async fn assert_cut_off(connection: &mut Http2) {
    assert_eq!(connection.end().await, Some(http2::ENHANCE_YOUR_CALM));
}

const FLOOD: (&str, &str) = ("connections", "http2_flood");

/// Requests that are reset in the same breath: soon the connection ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_rapid_reset_is_cut_off() {
    let store = HeldStore::start().await;
    let attacked = Attacked::start(&store, &[]).await;
    for request in [free_read(), free_write()] {
        let mut connection = attacked.http2().await;
        let mut stream = 1;
        // Not all at once: the server may end it while this is still being written.
        for _ in 0..50 {
            let burst: Vec<u8> = (0..100)
                .flat_map(|_| {
                    let id = stream;
                    stream += 2;
                    [http2::post(id, &request), http2::cancel(id)].concat()
                })
                .collect();
            if connection.send(&burst).await.is_err() {
                break;
            }
        }
        assert_cut_off(&mut connection).await;
    }
    attacked.assert_unharmed().await.assert_rejected(&[(FLOOD, 2.0)]);
}

/// The same words from the other side are its own reason to go, and no attack.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_complains_of_a_flood_is_none() {
    let store = HeldStore::start().await;
    let attacked = Attacked::start(&store, &[]).await;
    let mut connection = attacked.http2().await;
    connection.send(&http2::post(1, &free_read())).await.unwrap();
    connection.answer(1).await;
    let said = [&[0; 4], &http2::ENHANCE_YOUR_CALM.to_be_bytes()[..]].concat();
    connection.send(&http2::frame(http2::GOAWAY, 0, 0, &said)).await.unwrap();
    connection.end().await;
    attacked.wait_until_alone().await;
    // By an error, as the other side said.
    attacked.sidecar.process.wait_for_log("connection ended");
    attacked.assert_unharmed().await.assert_rejected(&[]);
}

/// Strangers cost the log a line now and then; each of them is counted.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_fill_the_log() {
    const STRANGERS: u32 = 300;
    let store = HeldStore::start().await;
    let sidecar = store.sidecar(&[]).await;
    let begun = Instant::now();
    for _ in 0..STRANGERS {
        let mut tcp = TcpStream::connect(sidecar.endpoint).await.unwrap();
        tcp.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        wait_for_end(&mut tcp).await;
    }
    wait_for_metrics(&sidecar, "all are counted", |metrics| {
        metrics.value("tls_handshakes_total{result=\"failed\"}") == f64::from(STRANGERS)
    })
    .await;
    sidecar.process.wait_for_log_lines("TLS handshake failed", STRANGERS as usize);
    let log = sidecar.process.log();
    let lines = |level| {
        log.lines()
            .filter(|line| line.contains("TLS handshake failed") && line.contains(level))
            .count()
    };
    let most = begun.elapsed().as_secs() / 10 + 1;
    assert!((1..=most).contains(&(lines("\"INFO\"") as u64)), "{} lines", lines("\"INFO\""));
    assert_eq!(lines("\"INFO\"") + lines("\"DEBUG\""), STRANGERS as usize);
}

/// One who waits until each request is being worked on resets nothing too early, and is not cut
/// off; but what the store sees of it stays within `--max-in-flight`. A write that was handed to
/// the store has its slot until the store has answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_patient_reset_stays_within_max_in_flight() {
    const MAX_IN_FLIGHT: usize = 8;
    let store = HeldStore::start().await;
    let sidecar = store.sidecar(&["--max-in-flight", "8"]).await;
    let client = sidecar.client();
    let mut connection = Http2::start(client.connect().await.unwrap()).await;
    let mut streams = (1..).step_by(2);
    let mut reset_one = async |request: &str| {
        let stream = streams.next().unwrap();
        connection.send(&http2::post(stream, request)).await.unwrap();
        // The server answers a PING after what came before it.
        connection.send(&http2::frame(http2::PING, 0, 0, &[0; 8])).await.unwrap();
        while connection.frame_of(http2::PING).await.flags & http2::ACK == 0 {}
        connection.send(&http2::cancel(stream)).await.unwrap();
    };
    for _ in 0..500 {
        reset_one(&held_read()).await;
    }
    store.wait_for_calls_in_hand(0).await;
    // The store learns of a reset a moment later than the sidecar.
    let most = store.calls().most;
    assert!(store.calls().total > 100, "the attack has come to nothing: {:?}", store.calls());
    assert!(most <= 2 * MAX_IN_FLIGHT, "{most} reads of the store at once");

    for _ in 0..500 {
        reset_one(&held_write()).await;
    }
    store.wait_for_calls_in_hand(MAX_IN_FLIGHT).await;
    let reply = client.post(free_read()).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "all slots are taken");
    store.release();
    drop(connection);
    drop(client);
    wait_until_quiet(&sidecar).await;
    assert_eq!(store.calls().in_hand, 0);
    assert_eq!(sidecar.client().post(free_read()).await.status, StatusCode::OK);
}

/// Header blocks that never end, and one that unpacks to far more than it is.
#[tokio::test(flavor = "multi_thread")]
async fn endless_headers_and_bombs_are_cut_off() {
    let store = HeldStore::start().await;
    let attacked = Attacked::start(&store, &[]).await;

    // Empty ones, and ones with a header in each.
    for block in [vec![], http2::header("x", "y"), http2::header("x", &"y".repeat(1 << 10))] {
        let mut connection = attacked.http2().await;
        let headers = http2::frame(http2::HEADERS, 0, 1, &http2::post_headers());
        connection.send(&headers).await.unwrap();
        for _ in 0..20 {
            let more = http2::frame(http2::CONTINUATION, 0, 1, &block).repeat(100);
            if connection.send(&more).await.is_err() {
                break;
            }
        }
        assert_cut_off(&mut connection).await;
    }

    // A long header in the dynamic table, and then its index, thousands of times: 16 KiB on the
    // wire that stand for 64 MiB.
    let mut connection = attacked.http2().await;
    let mut block = http2::post_headers();
    block.extend([vec![0x40], http2::string("x"), http2::string(&"y".repeat(4000))].concat());
    block.resize((16 << 10) - 1, 0x80 | 62);
    for stream in [1, 3, 5] {
        let bomb = http2::frame(http2::HEADERS, http2::END_HEADERS, stream, &block);
        if connection.send(&bomb).await.is_err() {
            break;
        }
    }
    assert_cut_off(&mut connection).await;
    attacked.assert_unharmed().await.assert_rejected(&[(FLOOD, 4.0)]);
}

/// Bursts of reads that are reset while they are being worked on: many resets at once on the
/// connection to the store, which all callers share.
#[tokio::test(flavor = "multi_thread")]
async fn resets_do_not_harm_the_calls_of_others() {
    const BURST: usize = 100;
    let store = HeldStore::start().await;
    let attacked = Attacked::start(&store, &[]).await;
    let mut connection = attacked.http2().await;
    let mut streams = (1..).step_by(2);
    for _ in 0..20 {
        let before = store.calls().total;
        let burst: Vec<u32> = streams.by_ref().take(BURST).collect();
        let requests: Vec<u8> =
            burst.iter().flat_map(|id| http2::post(*id, &held_read())).collect();
        let resets: Vec<u8> = burst.iter().flat_map(|id| http2::cancel(*id)).collect();
        let sent = async {
            connection.send(&requests).await?;
            // Most of them, beside those of someone else: the rest is reset on its way.
            let most = store.wait_for_calls(|calls| calls.total >= before + BURST * 3 / 4);
            let _ = timeout(Duration::from_secs(1), most).await;
            connection.send(&resets).await
        };
        if sent.await.is_err() {
            // Some came too early, and it was cut off.
            connection = attacked.http2().await;
            streams = (1..).step_by(2);
        }
    }
    drop(connection);
    store.wait_for_calls_in_hand(0).await;
    assert!(store.calls().total > 1000, "the attack has come to nothing: {:?}", store.calls());
    let after = attacked.assert_unharmed().await;
    let known = if after.rejected(FLOOD) > 0.0 { 1 } else { 0 };
    assert_eq!(after.rejections().len(), known, "{:?}", after.rejections());
}

/// Frames that ask for nothing but an answer of the protocol, or not even that.
#[tokio::test(flavor = "multi_thread")]
async fn floods_of_control_frames_keep_nobody_waiting() {
    let store = HeldStore::start().await;
    let attacked = Attacked::start(&store, &["--idle-timeout", "2s"]).await;
    let frames = [
        http2::frame(http2::PING, 0, 0, &[0; 8]),
        http2::frame(http2::PING, http2::ACK, 0, &[0; 8]),
        http2::frame(http2::SETTINGS, 0, 0, &[]),
        http2::frame(http2::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
        http2::frame(http2::PRIORITY, 0, 1, &[0, 0, 0, 3, 0]),
    ];
    let mut floods = tokio::task::JoinSet::new();
    for frame in frames {
        for reads in [true, false] {
            let stream = attacked.sidecar.client().connect().await.unwrap();
            let frames = frame.repeat(1000);
            floods.spawn(async move {
                let (mut reader, mut writer) = tokio::io::split(stream);
                let write = async {
                    writer.write_all(http2::PREFACE).await?;
                    writer.write_all(&http2::frame(http2::SETTINGS, 0, 0, &[])).await?;
                    for _ in 0..100 {
                        writer.write_all(&frames).await?;
                    }
                    writer.flush().await
                };
                let read = async {
                    if reads {
                        let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
                    }
                    std::future::pending::<()>().await;
                };
                // It may be over before everything is written.
                tokio::select! {
                    _ = write => {}
                    () = read => {}
                }
                (reader, writer)
            });
        }
    }
    // They hold on, and are ended as idle all the same, even those who never read.
    let flooded = timeout(PATIENCE, floods.join_all()).await.expect("the server takes nothing");
    assert_eq!(flooded.len(), 10);
    attacked.wait_until_alone().await;
    drop(flooded);
    let after = attacked.assert_unharmed().await;
    after.assert_rejected(&[(("connections", "idle_timeout"), 10.0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_empty_frames_is_cut_off() {
    let store = HeldStore::start().await;
    let attacked = Attacked::start(&store, &[]).await;
    let mut connection = attacked.http2().await;
    let headers = http2::frame(http2::HEADERS, http2::END_HEADERS, 1, &http2::post_headers());
    connection.send(&headers).await.unwrap();
    for _ in 0..100 {
        let nothing = http2::frame(http2::DATA, 0, 1, &[]).repeat(100);
        if connection.send(&nothing).await.is_err() {
            break;
        }
    }
    assert_cut_off(&mut connection).await;
    assert_eq!(attacked.assert_unharmed().await.rejected(FLOOD), 1.0);
}

/// What HTTP/1.1 allows beside headers and body: it is no way to say more than is read of those.
#[tokio::test(flavor = "multi_thread")]
async fn endless_chunk_extensions_and_trailers_are_cut_off() {
    let store = HeldStore::start().await;
    let attacked = Attacked::start(&store, &[]).await;
    let head = "POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    for (beginning, flood) in [
        ("1;", "x=y;".repeat(1000)),
        ("0\r\n", "x: y\r\n".repeat(1000)),
        ("", "1\r\n \r\n".repeat(1000)),
    ] {
        let mut connection = attacked.sidecar.client().raw_http1().await;
        connection.write(format!("{head}{beginning}")).await.unwrap();
        let mut written = 0;
        while connection.write(&flood).await.is_ok() {
            written += flood.len();
            assert!(written < 64 << 20, "it reads for ever: {flood:.9}");
        }
    }
    attacked
        .assert_unharmed()
        .await
        .assert_rejected(&[(("requests", "incomplete"), 2.0), (("requests", "max_body"), 1.0)]);
}

/// A read whose answer is about as large as it is itself.
fn large_read() -> String {
    let arguments = json!({ "user_id": "x".repeat(30 << 10) });
    json!({ "action": "get_user", "arguments": arguments }).to_string()
}

/// Requests without end, one behind the other, and no answer is ever read.
#[tokio::test(flavor = "multi_thread")]
async fn who_never_reads_over_http1_is_not_served_for_ever() {
    let store = HeldStore::start().await;
    let attacked = Attacked::start(&store, &["--idle-timeout", "2s"]).await;
    let mut connection = attacked.sidecar.client().raw_http1().await;
    let requests = post(&large_read());
    let mut written = 0;
    while connection.write(&requests).await.is_ok() {
        written += requests.len();
        assert!(written < 1 << 30, "it reads for ever");
    }
    // It has ended, though nobody heard its goodbye.
    attacked.wait_until_alone().await;
    drop(connection);
    let after = attacked.assert_unharmed().await;
    after.assert_rejected(&[(("connections", "idle_timeout"), 1.0)]);
}

/// All the streams that a connection may have, and no window for any answer.
#[tokio::test(flavor = "multi_thread")]
async fn who_never_reads_over_http2_holds_no_slot_and_is_sent_away() {
    const STREAMS: u32 = 32;
    let store = HeldStore::start().await;
    let options = ["--idle-timeout", "2s", "--max-streams", "32", "--max-in-flight", "8"];
    let attacked = Attacked::start(&store, &options).await;
    let stream = attacked.sidecar.client().connect().await.unwrap();
    let mut connection = Http2::start_with(stream, &[(http2::INITIAL_WINDOW_SIZE, 0)]).await;
    for number in 0..STREAMS {
        connection.send(&http2::post(1 + 2 * number, &large_read())).await.unwrap();
        // The head of each answer has room.
        let frame = connection.frame_of(http2::HEADERS).await;
        assert!(frame.payload.starts_with(http2::STATUS_200), "{frame:?}");
    }
    // More than `--max-in-flight`: an answer that waits for its reader holds no slot. But it is a
    // stream still, and there are no more of these.
    let flags = http2::END_HEADERS | http2::END_STREAM;
    let id = 1 + 2 * STREAMS;
    let request = http2::frame(http2::HEADERS, flags, id, &http2::post_headers());
    connection.send(&request).await.unwrap();
    let refused = connection.frame_of(http2::RST_STREAM).await;
    assert_eq!((refused.stream, refused.error_code()), (id, http2::REFUSED_STREAM));
    assert_eq!(connection.end().await, Some(http2::NO_ERROR));
    let after = attacked.assert_unharmed().await;
    let [idle, streams] = ["idle_timeout", "max_streams"].map(|reason| ("connections", reason));
    after.assert_rejected(&[(idle, 1.0), (streams, 1.0)]);
}

/// Half a body has come, and then no acknowledgement, no end and no reset ever does. Over HTTP/1.1
/// the connection goes with its request; over HTTP/2 it may be good for others, until it is idle.
#[tokio::test(flavor = "multi_thread")]
async fn peers_lost_in_mid_body_are_given_up() {
    let store = HeldStore::start().await;
    let options = ["--request-timeout", "2s", "--idle-timeout", "4s"];
    let attacked = Attacked::start(&store, &options).await;
    let client = attacked.sidecar.client();
    let request = post(&large_read());
    let half = &request[..request.len() / 2];
    let mut http1 = client.raw_http1().await;
    http1.write(half).await.unwrap();

    let stream = client.connect().await.unwrap();
    let lines = [http1.line(), Line::of(&stream)];
    let mut http2 = Http2::start(stream).await;
    let headers = http2::frame(http2::HEADERS, http2::END_HEADERS, 1, &http2::post_headers());
    let data = http2::frame(http2::DATA, 0, 1, b"{");
    http2.send(&[headers, data].concat()).await.unwrap();
    lines.iter().for_each(Line::lose);

    attacked.wait_until_alone().await;
    lines.iter().for_each(Line::assert_unaware);
    let after = attacked.assert_unharmed().await;
    after.assert_rejected(&[
        (("requests", "request_timeout"), 2.0),
        (("connections", "idle_timeout"), 1.0),
    ]);
}

/// The beginning of an answer has come, and nothing is acknowledged any more. What is left of the
/// answers is more than the sidecar's operating system takes.
#[tokio::test(flavor = "multi_thread")]
async fn peers_lost_in_mid_answer_are_given_up() {
    const ANSWERS: u32 = 4;
    let store = HeldStore::start().await;
    let attacked = Attacked::start(&store, &["--idle-timeout", "2s"]).await;
    let client = attacked.sidecar.client();
    let mut http1 = client.raw_http1().await;
    for _ in 0..ANSWERS {
        http1.write(post(&large_answer_read())).await.unwrap();
    }
    let head = http1.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");

    // The windows of HTTP/2 are no obstacle.
    let stream = client.connect().await.unwrap();
    let lines = [http1.line(), Line::of(&stream)];
    let window = i32::MAX as u32;
    let mut http2 = Http2::start_with(stream, &[(http2::INITIAL_WINDOW_SIZE, window)]).await;
    let more = (window - 0xffff).to_be_bytes();
    http2.send(&http2::frame(http2::WINDOW_UPDATE, 0, 0, &more)).await.unwrap();
    for number in 0..ANSWERS {
        http2.send(&http2::post(1 + 2 * number, &large_answer_read())).await.unwrap();
    }
    http2.frame_of(http2::DATA).await;
    lines.iter().for_each(Line::lose);

    attacked.wait_until_alone().await;
    lines.iter().for_each(Line::assert_unaware);
    let after = attacked.assert_unharmed().await;
    after.assert_rejected(&[(("connections", "idle_timeout"), 2.0)]);
}

/// Strangers who connect and go.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_who_come_and_go_keep_nobody_out() {
    let store = HeldStore::start().await;
    let attacked = Attacked::start(&store, &[]).await;
    let sidecar = &attacked.sidecar;
    let newcomers = async {
        for _ in 0..20 {
            assert_eq!(sidecar.client().post(free_read()).await.status, StatusCode::OK);
        }
    };
    let come_and_go = async {
        for _ in 0..3000 {
            drop(TcpStream::connect(sidecar.endpoint).await.unwrap());
        }
    };
    tokio::join!(newcomers, come_and_go);
    attacked.assert_unharmed().await.assert_rejected(&[]);
}

/// Strangers who say half of what they have to say, or let the server calculate for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_never_end_keep_nobody_out() {
    let store = HeldStore::start().await;
    let options = ["--max-connections", "100", "--handshake-timeout", "120s"];
    let attacked = Attacked::start(&store, &options).await;
    let sidecar = &attacked.sidecar;
    let hello = client_hello(&sidecar.client()).0;
    let mut crowd = Vec::new();
    for number in 0..200 {
        let mut tcp = TcpStream::connect(sidecar.endpoint).await.unwrap();
        let part = if number % 2 == 0 { &hello[..] } else { &hello[..100] };
        tcp.write_all(part).await.unwrap();
        crowd.push(tcp);
        if number % 10 == 0 {
            assert_eq!(sidecar.client().post(free_read()).await.status, StatusCode::OK);
        }
    }
    // The oldest are gone; the last would stay, half of all connections.
    wait_for_end(&mut crowd[0]).await;
    let refused = ("connections", "max_handshakes");
    wait_for_metrics(sidecar, "half stay", |metrics| metrics.rejected(refused) >= 150.0).await;
    drop(crowd);
    let after = attacked.assert_unharmed().await;
    after.assert_rejected(&[(refused, after.rejected(refused))]);
}

/// Callers lose their patience with a store that pauses. When it goes on it sees all of their
/// resets at once, which looks like an attack; and is none, on a connection that all callers share.
#[tokio::test(flavor = "multi_thread")]
async fn resets_during_a_pause_of_the_store_do_not_harm_the_calls_of_others() {
    let file = SqliteFile::new();
    let options = ["store", "--listen", "tcp://127.0.0.1:0", "--log-format", "json", "--store"];
    let url = file.url();
    let store = Process::start(program(options.into_iter().chain([url.as_str()])));
    let line: serde_json::Value =
        serde_json::from_str(&store.wait_for_log("\"listening\"")).unwrap();
    let url = line["store"].as_str().unwrap().replace("tcp://", "grpc://");
    let sidecar = Sidecar::ready(&url, &["--store-timeout", "60s"]);
    let client = sidecar.client();
    let in_flight = async |number: f64| {
        wait_for_metrics(&sidecar, "so many are in flight", |metrics| {
            metrics.in_flight_requests() == number
        })
        .await
    };
    let mut impatient = Http2::start(client.connect().await.unwrap()).await;
    let streams: Vec<u32> = (1..).step_by(2).take(200).collect();
    let reads: Vec<u8> = streams.iter().flat_map(|id| http2::post(*id, &free_read())).collect();
    let resets: Vec<u8> = streams.iter().flat_map(|id| http2::cancel(*id)).collect();

    store.signal("STOP");
    impatient.send(&reads).await.unwrap();
    in_flight(200.0).await;
    let email_address = email_address();
    let create = json!({ "action": "create_user", "arguments": new_user(&email_address) });
    let patient = tokio::spawn(async move { client.post(create.to_string()).await });
    in_flight(201.0).await;
    impatient.send(&resets).await.unwrap();
    in_flight(1.0).await;
    store.signal("CONT");
    let reply = patient.await.unwrap();
    assert_eq!(reply.json()["ok"], true, "{}", reply.text());
}
