//! What operators see: probes, metrics, the log and the audit lines. `interface`, "Metrics".

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    faults::{Answer, Misbehaving},
    harness::{
        base64,
        certs::Leaf,
        client::{Client, admin, admin_with, new_user},
        database::Kind,
        email_address,
        metrics::{Metrics, wait_for_metrics},
        process::{Pki, Process, Sidecar, SqliteFile, program, run},
        stores::{StoreKind, sqlite_sidecar},
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn invocations_are_counted_by_action_and_outcome() {
    let running = StoreKind::Bundled(Kind::Sqlite).start(&[]);
    let client = running.client();
    let user = client.create_user(&email_address()).await;
    for _ in 0..3 {
        client.get_user(&user).await;
    }
    client.error_code("get_user", json!({ "user_id": "nobody" })).await;
    let metrics = Metrics::of(&running.sidecar).await;
    for (action, method, outcome, code, count) in [
        ("create_user", "CreateUser", "ok", "OK", 1.0),
        ("get_user", "GetUser", "ok", "OK", 3.0),
        ("get_user", "GetUser", "user_not_found", "NOT_FOUND", 1.0),
    ] {
        let labels = format!("action=\"{action}\",outcome=\"{outcome}\"");
        let name = format!("action_duration_seconds_count{{{labels}}}");
        assert_eq!(metrics.value(&name), count, "{name}");
        let labels = format!("code=\"{code}\",method=\"{method}\"");
        let name = format!("store_call_duration_seconds_count{{{labels}}}");
        assert_eq!(metrics.value(&name), count, "{name}");
    }
    assert_eq!(metrics.value("store_available"), 1.0);
    assert_eq!(metrics.value("in_flight_requests"), 0.0);
    assert_eq!(metrics.value("connections"), 1.0);
    assert_eq!(metrics.value("tls_handshakes_total{result=\"ok\"}"), 1.0);
    assert!(metrics.resident_memory() > 1e6);
    let [(build, 1.0)] = metrics.samples("build_info")[..] else { panic!("{metrics:?}") };
    assert!(build.contains(&format!("version=\"{}\"", env!("CARGO_PKG_VERSION"))), "{build}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_invoked_is_counted_by_reason() {
    let (sidecar, _file) = sqlite_sidecar(&["--max-body", "100", "--path", "/users"]);
    let client = sidecar.client();
    let stranger = sidecar.pki.authority.issue("stranger", Leaf::client(&["stranger"]));
    let stranger = Client::new(sidecar.endpoint, &sidecar.pki, Some(&stranger));
    let send = async |client: &Client, method: Method, path: &str, body: &str| {
        client.send(client.request(method, path, body.to_owned())).await.unwrap();
    };
    send(&client, Method::POST, "/", "{}").await;
    send(&client, Method::GET, "/users", "").await;
    send(&client, Method::POST, "/users", "{}").await;
    send(&client, Method::POST, "/users", &"x".repeat(101)).await;
    send(&stranger, Method::POST, "/users", "{}").await;
    let anonymous = Client::new(sidecar.endpoint, &sidecar.pki, None);
    assert!(anonymous.try_post("{}").await.is_err());

    let metrics = Metrics::of(&sidecar).await;
    for reason in ["path", "method", "bad_request", "max_body", "not_allowed"] {
        let name = format!("rejected_requests_total{{reason=\"{reason}\"}}");
        assert_eq!(metrics.value(&name), 1.0, "{name}");
    }
    assert_eq!(metrics.value("tls_handshakes_total{result=\"failed\"}"), 1.0);
    let invoked = metrics.samples("action_duration_seconds_count");
    assert!(invoked.iter().all(|(_, count)| *count == 0.0), "nothing was invoked: {invoked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_does_not_reach_the_store_is_counted() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let sidecar = Sidecar::start(&format!("grpc://{address}"), &[]);
    let body = json!({ "action": "get_user", "arguments": { "user_id": "1" } }).to_string();
    let reply = sidecar.client().post(body).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    let metrics = Metrics::of(&sidecar).await;
    metrics.assert_rejected(&[(("requests", "store_not_reached"), 1.0)]);
    assert_eq!(metrics.value("store_available"), 0.0);
    let called = "store_call_duration_seconds_count{code=\"UNAVAILABLE\",method=\"GetUser\"}";
    assert_eq!(metrics.value(called), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_breaks_the_contract_is_counted_by_check() {
    let (_store, address) = Misbehaving::start(|_| Answer::Nothing).await;
    let sidecar = Sidecar::ready(&format!("grpc://{address}"), &[]);
    let error = sidecar.client().error_code("get_user", json!({ "user_id": "1" })).await;
    assert_eq!(error, "internal_error");
    let metrics = Metrics::of(&sidecar).await;
    let violations = metrics.samples("store_contract_violations_total");
    let [(labels, 1.0)] = violations[..] else { panic!("{violations:?}") };
    assert!(labels.contains("method=\"GetUser\"") && labels.contains("check=\""), "{labels}");
}

/// No label is an address or an ID: their number would grow with the users, and they are nobody's
/// business.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_show_no_user() {
    let running = StoreKind::Bundled(Kind::Sqlite).start(&[]);
    let client = running.client();
    let email_address = email_address();
    let user = client.create_user(&email_address).await;
    client.get_user(&user).await;
    client.error_code("create_user", new_user(&email_address)).await;
    let text = admin(running.sidecar.admin, "/metrics").await.text().to_owned();
    for secret in [&*email_address, user["id"].as_str().unwrap(), "planted", "argon2id"] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_the_database_are_counted() {
    let running = StoreKind::Bundled(Kind::Sqlite).start(&[]);
    let client = running.client();
    let user = client.create_user(&email_address()).await;
    client.get_user(&user).await;
    // They are counted when the store is looked at.
    let what = "one for the schema, one for reads and one for writes";
    wait_for_metrics(&running.sidecar, what, |metrics| {
        metrics.value("db_pool_connections{state=\"idle\"}") == 3.0
    })
    .await;
}

/// One audit line for each change; none for what changed nothing.
#[tokio::test(flavor = "multi_thread")]
async fn each_change_to_a_user_has_an_audit_line() {
    let running = StoreKind::Bundled(Kind::Sqlite).start(&[]);
    let client = running.client();
    let email_address = email_address();
    let user = client.create_user(&email_address).await;
    let id = user["id"].as_str().unwrap();
    client.get_user(&user).await;
    client.error_code("create_user", new_user(&email_address)).await;
    client
        .values(
            "update_user_email_address",
            json!({
                "user_id": id,
                "email_address": crate::harness::email_address(),
                "user_email_address_counter": 0,
            }),
        )
        .await;
    let password = json!({
        "user_id": id,
        "password_hash": base64("planted other hash"),
        "password_hash_algorithm_id": "x",
        "password_salt": base64("planted other salt"),
        "user_password_hash_counter": 0,
    });
    client.values("update_user_password_hash", password.clone()).await;
    client.error_code("update_user_password_hash", password).await;
    let sessions = json!({ "user_id": id, "user_sessions_counter": 0 });
    client.values("increment_user_sessions_counter", sessions).await;
    client.values("delete_user", json!({ "user_id": id })).await;

    running.sidecar.process.wait_for_log("user deleted");
    let log = running.sidecar.process.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["target"] == "audit")
        .collect();
    let changes: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert_eq!(
        changes,
        [
            "user created",
            "email address changed",
            "password hash changed",
            "sessions ended",
            "user deleted"
        ]
    );
    for line in &lines {
        assert_eq!(line["user_id"], id, "{line}");
        assert_eq!(line["caller"], "faroe");
        assert_eq!(line["outcome"], "ok");
        assert_eq!(line["action_invocation_id"].as_str().unwrap().len(), 24);
    }
}

/// One line an invocation, and what it says. A read that succeeds is at a level of its own.
#[tokio::test(flavor = "multi_thread")]
async fn each_invocation_has_a_line() {
    let (sidecar, _file) = sqlite_sidecar(&[]);
    let client = sidecar.client();
    let lines = || -> Vec<Value> {
        let log = sidecar.process.log();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["message"] == "invoked").collect()
    };
    let create = json!({ "action": "create_user", "arguments": new_user(&email_address()) });
    let created = client.post(create.to_string()).await.json();
    let id = &created["values"]["user"]["id"];
    let get = |id: &Value| json!({ "action": "get_user", "arguments": { "user_id": id } });
    let found = client.post(get(id).to_string()).await.json();
    let missing = client.post(get(&json!("nobody")).to_string()).await.json();
    sidecar.process.wait_for_log_lines("\"invoked\"", 3);
    let expected = [
        ("INFO", "create_user", "ok", &created),
        ("DEBUG", "get_user", "ok", &found),
        ("INFO", "get_user", "user_not_found", &missing),
    ];
    let logged = lines();
    assert_eq!(logged.len(), expected.len(), "{logged:?}");
    for (line, (level, action, outcome, answer)) in logged.iter().zip(expected) {
        assert_eq!(line["level"], level, "{line}");
        assert_eq!(line["action"], action, "{line}");
        assert_eq!(line["outcome"], outcome, "{line}");
        assert_eq!(line["action_invocation_id"], answer["action_invocation_id"], "{line}");
        assert_eq!(line["caller"], "faroe", "{line}");
        let duration = line["duration_ms"].as_f64().unwrap();
        assert!(duration > 0.0 && duration < 60e3, "{line}");
    }

    // At the level of every day.
    admin_with(Method::PUT, sidecar.admin, "/log-level", "info").await;
    client.post(get(id).to_string()).await;
    client.post(get(&json!("nobody")).to_string()).await;
    sidecar.process.wait_for_log_lines("\"invoked\"", 4);
    let outcomes: Vec<_> = lines().iter().map(|line| line["outcome"].clone()).collect();
    assert_eq!(outcomes, ["ok", "ok", "user_not_found", "user_not_found"]);
}

/// For people.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_can_be_text() {
    let file = SqliteFile::new();
    let pki = Pki::new();
    let mut arguments = pki.serve_options(&file.url());
    let at = arguments.iter().position(|argument| argument == "json").unwrap();
    arguments[at] = "text".to_owned();
    let process = Process::start(program(arguments));
    let line = process.wait_for_log("listening");
    let (_, endpoint) = line.split_once("endpoint=").unwrap();
    let endpoint = endpoint.split_whitespace().next().unwrap().parse().unwrap();
    process.wait_for_log("the store is ready");
    let client = Client::new(endpoint, &pki, Some(&pki.client));
    let user = client.create_user(&email_address()).await;
    let line = process.wait_for_log("invoked");
    let parts = [" INFO ", "action=\"create_user\"", "outcome=\"ok\"", "caller=\"faroe\""];
    for part in parts {
        assert!(line.contains(part), "no {part:?}: {line}");
    }
    let line = process.wait_for_log("user created");
    assert!(line.contains(user["id"].as_str().unwrap()), "{line}");
    let log = process.log();
    assert!(!log.contains(['{', '\u{1b}']), "neither JSON nor colours:\n{log}");
}

/// A change of which nobody knows whether it was made has its line too.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_may_have_been_made_has_an_audit_line() {
    let (_store, address) = Misbehaving::start(|_| Answer::Hang).await;
    let url = format!("grpc://{address}");
    let sidecar = Sidecar::ready(&url, &["--store-timeout", "200ms"]);
    sidecar.client().error_code("delete_user", json!({ "user_id": "1" })).await;
    let line = sidecar.process.wait_for_log("user deleted");
    assert!(
        line.contains("\"outcome\":\"unknown\"") && line.contains("\"user_id\":\"1\""),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_listener_knows_its_paths_and_methods() {
    let (sidecar, _file) = sqlite_sidecar(&[]);
    for (method, path, status, allowed) in [
        (Method::GET, "/livez", 200, None),
        (Method::HEAD, "/readyz", 200, None),
        (Method::POST, "/readyz", 405, Some("GET, HEAD")),
        (Method::POST, "/metrics", 405, Some("GET, HEAD")),
        (Method::GET, "/drain", 405, Some("POST")),
        (Method::DELETE, "/log-level", 405, Some("GET, HEAD, PUT")),
        (Method::GET, "/", 404, None),
        (Method::GET, "/metrics/", 404, None),
    ] {
        let io = TokioIo::new(TcpStream::connect(sidecar.admin).await.unwrap());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder().method(method.clone()).uri(path).header("host", "x");
        let response =
            sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        assert_eq!(response.status(), status, "{method} {path}");
        let allow = response.headers().get("allow").map(|value| value.to_str().unwrap());
        assert_eq!(allow, allowed, "{method} {path}");
        response.into_body().collect().await.unwrap();
    }
    assert_eq!(admin(sidecar.admin, "/readyz").await.status, StatusCode::OK, "nothing was drained");
}

/// A page in a browser on the host could send it without asking.
#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_cannot_drain() {
    let (sidecar, _file) = sqlite_sidecar(&[]);
    let io = TokioIo::new(TcpStream::connect(sidecar.admin).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("/drain").header("host", "x").header("origin", "https://a.example");
    let response =
        sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(admin(sidecar.admin, "/readyz").await.status, StatusCode::OK);
}

#[test]
fn health_and_drain_take_wrong_addresses_for_wrong_usage() {
    for command in ["health", "drain"] {
        let output = run([command, "--admin-listen", "localhost:9090"]);
        assert_eq!(output.status.code(), Some(2), "{command}");
    }
}
