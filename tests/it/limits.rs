//! Limits: what is below them works, what is above them is refused as promised and counted under
//! its name alone, and whoever comes next is served. `interface`, "`serve`" and "Metrics".

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Method, StatusCode};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::harness::{
    client::{Client, RawHttp1, Reply},
    held_store::{HeldStore, free_read, held_read, held_write},
    http2::{self, Http2},
    metrics::{Metrics, wait_for_metrics},
    process::{PATIENCE, Sidecar},
};

/// A request of HTTP/1.1.
pub fn post(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Sends a request over HTTP/1.1 and gives the status line and the body of the answer.
async fn exchange(connection: &mut RawHttp1, body: &str) -> (String, Vec<u8>) {
    connection.write(post(body)).await.unwrap();
    connection.response().await.unwrap()
}

/// A connection over which a request was answered.
async fn used_connection(client: &Client) -> RawHttp1 {
    let mut connection = client.raw_http1().await;
    let (head, _) = exchange(&mut connection, &free_read()).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    connection
}

/// Whoever comes after all this is served.
async fn assert_serves(sidecar: &Sidecar) {
    for client in [sidecar.client(), sidecar.client().http1()] {
        assert_eq!(client.post(free_read()).await.status, StatusCode::OK);
    }
}

/// Waits until nobody is connected and nothing is in flight.
pub async fn wait_until_quiet(sidecar: &Sidecar) -> Metrics {
    wait_for_metrics(sidecar, "it does not come to rest", |metrics| {
        metrics.connections() == 0.0 && metrics.in_flight_requests() == 0.0
    })
    .await
}

/// Waits until the other side ends a TCP connection, in whichever way.
pub async fn wait_for_end(tcp: &mut TcpStream) {
    let mut buffer = [0; 4096];
    let end = async { while let Ok(1..) = tcp.read(&mut buffer).await {} };
    timeout(PATIENCE, end).await.expect("the connection stays open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_above_max_connections_is_closed_at_once() {
    let store = HeldStore::start().await;
    let sidecar = store.sidecar(&["--max-connections", "4"]).await;
    let client = sidecar.client();
    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push(used_connection(&client).await);
    }
    Metrics::of(&sidecar).await.assert_rejected(&[]);
    for _ in 0..3 {
        wait_for_end(&mut TcpStream::connect(sidecar.endpoint).await.unwrap()).await;
        client.http1().connect().await.expect_err("a fifth connection");
    }
    let metrics = Metrics::of(&sidecar).await;
    metrics.assert_rejected(&[(("connections", "max_connections"), 6.0)]);
    assert_eq!(metrics.connections(), 4.0);
    // Those that are there are none the worse for it, and the place of one that goes is free.
    for connection in &mut connections {
        assert!(exchange(connection, &free_read()).await.0.starts_with("HTTP/1.1 200 "));
    }
    connections.pop();
    wait_for_metrics(&sidecar, "one is to go", |metrics| metrics.connections() == 3.0).await;
    connections.push(used_connection(&client).await);
    drop(connections);
    wait_until_quiet(&sidecar).await.assert_rejected(&[(("connections", "max_connections"), 6.0)]);
    assert_serves(&sidecar).await;
}

/// Half of all connections may be without a certificate. The oldest of those makes room for the
/// next: it is the one that has had the most time.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_never_finish_a_handshake_keep_nobody_out() {
    let store = HeldStore::start().await;
    let sidecar = store.sidecar(&["--max-connections", "8", "--handshake-timeout", "120s"]).await;
    let client = sidecar.client();
    let mut caller = used_connection(&client).await;
    let mut strangers = Vec::new();
    for number in 1..=4 {
        strangers.push(TcpStream::connect(sidecar.endpoint).await.unwrap());
        let all = f64::from(number + 1);
        wait_for_metrics(&sidecar, "all stay", |metrics| metrics.connections() == all).await;
    }
    Metrics::of(&sidecar).await.assert_rejected(&[]);
    // Four more, and the first four have to go, in their order.
    for stranger in &mut strangers {
        let next = TcpStream::connect(sidecar.endpoint).await.unwrap();
        wait_for_end(stranger).await;
        *stranger = next;
    }
    let refused = ("connections", "max_handshakes");
    let metrics =
        wait_for_metrics(&sidecar, "all places stay taken", |metrics| metrics.connections() == 5.0);
    metrics.await.assert_rejected(&[(refused, 4.0)]);
    // A caller gets in, beside the one that is in.
    let mut newcomer = used_connection(&client).await;
    for connection in [&mut caller, &mut newcomer] {
        assert!(exchange(connection, &free_read()).await.0.starts_with("HTTP/1.1 200 "));
    }
    let metrics = Metrics::of(&sidecar).await;
    metrics.assert_rejected(&[(refused, 5.0)]);
    assert_eq!(metrics.connections(), 5.0, "two callers, and three of the strangers");
    drop((caller, newcomer, strangers));
    wait_until_quiet(&sidecar).await;
    assert_serves(&sidecar).await;
}

fn assert_overloaded(status: StatusCode, retry_after: Option<&str>, body: &Value) {
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(retry_after, Some("1"));
    assert_eq!(body["status"], 503);
    assert_eq!(body["detail"], "there are too many requests at once; nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_above_max_in_flight_gets_503_and_keeps_its_connection() {
    let store = HeldStore::start().await;
    let sidecar = store.sidecar(&["--max-in-flight", "2"]).await;
    let client = Arc::new(sidecar.client());
    let held: Vec<_> = [held_read(), held_write()]
        .map(|body| {
            tokio::spawn({
                let client = Arc::clone(&client);
                async move { client.post(body).await }
            })
        })
        .into();
    store.wait_for_calls_in_hand(2).await;

    // The store holds on for ever: any answer is a quick one.
    let mut http1 = client.raw_http1().await;
    for _ in 0..3 {
        let (head, body) = exchange(&mut http1, &free_read()).await;
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
        assert_eq!(header("content-type: "), Some("application/problem+json"), "{head}");
        assert_eq!(header("connection: "), None, "{head}");
        let body = serde_json::from_slice(&body).unwrap();
        assert_overloaded(StatusCode::SERVICE_UNAVAILABLE, header("retry-after: "), &body);
    }
    let reply: Reply = client.post(free_read()).await;
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    assert_overloaded(reply.status, reply.header("retry-after"), &reply.json());
    let metrics = Metrics::of(&sidecar).await;
    assert_eq!(metrics.in_flight_requests(), 2.0);
    metrics.assert_rejected(&[(("requests", "max_in_flight"), 4.0)]);
    assert_eq!(store.calls().total, 2, "nothing of it came to the store");

    store.release();
    for held in held {
        assert_eq!(held.await.unwrap().status, StatusCode::OK);
    }
    let (head, _) = exchange(&mut http1, &free_read()).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "the same connection: {head}");
    let metrics = Metrics::of(&sidecar).await;
    assert_eq!(metrics.in_flight_requests(), 0.0);
    metrics.assert_rejected(&[(("requests", "max_in_flight"), 4.0)]);
    assert_serves(&sidecar).await;
}

/// For a write only when the store has answered: it is at work until then. The same holds for
/// HTTP/1.1, where a caller that has only finished writing cannot be told from one that has gone.
#[tokio::test(flavor = "multi_thread")]
async fn the_slot_of_a_caller_that_goes_away_is_free_again() {
    let store = HeldStore::start().await;
    let sidecar = store.sidecar(&["--max-in-flight", "4"]).await;
    let client = sidecar.client();
    let in_flight = async |number: f64| {
        wait_for_metrics(&sidecar, "so many are in flight", |metrics| {
            metrics.in_flight_requests() == number
        })
        .await
    };

    // A read over HTTP/2: reset, and gone with its connection.
    let mut resets = Http2::start(client.connect().await.unwrap()).await;
    let mut vanishes = Http2::start(client.connect().await.unwrap()).await;
    for connection in [&mut resets, &mut vanishes] {
        connection.send(&http2::post(1, &held_read())).await.unwrap();
        connection.send(&http2::post(3, &held_read())).await.unwrap();
    }
    store.wait_for_calls_in_hand(4).await;
    assert_eq!(client.post(free_read()).await.status, StatusCode::SERVICE_UNAVAILABLE);
    resets.send(&[http2::cancel(1), http2::cancel(3)].concat()).await.unwrap();
    in_flight(2.0).await;
    store.wait_for_calls_in_hand(2).await;
    drop(vanishes);
    in_flight(0.0).await;
    store.wait_for_calls_in_hand(0).await;

    // A write, in the same ways; and HTTP/1.1.
    let mut vanishes = Http2::start(client.connect().await.unwrap()).await;
    let mut http1 = client.raw_http1().await;
    http1.write(post(&held_read())).await.unwrap();
    vanishes.send(&http2::post(1, &held_write())).await.unwrap();
    resets.send(&http2::post(5, &held_write())).await.unwrap();
    store.wait_for_calls_in_hand(3).await;
    resets.send(&http2::cancel(5)).await.unwrap();
    drop((vanishes, http1));
    // The one that is left is answered after the reset that came before it was seen.
    resets.send(&http2::post(7, &free_read())).await.unwrap();
    assert!(resets.answer(7).await.0.starts_with(http2::STATUS_200));
    assert_eq!(store.calls().in_hand, 3, "the store is still at work");
    in_flight(3.0).await;
    store.release();
    in_flight(0.0).await.assert_rejected(&[(("requests", "max_in_flight"), 1.0)]);
    assert_serves(&sidecar).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_above_their_size_or_number_get_431() {
    let store = HeldStore::start().await;
    let sidecar = store.sidecar(&[]).await;
    let client = sidecar.client();
    let body = free_read();
    let head = format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n", body.len());
    let many = |number: usize| "x: y\r\n".repeat(number);
    let large = |size: usize| format!("x: {}\r\n", "y".repeat(size));
    let too_large = ("connections", "header_size");
    let mut refused = 0.0;
    for (case, headers, status) in [
        ("100 headers", many(98), "200"),
        ("101 headers", many(99), "431"),
        ("15 KiB", large(15 << 10), "200"),
        ("17 KiB", large(17 << 10), "431"),
    ] {
        let mut connection = client.raw_http1().await;
        connection.write(format!("{head}{headers}\r\n{body}")).await.unwrap();
        let (answer, _) = connection.response().await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{case}: {answer}");
        if status == "431" {
            refused += 1.0;
            connection.response().await.expect_err("the connection ends");
        }
        let metrics =
            wait_for_metrics(&sidecar, case, |metrics| metrics.rejected(too_large) == refused);
        assert!(metrics.await.rejections().len() <= 1);
    }

    // Over HTTP/2 it is one stream that is refused, and the connection goes on.
    for (size, status) in
        [(15 << 10, StatusCode::OK), (17 << 10, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)]
    {
        let mut request = client.request(Method::POST, "/", free_read());
        request.headers_mut().insert("x", "y".repeat(size).parse().unwrap());
        assert_eq!(client.send(request).await.unwrap().status, status, "{size} bytes");
    }
    let connections = Metrics::of(&sidecar).await.value("tls_handshakes_total{result=\"ok\"}");
    assert_eq!(client.post(free_read()).await.status, StatusCode::OK);
    let metrics = Metrics::of(&sidecar).await;
    assert_eq!(metrics.value("tls_handshakes_total{result=\"ok\"}"), connections, "the same one");
    metrics.assert_rejected(&[(too_large, 3.0)]);
    assert_serves(&sidecar).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_headers_are_counted() {
    let store = HeldStore::start().await;
    let sidecar = store.sidecar(&["--header-timeout", "500ms"]).await;
    let client = sidecar.client();
    let drip = async |request: String| {
        let mut connection = used_connection(&client).await;
        // It would take far longer than anybody waits here.
        for byte in request.bytes() {
            if connection.write([byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        connection.response().await.expect_err("no answer");
    };
    // One byte at a time, in the request line, in a header, and between headers.
    tokio::join!(
        drip("P".repeat(1000)),
        drip(format!("POST / HTTP/1.1\r\nx: {}", "y".repeat(1000))),
        drip(format!("POST / HTTP/1.1\r\n{}", "x: y\r\n".repeat(90))),
        async {
            for _ in 0..20 {
                assert_eq!(client.post(free_read()).await.status, StatusCode::OK, "someone else");
            }
        }
    );
    Metrics::of(&sidecar).await.assert_rejected(&[(("connections", "header_timeout"), 3.0)]);
    assert_serves(&sidecar).await;
}

/// The bytes of a ClientHello of a caller with a certificate, and the session that waits for the
/// answer.
pub fn client_hello(client: &Client) -> (Vec<u8>, rustls::ClientConnection) {
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = rustls::ClientConnection::new(Arc::clone(&client.tls), name).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    (hello, session)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_end_is_cut_and_counted() {
    let store = HeldStore::start().await;
    let sidecar = store.sidecar(&["--handshake-timeout", "1s"]).await;
    let client = sidecar.client();
    // Open all the while, and longer than a handshake may take.
    let mut caller = used_connection(&client).await;
    let silent = async {
        wait_for_end(&mut TcpStream::connect(sidecar.endpoint).await.unwrap()).await;
    };
    let byte_by_byte = async {
        let mut tcp = TcpStream::connect(sidecar.endpoint).await.unwrap();
        // The last byte never comes.
        let (hello, _) = client_hello(&client);
        for byte in &hello[..hello.len() - 1] {
            if tcp.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        wait_for_end(&mut tcp).await;
    };
    let without_the_second_half = async {
        let mut tcp = TcpStream::connect(sidecar.endpoint).await.unwrap();
        tcp.write_all(&client_hello(&client).0).await.unwrap();
        wait_for_end(&mut tcp).await;
    };
    let began = Instant::now();
    tokio::join!(silent, byte_by_byte, without_the_second_half);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(exchange(&mut caller, &free_read()).await.0.starts_with("HTTP/1.1 200 "));
    drop(caller);

    let metrics = wait_until_quiet(&sidecar).await;
    metrics.assert_rejected(&[(("connections", "handshake_timeout"), 3.0)]);
    assert_eq!(metrics.value("tls_handshakes_total{result=\"timeout\"}"), 3.0);
    assert_eq!(metrics.value("tls_handshakes_total{result=\"failed\"}"), 0.0);
    assert_eq!(metrics.value("tls_handshakes_total{result=\"ok\"}"), 1.0);
    // One without a certificate does end: it fails.
    let nobody = Client::new(sidecar.endpoint, &sidecar.pki, None);
    nobody.try_post(free_read()).await.expect_err("no certificate");
    let metrics = wait_until_quiet(&sidecar).await;
    assert_eq!(metrics.value("tls_handshakes_total{result=\"failed\"}"), 1.0);
    metrics.assert_rejected(&[(("connections", "handshake_timeout"), 3.0)]);
    assert_serves(&sidecar).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_above_max_streams_is_refused_and_the_others_are_answered() {
    let store = HeldStore::start().await;
    let sidecar = store.sidecar(&["--max-streams", "4"]).await;
    let mut connection = Http2::start(sidecar.client().connect().await.unwrap()).await;
    for stream in [1, 3, 5, 7] {
        connection.send(&http2::post(stream, &held_read())).await.unwrap();
    }
    store.wait_for_calls_in_hand(4).await;
    for stream in [9, 11] {
        let flags = http2::END_HEADERS | http2::END_STREAM;
        let request = http2::frame(http2::HEADERS, flags, stream, &http2::post_headers());
        connection.send(&request).await.unwrap();
        let frame = connection.frame_of(http2::RST_STREAM).await;
        assert_eq!((frame.stream, frame.error_code()), (stream, http2::REFUSED_STREAM));
    }
    // It is a limit of one connection.
    assert_serves(&sidecar).await;
    store.release();
    let mut answered = Vec::new();
    while answered.len() < 4 {
        let frame = connection.frame_of(http2::HEADERS).await;
        assert!(frame.payload.starts_with(http2::STATUS_200), "{frame:?}");
        answered.push(frame.stream);
    }
    answered.sort_unstable();
    assert_eq!(answered, [1, 3, 5, 7]);
    connection.send(&http2::post(13, &free_read())).await.unwrap();
    assert!(connection.answer(13).await.0.starts_with(http2::STATUS_200));
    assert_eq!(store.calls().most, 5, "four, and one of someone else");
    Metrics::of(&sidecar).await.assert_rejected(&[(("connections", "max_streams"), 2.0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_renewed_after_max_requests() {
    let store = HeldStore::start().await;
    let sidecar = store.sidecar(&["--max-requests-per-connection", "3"]).await;
    let client = sidecar.client();
    let renewed = ("connections", "max_requests");

    let mut http1 = client.raw_http1().await;
    for number in 1..=3 {
        let (head, _) = exchange(&mut http1, &free_read()).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(head.contains("connection: close"), number == 3, "answer {number}: {head}");
    }
    http1.response().await.expect_err("the connection ends");
    wait_until_quiet(&sidecar).await.assert_rejected(&[(renewed, 1.0)]);

    // What is in hand is answered after the goodbye.
    let mut http2 = Http2::start(client.connect().await.unwrap()).await;
    for stream in [1, 3] {
        http2.send(&http2::post(stream, &held_read())).await.unwrap();
    }
    store.wait_for_calls_in_hand(2).await;
    Metrics::of(&sidecar).await.assert_rejected(&[(renewed, 1.0)]);
    http2.send(&http2::post(5, &free_read())).await.unwrap();
    assert_eq!(http2.frame_of(http2::GOAWAY).await.error_code(), http2::NO_ERROR);
    store.release();
    let mut answered = 0;
    loop {
        match http2.frame().await {
            Ok(frame) if frame.kind == http2::DATA && frame.flags & http2::END_STREAM != 0 => {
                answered += 1;
            }
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
                break;
            }
        }
    }
    assert!(answered >= 2, "{answered} answers: what was held, if the third came before GOAWAY");
    wait_until_quiet(&sidecar).await.assert_rejected(&[(renewed, 2.0)]);

    // Whoever listens loses nothing: a request that finds its connection closing was not sent.
    let client = sidecar.client();
    for _ in 0..30 {
        assert_eq!(client.post_until_sent(free_read()).await.status, StatusCode::OK);
    }
    drop(client);
    let metrics = wait_until_quiet(&sidecar).await;
    metrics.assert_rejected(&[(renewed, metrics.rejected(renewed))]);
    assert!(metrics.rejected(renewed) > 2.0, "{metrics:?}");
}

/// A peer that has vanished without a word is no different: nothing comes from it, and nobody
/// waits for its goodbye.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_and_counted() {
    let store = HeldStore::start().await;
    let sidecar = store.sidecar(&["--idle-timeout", "2s"]).await;
    let client = sidecar.client();
    let mut idle = used_connection(&client).await;
    let unused = client.http1().connect().await.unwrap();
    let http2 = Http2::start(client.connect().await.unwrap()).await;
    let without_preface = client.connect().await.unwrap();
    // On HTTP/2, headers that never end are nothing else.
    let mut half_a_request = Http2::start(client.connect().await.unwrap()).await;
    let half = http2::frame(http2::HEADERS, 0, 1, &http2::post_headers());
    half_a_request.send(&half).await.unwrap();
    // One that waits for its answer is not idle.
    let held = tokio::spawn({
        let client = sidecar.client();
        async move { client.post(held_read()).await }
    });
    store.wait_for_calls_in_hand(1).await;
    idle.response().await.expect_err("the connection ends");
    let idle_timeout = ("connections", "idle_timeout");
    let metrics = wait_for_metrics(&sidecar, "nobody reads, and all the same it ends", |metrics| {
        metrics.connections() == 1.0
    });
    metrics.await.assert_rejected(&[(idle_timeout, 5.0)]);
    store.release();
    assert_eq!(held.await.unwrap().status, StatusCode::OK);
    drop((unused, http2, without_preface, half_a_request));
    wait_until_quiet(&sidecar).await.assert_rejected(&[(idle_timeout, 5.0)]);
    assert_serves(&sidecar).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_above_max_body_gets_413() {
    let store = HeldStore::start().await;
    let body = free_read();
    let fits = body.len().to_string();
    let sidecar = store.sidecar(&["--max-body", &fits]).await;
    let client = sidecar.client();
    let too_large = format!("{body} ");
    for client in [&client, &client.http1()] {
        assert_eq!(client.post(body.clone()).await.status, StatusCode::OK);
        let reply = client.post(too_large.clone()).await;
        assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(reply.json()["status"], 413);
    }
    // One that does not say beforehand how large it is.
    for (body, status) in [(&body, "200"), (&too_large, "413")] {
        let mut connection = client.raw_http1().await;
        let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        let head = "POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
        connection.write(format!("{head}{chunk}")).await.unwrap();
        let (head, _) = connection.response().await.unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }
    let mut http2 = Http2::start(client.connect().await.unwrap()).await;
    http2.send(&http2::post(1, &too_large)).await.unwrap();
    let (_, answer) = http2.answer(1).await;
    assert!(answer.contains("\"status\":413"), "{answer}");
    let metrics = Metrics::of(&sidecar).await;
    metrics.assert_rejected(&[(("requests", "max_body"), 4.0)]);
    assert_serves(&sidecar).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_bodies_get_408_and_their_slots_are_free_again() {
    let store = HeldStore::start().await;
    let sidecar = store.sidecar(&["--max-in-flight", "4", "--request-timeout", "4s"]).await;
    let client = sidecar.client();
    assert_eq!(client.post(free_read()).await.status, StatusCode::OK);
    let body = free_read();
    let head = "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n";
    let mut http1 = [client.raw_http1().await, client.raw_http1().await];
    let mut http2 = Http2::start(client.connect().await.unwrap()).await;
    for connection in &mut http1 {
        connection.write(format!("{head}{body}")).await.unwrap();
    }
    for stream in [1, 3] {
        let headers =
            http2::frame(http2::HEADERS, http2::END_HEADERS, stream, &http2::post_headers());
        let data = http2::frame(http2::DATA, 0, stream, body.as_bytes());
        http2.send(&[headers, data].concat()).await.unwrap();
    }
    // A dripping body gets no more time than one that has stopped.
    let drip = async {
        let [dripping, silent] = &mut http1;
        loop {
            let dripped = dripping.write(" ").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            let metrics = Metrics::of(&sidecar).await;
            if dripped.is_err() || metrics.in_flight_requests() == 0.0 {
                break;
            }
        }
        for connection in [dripping, silent] {
            let (head, _) = connection.response().await.unwrap();
            assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
        }
    };
    let full = async {
        wait_for_metrics(&sidecar, "four slots are taken", |metrics| {
            metrics.in_flight_requests() == 4.0
        })
        .await;
        assert_eq!(client.post(free_read()).await.status, StatusCode::SERVICE_UNAVAILABLE);
    };
    tokio::join!(drip, full);
    for stream in [1, 3] {
        let (_, answer) = http2.answer(stream).await;
        assert!(answer.contains("\"status\":408"), "{answer}");
    }
    let metrics = Metrics::of(&sidecar).await;
    assert_eq!(metrics.in_flight_requests(), 0.0);
    metrics.assert_rejected(&[
        (("requests", "request_timeout"), 4.0),
        (("requests", "max_in_flight"), 1.0),
    ]);
    assert_serves(&sidecar).await;
}
