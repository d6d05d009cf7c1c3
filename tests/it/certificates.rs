//! Who gets in, with which certificate, and for how long: over real TLS.

use std::{
    io,
    net::SocketAddr,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::{
    AlertDescription, ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion, RootCertStore,
    SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_stream::wrappers::ReceiverStream;

use crate::harness::{
    certs::{Authority, Identity, Leaf},
    client::{Client, new_user, tls_config_of},
    database::find,
    email_address,
    http2::{self, Http2},
    metrics::Metrics,
    process::{PATIENCE, Pki, Process, Sidecar, SqliteFile, output_of},
    stores::sqlite_sidecar,
};

const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
const HTTP1: &[&[u8]] = &[b"http/1.1"];
const HTTP2: &[&[u8]] = &[b"h2"];
const HOUR: time::Duration = time::Duration::HOUR;

/// The TLS of a client; a clone has the same memory of sessions.
fn tls(
    sidecar: &Sidecar,
    versions: &[&'static SupportedProtocolVersion],
    identity: Option<&Identity>,
    alpn: &[&[u8]],
) -> ClientConfig {
    let mut tls = tls_config_of(versions, &sidecar.pki.authority.certificate(), identity);
    tls.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    tls
}

async fn connect(address: SocketAddr, tls: &ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").unwrap();
    in_time(TlsConnector::from(Arc::new(tls.clone())).connect(name, tcp)).await
}

/// What a test waits for comes, or the test fails.
async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it should not take this long")
}

fn get_user() -> String {
    json!({ "action": "get_user", "arguments": { "user_id": "nobody" } }).to_string()
}

fn post(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Sends a request over HTTP/1.1 and reads the answer to its end, and no further.
async fn exchange(stream: &mut TlsStream<TcpStream>, body: &str) -> String {
    stream.write_all(post(body).as_bytes()).await.unwrap();
    answer(stream).await
}

async fn answer(stream: &mut TlsStream<TcpStream>) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8(bytes.clone()).unwrap();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() == length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        let read = in_time(stream.read_buf(&mut bytes)).await.unwrap();
        assert_ne!(read, 0, "the connection ended within an answer: {text}");
    }
}

/// Everything that comes until the connection ends, and how it ends.
async fn rest(stream: &mut TlsStream<TcpStream>) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = Vec::new();
    let end = in_time(stream.read_to_end(&mut bytes)).await.map(|_| ());
    (bytes, end)
}

fn alert(error: &io::Error) -> AlertDescription {
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        _ => panic!("no alert: {error}"),
    }
}

/// The alert that ends a handshake, or follows it before anything else: in TLS 1.3 a client has
/// finished before the server has seen its certificate.
async fn refusal(address: SocketAddr, tls: &ClientConfig) -> AlertDescription {
    match connect(address, tls).await {
        Err(error) => alert(&error),
        Ok(mut stream) => {
            let (bytes, end) = rest(&mut stream).await;
            assert_eq!(bytes, b"");
            alert(&end.expect_err("an end without an alert"))
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_verified_never_reaches_http() {
    let (sidecar, _file) = sqlite_sidecar(&["--allow-client", "any"]);
    let authority = &sidecar.pki.authority;
    let faroe = || Leaf::client(&["faroe"]);
    // Of the same name as ours: only the signature tells them apart.
    let stranger = Authority::new();
    let cases = [
        ("none", None, &[AlertDescription::CertificateRequired][..]),
        (
            "expired",
            Some(authority.issue("expired", faroe().valid(-2 * HOUR, -time::Duration::MINUTE))),
            &[AlertDescription::CertificateExpired],
        ),
        (
            "not yet valid",
            Some(authority.issue("early", faroe().valid(HOUR, 2 * HOUR))),
            &[AlertDescription::CertificateExpired, AlertDescription::BadCertificate],
        ),
        (
            "of another authority",
            Some(stranger.issue("foreign", faroe())),
            &[AlertDescription::UnknownCA, AlertDescription::DecryptError],
        ),
        (
            "for servers",
            Some(authority.issue("usage", faroe().with_usage(ExtendedKeyUsagePurpose::ServerAuth))),
            &[AlertDescription::UnsupportedCertificate, AlertDescription::BadCertificate],
        ),
        (
            "signed by itself",
            Some(authority.self_signed("self-signed", faroe())),
            &[AlertDescription::UnknownCA],
        ),
    ];
    for version in BOTH {
        for (certificate, identity, alerts) in &cases {
            let case = format!("{certificate} over {:?}", version.version);
            let tls = tls(&sidecar, &[version], identity.as_ref(), HTTP1);
            let alert = refusal(sidecar.endpoint, &tls).await;
            assert!(alerts.contains(&alert), "{case}: {alert:?}");

            // A client that does not wait for it gets no answer either, and nothing is done.
            let email_address = email_address();
            let create = json!({ "action": "create_user", "arguments": new_user(&email_address) });
            if let Ok(mut stream) = connect(sidecar.endpoint, &tls).await {
                let _ = stream.write_all(post(&create.to_string()).as_bytes()).await;
                let (bytes, end) = rest(&mut stream).await;
                assert_eq!(bytes, b"", "{case}");
                end.expect_err(&case);
            }
            let arguments = json!({ "email_address": email_address });
            let code = sidecar.client().error_code("get_user_by_email_address", arguments).await;
            assert_eq!(code, "user_not_found", "{case}");
        }
        // The same with a certificate that can: the cases above fail for what is wrong with them.
        let tls = tls(&sidecar, &[version], Some(&sidecar.pki.client), HTTP1);
        let mut stream = connect(sidecar.endpoint, &tls).await.unwrap();
        assert!(exchange(&mut stream, &get_user()).await.starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_certificate_has_to_be_named() {
    let pki = Pki::new();
    let pinned = pki.authority.issue("pinned", Leaf::client(&["pinned.example"]));
    let file = SqliteFile::new();
    let sidecar = Sidecar::start_with(
        Arc::new(pki),
        &file.url(),
        &[
            "--allow-client",
            "dns:*.one.example,dns:**.many.example",
            "--allow-client",
            "uri:spiffe://mesh/ns/faroe/sa/*,uri:spiffe://mesh/deep/**",
            "--allow-client",
            &pinned.spki_pin(),
        ],
    );
    sidecar.wait_until_ready();
    let cases: [(&[&str], bool); 25] = [
        (&["faroe"], true),
        (&["FAROE"], true),
        (&["other.example", "faroe"], true),
        (&["spiffe://mesh/other", "faroe"], true),
        (&["a.one.example"], true),
        (&["a.many.example"], true),
        (&["b.a.many.example"], true),
        (&["spiffe://mesh/ns/faroe/sa/server"], true),
        (&["other.example", "spiffe://mesh/other", "spiffe://mesh/deep/a/b"], true),
        (&["spiffe://mesh/deep/a"], true),
        (&[], false),
        (&["other.example"], false),
        (&["127.0.0.1"], false),
        (&["faroe.example"], false),
        (&["x.faroe"], false),
        (&["one.example"], false),
        (&["b.a.one.example"], false),
        (&["many.example"], false),
        // A wildcard in a certificate is a name for many, and so for nobody.
        (&["*.one.example"], false),
        (&["*.many.example"], false),
        (&["spiffe://mesh/ns/faroe/sa"], false),
        (&["spiffe://mesh/ns/faroe/sa/server/more"], false),
        (&["spiffe://mesh/ns/FAROE/sa/server"], false),
        (&["spiffe://mesh/deep"], false),
        // A URI that looks like a DNS name is none.
        (&["dns:faroe"], false),
    ];
    for (number, (names, allowed)) in cases.into_iter().enumerate() {
        // The common name would be allowed, and never counts.
        let leaf = Leaf::client(names).with_common_name("faroe");
        let identity = sidecar.pki.authority.issue(&format!("case-{number}"), leaf);
        let client = Client::new(sidecar.endpoint, &sidecar.pki, Some(&identity));
        let expected = if allowed { StatusCode::OK } else { StatusCode::FORBIDDEN };
        assert_eq!(client.post(get_user()).await.status, expected, "{names:?}");
        assert_eq!(client.http1().post(get_user()).await.status, expected, "{names:?}");
    }
    let client = Client::new(sidecar.endpoint, &sidecar.pki, Some(&pinned));
    assert_eq!(client.post(get_user()).await.status, StatusCode::OK, "by its key");
    let same_names = Leaf::client(&["pinned.example"]);
    let other_key = sidecar.pki.authority.issue("other-key", same_names);
    let client = Client::new(sidecar.endpoint, &sidecar.pki, Some(&other_key));
    assert_eq!(client.post(get_user()).await.status, StatusCode::FORBIDDEN, "another key");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_allows_every_certificate_of_the_authority() {
    let (sidecar, _file) = sqlite_sidecar(&["--allow-client", "any"]);
    for (file, names) in [("nameless", &[][..]), ("wild", &["*.example"]), ("other", &["other"])] {
        let identity = sidecar.pki.authority.issue(file, Leaf::client(names));
        let client = Client::new(sidecar.endpoint, &sidecar.pki, Some(&identity));
        assert_eq!(client.post(get_user()).await.status, StatusCode::OK, "{names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_not_named_is_told_so_before_anything_else() {
    let (sidecar, _file) = sqlite_sidecar(&[]);
    let other = sidecar.pki.authority.issue("other", Leaf::client(&["other"]));
    let stranger = Client::new(sidecar.endpoint, &sidecar.pki, Some(&other));
    let faroe = sidecar.client();
    let email_address = email_address();
    let create = json!({ "action": "create_user", "arguments": new_user(&email_address) });
    let requests = [
        (Method::POST, "/nowhere", get_user(), StatusCode::NOT_FOUND),
        (Method::GET, "/", String::new(), StatusCode::METHOD_NOT_ALLOWED),
        (Method::POST, "/", "x".repeat(100 << 10), StatusCode::PAYLOAD_TOO_LARGE),
        (Method::POST, "/", "not JSON".to_owned(), StatusCode::BAD_REQUEST),
        (Method::POST, "/", create.to_string(), StatusCode::OK),
    ];
    for (stranger, faroe) in [(&stranger.http1(), &faroe.http1()), (&stranger, &faroe)] {
        for (method, path, body, others) in &requests {
            let case = format!("{method} {path}, {} bytes", body.len());
            let request = stranger.request(method.clone(), path, body.clone());
            let reply = stranger.send(request).await.unwrap();
            assert_eq!(reply.status, StatusCode::FORBIDDEN, "{case}");
            assert_eq!(reply.header("content-type"), Some("application/problem+json"));
            assert_eq!(reply.json()["status"], 403);
            if *others == StatusCode::OK {
                let arguments = json!({ "email_address": email_address });
                let code = faroe.error_code("get_user_by_email_address", arguments).await;
                assert_eq!(code, "user_not_found", "nothing is done for a stranger");
            } else {
                let request = faroe.request(method.clone(), path, body.clone());
                assert_eq!(faroe.send(request).await.unwrap().status, *others, "{case}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_1_3_session_is_not_resumed_beyond_its_certificate() {
    a_session_is_not_resumed_beyond_its_certificate(&TLS13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_1_2_session_is_not_resumed_beyond_its_certificate() {
    a_session_is_not_resumed_beyond_its_certificate(&TLS12).await;
}

async fn a_session_is_not_resumed_beyond_its_certificate(
    version: &'static SupportedProtocolVersion,
) {
    let (sidecar, _file) = sqlite_sidecar(&[]);
    let leaf = Leaf::client(&["faroe"]).valid(-HOUR, time::Duration::seconds(8));
    let identity = sidecar.pki.authority.issue("ending", leaf);
    let tls = tls(&sidecar, &[version], Some(&identity), HTTP1);
    // Twice as long as the certificate is valid: its tickets work, and there is a new one left.
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
        let mut stream = connect(sidecar.endpoint, &tls).await.unwrap();
        assert!(exchange(&mut stream, &get_user()).await.starts_with("HTTP/1.1 200 "));
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected));
    }
    assert!(SystemTime::now() < identity.end(), "it took so long that nothing was tested");

    identity.wait_for_end().await;
    let email_address = email_address();
    let create = json!({ "action": "create_user", "arguments": new_user(&email_address) });
    let mut stream = connect(sidecar.endpoint, &tls).await.unwrap();
    assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    let _ = stream.write_all(post(&create.to_string()).as_bytes()).await;
    let (bytes, _) = rest(&mut stream).await;
    assert_eq!(bytes, b"", "no HTTP");
    let arguments = json!({ "email_address": email_address });
    let code = sidecar.client().error_code("get_user_by_email_address", arguments).await;
    assert_eq!(code, "user_not_found");
    // Nor does it get in without the ticket.
    let fresh = tls_config_of(&[version], &sidecar.pki.authority.certificate(), Some(&identity));
    assert_eq!(
        refusal(sidecar.endpoint, &fresh).await,
        AlertDescription::CertificateExpired,
        "a new session"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_certificate_and_what_is_in_hand_is_answered() {
    let (sidecar, _file) = sqlite_sidecar(&["--request-timeout", "60s"]);
    let leaf = Leaf::client(&["faroe"]).valid(-HOUR, time::Duration::seconds(8));
    let identity = sidecar.pki.authority.issue("ending", leaf);
    let http1 = tls(&sidecar, BOTH, Some(&identity), HTTP1);
    let http2 = tls(&sidecar, BOTH, Some(&identity), HTTP2);

    // HTTP/1.1, kept alive after an answer.
    let mut kept = connect(sidecar.endpoint, &http1).await.unwrap();
    let reply = exchange(&mut kept, &get_user()).await;
    assert!(reply.starts_with("HTTP/1.1 200 ") && !reply.contains("connection: close"));

    // HTTP/1.1, in the middle of a request: the server asks for the body, so it has the head.
    let body = get_user();
    let mut busy = connect(sidecar.endpoint, &http1).await.unwrap();
    let request = post(&body);
    let (head, _) = request.split_once("\r\n\r\n").unwrap();
    busy.write_all(format!("{head}\r\nexpect: 100-continue\r\n\r\n").as_bytes()).await.unwrap();
    assert_eq!(answer(&mut busy).await, "HTTP/1.1 100 Continue\r\n\r\n");

    // HTTP/2 without a request.
    let mut quiet = Http2::start(connect(sidecar.endpoint, &http2).await.unwrap()).await;

    // HTTP/2, in the middle of a request: another one that came later has been answered.
    let io = TokioIo::new(connect(sidecar.endpoint, &http2).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let (chunks, slow) = tokio::sync::mpsc::channel::<io::Result<Frame<Bytes>>>(1);
    let request = |chunks| {
        http::Request::post(format!("https://localhost:{}/", sidecar.endpoint.port()))
            .body(StreamBody::new(ReceiverStream::new(chunks)))
            .unwrap()
    };
    let slow = tokio::spawn(sender.send_request(request(slow)));
    let (quick_chunks, quick) = tokio::sync::mpsc::channel(1);
    quick_chunks.send(Ok(Frame::data(Bytes::from(get_user())))).await.unwrap();
    drop(quick_chunks);
    let quick = in_time(sender.send_request(request(quick))).await.unwrap();
    assert_eq!(quick.status(), StatusCode::OK);
    assert!(SystemTime::now() < identity.end(), "it took so long that nothing was tested");

    // The idle ones are told, and not before.
    let (bytes, end) = rest(&mut kept).await;
    assert_eq!(bytes, b"");
    end.expect("closed in good order");
    assert!(SystemTime::now() >= identity.end(), "closed too early");
    goaway(&mut quiet).await;
    assert!(SystemTime::now() >= identity.end(), "closed too early");
    sidecar.process.wait_for_log_lines("the client certificate has ended", 4);

    // What was in hand gets its answer, and then these end too.
    busy.write_all(body.as_bytes()).await.unwrap();
    let reply = answer(&mut busy).await;
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    assert!(reply.contains("user_not_found"), "{reply}");
    let (bytes, end) = rest(&mut busy).await;
    assert_eq!(bytes, b"");
    end.expect("closed in good order");
    chunks.send(Ok(Frame::data(Bytes::from(get_user())))).await.unwrap();
    drop(chunks);
    let slow = in_time(slow).await.unwrap().unwrap();
    assert_eq!(slow.status(), StatusCode::OK);
    let reply = slow.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&reply).contains("user_not_found"));
    in_time(connection).await.unwrap().expect("closed in good order");
}

/// A client may not have heard yet that it is to go.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_after_the_end_of_the_certificate_is_refused_and_counted() {
    let (sidecar, _file) = sqlite_sidecar(&[]);
    let leaf = Leaf::client(&["faroe"]).valid(-HOUR, time::Duration::seconds(8));
    let identity = sidecar.pki.authority.issue("ending", leaf);
    let tls = tls(&sidecar, BOTH, Some(&identity), HTTP2);
    let mut connection = Http2::start(connect(sidecar.endpoint, &tls).await.unwrap()).await;
    connection.send(&http2::post(1, &get_user())).await.unwrap();
    assert!(connection.answer(1).await.0.starts_with(http2::STATUS_200));
    assert!(SystemTime::now() < identity.end(), "it took so long that nothing was tested");
    sidecar.process.wait_for_log("the client certificate has ended");
    connection.send(&http2::post(3, &get_user())).await.unwrap();
    loop {
        let frame = connection.frame().await.unwrap();
        match frame.kind {
            http2::DATA if frame.stream == 3 => {
                let problem = String::from_utf8(frame.payload).unwrap();
                assert!(problem.contains("\"status\":403"), "{problem}");
                break;
            }
            http2::GOAWAY | http2::HEADERS | http2::PING | http2::WINDOW_UPDATE => {}
            _ => panic!("{frame:?}"),
        }
    }
    let metrics = Metrics::of(&sidecar).await;
    let rejected = [("requests", "certificate_ended"), ("connections", "certificate")];
    metrics.assert_rejected(&rejected.map(|rejection| (rejection, 1.0)));
}

/// Waits for GOAWAY, which has to say that nothing is wrong.
async fn goaway(connection: &mut Http2) {
    assert_eq!(connection.frame_of(http2::GOAWAY).await.error_code(), http2::NO_ERROR);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_1_2_and_1_3_are_spoken_and_nothing_older() {
    let (sidecar, _file) = sqlite_sidecar(&[]);
    for (version, expected) in
        [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)]
    {
        let tls = tls(&sidecar, &[version], Some(&sidecar.pki.client), HTTP1);
        let mut stream = connect(sidecar.endpoint, &tls).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(expected));
        assert!(exchange(&mut stream, &get_user()).await.starts_with("HTTP/1.1 200 "));
    }
    for (flag, name) in [("-tls1", "TLSv1"), ("-tls1_1", "TLSv1.1")] {
        // At its usual security level OpenSSL would refuse by itself.
        let openssl = |command: &str| {
            let mut openssl = Command::new(find("openssl", "openssl"));
            openssl.args([command, flag, "-cipher", "DEFAULT@SECLEVEL=0"]);
            openssl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            openssl
        };
        let client = |address: &str| {
            let mut client = openssl("s_client");
            client.args(["-brief", "-connect", address, "-cert"]);
            client.arg(&sidecar.pki.client.certificate);
            client.arg("-key").arg(&sidecar.pki.client.key);
            let output = output_of(client, "", PATIENCE);
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (connected, said) = client(&sidecar.endpoint.to_string());
        assert!(!connected && said.contains("SSL alert number"), "{name}: {said}");

        // The client could: another server takes it.
        let mut server = openssl("s_server");
        server.args(["-www", "-accept", "127.0.0.1:0", "-cert"]);
        server.arg(&sidecar.pki.server.certificate).arg("-key").arg(&sidecar.pki.server.key);
        let server = Process::start(server);
        let said = server.wait_for_stdout("ACCEPT ");
        let address = said.split("ACCEPT ").nth(1).unwrap().split_whitespace().next().unwrap();
        let (connected, said) = client(address);
        assert!(connected, "{name}: {said}");
        assert!(said.contains(&format!("Protocol version: {name}\n")), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_exchange_is_hybrid_post_quantum_with_a_client_that_offers_it() {
    let (sidecar, _file) = sqlite_sidecar(&[]);
    let tls = tls(&sidecar, BOTH, Some(&sidecar.pki.client), HTTP1);
    let stream = connect(sidecar.endpoint, &tls).await.unwrap();
    let group = stream.get_ref().1.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), NamedGroup::X25519MLKEM768);

    // And with one that does not know it, the classic half.
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups.retain(|group| group.name() == NamedGroup::X25519);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(sidecar.pki.authority.certificate()).unwrap()).unwrap();
    let classic = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::clone(&tls.client_auth_cert_resolver));
    let mut stream = connect(sidecar.endpoint, &classic).await.unwrap();
    let group = stream.get_ref().1.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), NamedGroup::X25519);
    assert!(exchange(&mut stream, &get_user()).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_early_data() {
    let (sidecar, _file) = sqlite_sidecar(&[]);
    let mut tls = tls(&sidecar, BOTH, Some(&sidecar.pki.client), HTTP1);
    tls.enable_early_data = true;
    let mut stream = connect(sidecar.endpoint, &tls).await.unwrap();
    assert!(exchange(&mut stream, &get_user()).await.starts_with("HTTP/1.1 200 "));

    let tcp = TcpStream::connect(sidecar.endpoint).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut offered = None;
    let mut stream =
        in_time(TlsConnector::from(Arc::new(tls)).connect_with(name, tcp, |session| {
            offered = Some(session.early_data().is_some());
        }))
        .await
        .unwrap();
    assert_eq!(offered, Some(false), "the ticket allows it");
    assert!(exchange(&mut stream, &get_user()).await.starts_with("HTTP/1.1 200 "));
    let session = stream.get_ref().1;
    assert_eq!(session.handshake_kind(), Some(HandshakeKind::Resumed));
    assert!(!session.is_early_data_accepted());
}

#[tokio::test(flavor = "multi_thread")]
async fn alpn_chooses_the_version_of_http() {
    let (sidecar, _file) = sqlite_sidecar(&[]);
    type Protocol = &'static [u8];
    let cases: [(&[Protocol], Option<Protocol>); 4] = [
        (&[b"h2"], Some(b"h2")),
        (&[b"http/1.1"], Some(b"http/1.1")),
        (&[b"http/1.1", b"h2"], Some(b"h2")),
        (&[], None),
    ];
    for (offered, expected) in cases {
        let tls = tls(&sidecar, BOTH, Some(&sidecar.pki.client), offered);
        let mut stream = connect(sidecar.endpoint, &tls).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), expected, "{offered:?}");
        if expected == Some(b"h2") {
            Http2::start(stream).await;
        } else {
            let reply = exchange(&mut stream, &get_user()).await;
            assert!(reply.starts_with("HTTP/1.1 200 "), "{offered:?}: {reply}");
        }
    }
    let other = tls(&sidecar, BOTH, Some(&sidecar.pki.client), &[b"spdy/3"]);
    let alert = refusal(sidecar.endpoint, &other).await;
    assert_eq!(alert, AlertDescription::NoApplicationProtocol);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_handshake_is_cut() {
    const LIMIT: Duration = Duration::from_millis(500);
    let (sidecar, _file) = sqlite_sidecar(&["--handshake-timeout", "500ms"]);
    // The head of a ClientHello, then nothing, or a byte now and then.
    for (start, drip) in
        [(&b""[..], false), (b"\x16\x03\x01\x10\x00", false), (b"\x16\x03\x01\x10\x00", true)]
    {
        let began = Instant::now();
        let mut tcp = TcpStream::connect(sidecar.endpoint).await.unwrap();
        tcp.write_all(start).await.unwrap();
        let (mut reader, mut writer) = tcp.split();
        let dripping = async {
            let byte = if drip { &b"\x01"[..] } else { b"" };
            while writer.write_all(byte).await.is_ok() {
                tokio::time::sleep(LIMIT / 10).await;
            }
            std::future::pending::<()>().await;
        };
        let mut bytes = Vec::new();
        tokio::select! {
            end = in_time(reader.read_to_end(&mut bytes)) => {
                // A peer whose bytes nobody read sees a reset; both are an end.
                assert!(matches!(end, Ok(0) | Err(_)), "{bytes:?}");
            }
            () = dripping => {}
        }
        assert!(began.elapsed() >= LIMIT, "cut after {:?}", began.elapsed());
        // The default would be 10 s.
        assert!(began.elapsed() < 10 * LIMIT, "cut after {:?}", began.elapsed());
    }
    sidecar.process.wait_for_log_lines("TLS handshake took too long", 3);
    // Whoever is in time is served for longer than that.
    let tls = tls(&sidecar, BOTH, Some(&sidecar.pki.client), HTTP1);
    let mut stream = connect(sidecar.endpoint, &tls).await.unwrap();
    tokio::time::sleep(2 * LIMIT).await;
    assert!(exchange(&mut stream, &get_user()).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_headers_are_cut_and_an_idle_connection_is_not_slow() {
    const HEADERS: Duration = Duration::from_millis(500);
    let options = ["--header-timeout", "500ms", "--idle-timeout", "60s"];
    let (sidecar, _file) = sqlite_sidecar(&options);
    let tls = tls(&sidecar, BOTH, Some(&sidecar.pki.client), HTTP1);
    let mut stream = connect(sidecar.endpoint, &tls).await.unwrap();
    for _ in 0..2 {
        tokio::time::sleep(3 * HEADERS).await;
        let reply = exchange(&mut stream, &get_user()).await;
        assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    }
    // Another request begins, and its headers never end.
    let began = Instant::now();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let dripping = async {
        let mut byte = b"POST / HTTP/1.1\r\nhost: localhost\r\nslow: ".as_slice();
        while writer.write_all(byte).await.is_ok() && writer.flush().await.is_ok() {
            byte = b"x";
            tokio::time::sleep(HEADERS / 10).await;
        }
        std::future::pending::<()>().await;
    };
    let mut bytes = Vec::new();
    tokio::select! {
        _ = in_time(reader.read_to_end(&mut bytes)) => {}
        () = dripping => {}
    }
    assert_eq!(bytes, b"", "no answer");
    assert!(began.elapsed() >= HEADERS, "cut after {:?}", began.elapsed());
    assert!(began.elapsed() < 10 * HEADERS, "cut after {:?}", began.elapsed());
    sidecar.process.wait_for_log("the headers of a request took too long");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_after_the_idle_timeout() {
    const IDLE: Duration = Duration::from_secs(2);
    let options = ["--header-timeout", "500ms", "--idle-timeout", "2s"];
    let (sidecar, _file) = sqlite_sidecar(&options);
    let http1 = tls(&sidecar, BOTH, Some(&sidecar.pki.client), HTTP1);
    let http2 = tls(&sidecar, BOTH, Some(&sidecar.pki.client), HTTP2);
    let used = async {
        let mut stream = connect(sidecar.endpoint, &http1).await.unwrap();
        exchange(&mut stream, &get_user()).await;
        let began = Instant::now();
        let (bytes, end) = rest(&mut stream).await;
        assert_eq!(bytes, b"");
        end.expect("closed in good order");
        began.elapsed()
    };
    let unused = async {
        let mut stream = connect(sidecar.endpoint, &http1).await.unwrap();
        let began = Instant::now();
        let (bytes, end) = rest(&mut stream).await;
        assert_eq!(bytes, b"");
        end.expect("closed in good order");
        began.elapsed()
    };
    let over_http2 = async {
        let mut connection = Http2::start(connect(sidecar.endpoint, &http2).await.unwrap()).await;
        let began = Instant::now();
        goaway(&mut connection).await;
        began.elapsed()
    };
    let (used, unused, over_http2) = tokio::join!(used, unused, over_http2);
    for (connection, idle) in [("used", used), ("unused", unused), ("HTTP/2", over_http2)] {
        // What the server counts begins a little before what is measured here.
        assert!(idle >= IDLE * 8 / 10, "{connection}: closed after {idle:?}");
        assert!(idle < IDLE * 5, "{connection}: closed after {idle:?}");
    }
}
