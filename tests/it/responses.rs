//! The bytes of every kind of response, over both versions of HTTP. `faroe-endpoint`, section 1;
//! `interface`, "HTTP errors".
//!
//! A response is compared as a whole: status, every header, and body. Only its `Date` and its
//! action invocation ID may differ from one time to the next.

use std::{convert::Infallible, pin::Pin};

use bytes::Bytes;
use http::{Method, Request, Uri};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use tokio::{net::TcpSocket, time::timeout};
use tokio_stream::{Stream, StreamExt as _};

use crate::harness::{
    base64,
    certs::Leaf,
    client::{Client, new_user},
    database::Kind,
    email_address,
    metrics::Metrics,
    process::{PATIENCE, Sidecar},
    stores::{Running, StoreKind, sqlite_sidecar},
};

/// Stands for an action invocation ID, and is as long.
const ID: &str = "<action invocation ID..>";

const ACTIONS: [&str; 7] = [
    "create_user",
    "get_user",
    "get_user_by_email_address",
    "update_user_email_address",
    "update_user_password_hash",
    "increment_user_sessions_counter",
    "delete_user",
];

const FORBIDDEN: &str = "the client certificate is valid, but no --allow-client entry names it";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

/// A test for each version of HTTP.
macro_rules! over_both_versions {
    ($($behaviour:ident),* $(,)?) => {$(
        mod $behaviour {
            use super::Version;

            #[tokio::test(flavor = "multi_thread")]
            async fn http1() {
                super::$behaviour(Version::Http1).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn http2() {
                super::$behaviour(Version::Http2).await;
            }
        }
    )*};
}

over_both_versions!(
    a_user_has_eleven_members_in_order,
    an_action_without_values_answers_an_empty_object,
    an_action_error_has_its_code,
    a_locked_database_is_an_internal_conflict,
    a_wrong_request_is_400,
    a_client_that_is_not_allowed_is_403_whatever_it_asks,
    another_path_is_404,
    another_method_is_405,
    the_answer_to_head_has_no_body,
    a_body_that_does_not_end_is_408,
    a_body_that_is_too_large_is_413,
    a_store_that_refuses_connections_is_503,
);

async fn a_user_has_eleven_members_in_order(version: Version) {
    let running = sqlite();
    let client = running.client();
    let address = email_address();
    let created = exchange(version, &client, "create_user", new_user(&address)).await;
    let id = running.database.dump().await;
    let id = text_of_hex(id.split('|').next().unwrap());
    let hash = base64("planted hash");
    let salt = base64("planted salt");
    assert_eq!(
        created,
        success(&format!(
            r#"{{"user":{{"id":"{id}","email_address":"{address}","password_hash":"{hash}","password_hash_algorithm_id":"argon2id.65536.3.1.32","password_salt":"{salt}","disabled":false,"display_name":"","email_address_counter":0,"password_hash_counter":0,"disabled_counter":0,"sessions_counter":0}}}}"#
        ))
    );

    // No two members of one value, so that none can stand in for another; and a text that needs
    // escapes.
    running
        .database
        .execute(
            "UPDATE users SET id = 'an \"id\"', password_hash = x'00ff', password_salt = x'', \
             password_hash_algorithm_id = 'an algorithm', disabled = 1, \
             display_name = 'Zoë \\ / ' || char(10, 1, 127, 8232, 128512), \
             email_address_counter = 1, password_hash_counter = 2, disabled_counter = 3, \
             sessions_counter = 2147483647",
        )
        .await;
    let expected = success(&format!(
        "{}{address}{}\u{7f}\u{2028}\u{1f600}{}",
        r#"{"user":{"id":"an \"id\"","email_address":""#,
        r#"","password_hash":"AP8=","password_hash_algorithm_id":"an algorithm","password_salt":"","disabled":true,"display_name":"Zoë \\ / \n\u0001"#,
        r#"","email_address_counter":1,"password_hash_counter":2,"disabled_counter":3,"sessions_counter":2147483647}}"#
    ));
    let by_id = exchange(version, &client, "get_user", json!({ "user_id": "an \"id\"" })).await;
    assert_eq!(by_id, expected);
    let arguments = json!({ "email_address": address });
    let by_address = exchange(version, &client, "get_user_by_email_address", arguments).await;
    assert_eq!(by_address, expected);
}

async fn an_action_without_values_answers_an_empty_object(version: Version) {
    let running = sqlite();
    let client = running.client();
    let user = client.create_user(&email_address()).await;
    for (action, arguments) in [
        ("update_user_email_address", email(&user["id"], 0, &email_address())),
        ("update_user_password_hash", password(&user["id"], 0)),
        ("increment_user_sessions_counter", sessions(&user["id"], 0)),
        ("delete_user", json!({ "user_id": user["id"] })),
    ] {
        assert_eq!(exchange(version, &client, action, arguments).await, success("{}"), "{action}");
    }
}

async fn an_action_error_has_its_code(version: Version) {
    let running = sqlite();
    let client = running.client();
    let taken = email_address();
    client.create_user(&taken).await;
    let user = client.create_user(&email_address()).await;
    let at_maximum = client.create_user(&email_address()).await;
    let changed = running
        .database
        .execute(&format!(
            "UPDATE users SET email_address_counter = 2147483647, \
             password_hash_counter = 2147483647, sessions_counter = 2147483647 WHERE id = '{}'",
            at_maximum["id"].as_str().unwrap()
        ))
        .await;
    assert_eq!(changed, 1);
    let before = running.database.dump().await;

    let absent = json!("planted absent ID");
    let maximum = i32::MAX;
    for (action, arguments, code) in [
        ("create_user", new_user(&taken), "email_address_already_used"),
        ("update_user_email_address", email(&user["id"], 0, &taken), "email_address_already_used"),
        ("get_user", json!({ "user_id": absent }), "user_not_found"),
        ("get_user_by_email_address", json!({ "email_address": absent }), "user_not_found"),
        ("update_user_email_address", email(&absent, 0, &email_address()), "user_not_found"),
        ("update_user_password_hash", password(&absent, 0), "user_not_found"),
        ("increment_user_sessions_counter", sessions(&absent, 0), "user_not_found"),
        ("delete_user", json!({ "user_id": absent }), "user_not_found"),
        (
            "update_user_email_address",
            email(&at_maximum["id"], maximum, &email_address()),
            "internal_error",
        ),
        ("update_user_password_hash", password(&at_maximum["id"], maximum), "internal_error"),
        ("increment_user_sessions_counter", sessions(&at_maximum["id"], maximum), "internal_error"),
    ] {
        let answer = exchange(version, &client, action, arguments.clone()).await;
        assert_eq!(answer, action_error(code), "{action} {arguments}");
    }
    assert_eq!(running.database.dump().await, before, "an error changes nothing");
}

/// Another program holds the write lock for longer than the sidecar waits for it.
async fn a_locked_database_is_an_internal_conflict(version: Version) {
    let running = StoreKind::Bundled(Kind::Sqlite).start(&["--store-timeout", "2s"]);
    let client = running.client();
    let user = client.create_user(&email_address()).await;
    let before = running.database.dump().await;
    let mut lock = SqliteConnection::connect(&running.database.url).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut lock).await.unwrap();

    let answer = exchange(version, &client, "create_user", new_user(&email_address())).await;
    assert_eq!(answer, action_error("internal_conflict"));
    assert_eq!(client.get_user(&user).await, user, "reads go on beside the lock");

    sqlx::raw_sql("ROLLBACK").execute(&mut lock).await.unwrap();
    assert_eq!(running.database.dump().await, before);
    let answer = exchange(version, &client, "delete_user", json!({ "user_id": user["id"] })).await;
    assert_eq!(answer, success("{}"), "the conflict was transient");
}

/// One of each kind; what else is wrong with requests has a table of its own.
async fn a_wrong_request_is_400(version: Version) {
    let (sidecar, _file) = sqlite_sidecar(&[]);
    for (body, detail) in [
        ("", "the request body is empty: send a JSON object with `action` and `arguments`"),
        ("planted", "the request body is not JSON: expected value at line 1 column 1"),
        ("\"planted\"", "the request body must be a JSON object"),
        (r#"{"arguments":{}}"#, "member `action` is missing"),
        (
            r#"{"action":"planted","arguments":{}}"#,
            "member `action` names no action that this endpoint knows",
        ),
        (
            r#"{"action":"get_user","arguments":{"user_id":["planted"]}}"#,
            "member `user_id` must be a string",
        ),
    ] {
        let answer = send(version, &sidecar.client(), "POST", "/", Body::whole(body)).await;
        assert_eq!(answer, problem("400 Bad Request", &[], detail), "{body}");
    }
}

/// The refusal comes before path, method and body are looked at, so that a stranger learns nothing
/// of any of them.
async fn a_client_that_is_not_allowed_is_403_whatever_it_asks(version: Version) {
    let (sidecar, _file) = sqlite_sidecar(&["--max-body", "1KiB", "--path", "/planted-path"]);
    let stranger = stranger(&sidecar);
    let right = json!({ "action": "get_user", "arguments": { "user_id": "planted" } }).to_string();
    for (method, path, body) in [
        ("POST", "/planted-path", Body::whole(right)),
        ("POST", "/planted-path", Body::whole("")),
        ("POST", "/planted-path", Body::whole("planted")),
        ("POST", "/planted-path", Body::whole([b'x'; 2000])),
        ("POST", "/planted-path", Body::Streamed(Bytes::from_static(&[b'x'; 2000]))),
        ("POST", "/planted-path", Body::Endless(Bytes::from_static(b"planted"))),
        ("GET", "/planted-path", Body::whole("")),
        ("POST", "/", Body::whole("{}")),
        ("DELETE", "/planted/other", Body::whole("planted")),
    ] {
        let caption = format!("{method} {path} {body:?}");
        let answer = send(version, &stranger, method, path, body).await;
        assert_eq!(answer, problem("403 Forbidden", &[], FORBIDDEN), "{caption}");
    }
}

async fn another_path_is_404(version: Version) {
    let running = StoreKind::Bundled(Kind::Sqlite).start(&["--path", "/faroe"]);
    let client = running.client();
    let user =
        client.send(create(&client, "/faroe")).await.unwrap().json()["values"]["user"].clone();
    let body =
        json!({ "action": "delete_user", "arguments": { "user_id": user["id"] } }).to_string();
    let before = running.database.dump().await;
    for path in
        ["/", "/faroe/", "/Faroe", "//faroe", "/faroe/planted", "/planted?/faroe", "/f%61roe"]
    {
        // The path is looked at before the method and before the body.
        for (method, body) in [("POST", body.as_str()), ("GET", ""), ("PUT", "planted")] {
            let answer = send(version, &client, method, path, Body::whole(body)).await;
            let expected = problem("404 Not Found", &[], "the endpoint is at another path");
            assert_eq!(answer, expected, "{method} {path}");
        }
    }
    assert_eq!(running.database.dump().await, before);
    // A query carries no meaning.
    let answer = send(version, &client, "POST", "/faroe?planted=1", Body::whole(body)).await;
    assert_eq!(answer, success("{}"));
}

async fn another_method_is_405(version: Version) {
    let running = sqlite();
    let client = running.client();
    let user = client.create_user(&email_address()).await;
    let before = running.database.dump().await;
    let delete = json!({ "action": "delete_user", "arguments": { "user_id": user["id"] } });
    let expected = problem(
        "405 Method Not Allowed",
        &[("allow", "POST")],
        "action invocations are sent with POST",
    );
    for method in ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "PLANTED", "post"] {
        for body in [String::new(), delete.to_string()] {
            let answer = send(version, &client, method, "/", Body::whole(body)).await;
            assert_eq!(answer, expected, "{method}");
        }
    }
    assert_eq!(running.database.dump().await, before);
}

/// The head is that of a GET; a body after it would break the protocol.
async fn the_answer_to_head_has_no_body(version: Version) {
    let (sidecar, _file) = sqlite_sidecar(&[]);
    let of_version = |client: Client| match version {
        Version::Http1 => client.http1(),
        Version::Http2 => client,
    };
    for (client, path, status) in [
        (of_version(sidecar.client()), "/", 405),
        (of_version(sidecar.client()), "/planted", 404),
        (of_version(stranger(&sidecar)), "/", 403),
    ] {
        let get = client.send(client.request(Method::GET, path, "")).await.unwrap();
        let head = client.send(client.request(Method::HEAD, path, "")).await.unwrap();
        assert_eq!((head.status.as_u16(), head.text()), (status, ""));
        assert_ne!(get.text(), "");
        for name in ["content-type", "content-length", "allow"] {
            assert_eq!(head.header(name), get.header(name), "{path} {name}");
        }
    }
    let metrics = Metrics::of(&sidecar).await;
    assert_eq!(metrics.rejected(("connections", "header_size")), 0.0, "not taken for a bare 431");
}

async fn a_body_that_does_not_end_is_408(version: Version) {
    let (sidecar, _file) = sqlite_sidecar(&["--request-timeout", "300ms"]);
    // A whole action invocation is no reason to go on: more could follow.
    let invocation = r#"{"action":"get_user","arguments":{"user_id":"planted"}}"#;
    for sent in ["", "{\"planted", invocation] {
        let body = Body::Endless(Bytes::from_static(sent.as_bytes()));
        let answer = send(version, &sidecar.client(), "POST", "/", body).await;
        let detail = "the request did not arrive whole within 300ms";
        assert_eq!(answer, problem("408 Request Timeout", &[], detail), "after {sent:?}");
    }
}

async fn a_body_that_is_too_large_is_413(version: Version) {
    let (sidecar, _file) = sqlite_sidecar(&["--max-body", "1KiB"]);
    let client = sidecar.client();
    let too_large =
        problem("413 Payload Too Large", &[], "the request body is larger than 1024 bytes");
    let invocation = |length: usize| {
        let mut body = br#"{"action":"get_user","arguments":{"user_id":"planted"}}"#.to_vec();
        body.resize(length, b' ');
        Bytes::from(body)
    };
    for (length, expected) in [
        (1024, action_error("user_not_found")),
        (1025, too_large.clone()),
        (100_000, too_large.clone()),
    ] {
        for body in [Body::Whole(invocation(length)), Body::Streamed(invocation(length))] {
            let answer = send(version, &client, "POST", "/", body.clone()).await;
            assert_eq!(answer, expected, "{length} {body:?}");
        }
    }
    // It does not wait for the end of what is too large already.
    let answer = send(version, &client, "POST", "/", Body::Endless(invocation(1025))).await;
    assert_eq!(answer, too_large);
}

async fn a_store_that_refuses_connections_is_503(version: Version) {
    // Bound and not listening: nobody else gets the port, and nobody answers there.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let store = format!("grpc://{}", socket.local_addr().unwrap());
    let sidecar = Sidecar::start(&store, &["--store-timeout", "500ms"]);
    let client = sidecar.client();
    let id = json!("planted ID");
    for action in ACTIONS {
        let arguments = match action {
            "create_user" => new_user(&email_address()),
            "get_user_by_email_address" => json!({ "email_address": email_address() }),
            "update_user_email_address" => email(&id, 0, &email_address()),
            "update_user_password_hash" => password(&id, 0),
            "increment_user_sessions_counter" => sessions(&id, 0),
            _ => json!({ "user_id": id }),
        };
        let expected = problem(
            "503 Service Unavailable",
            &[("retry-after", "1")],
            "the user store could not be reached; nothing was changed",
        );
        assert_eq!(exchange(version, &client, action, arguments).await, expected, "{action}");
    }
    // A wrong request is wrong whether or not there is a store.
    let answer = exchange(version, &client, "get_user", json!({})).await;
    assert_eq!(answer, problem("400 Bad Request", &[], "member `user_id` is missing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_header_of_a_request_carries_meaning() {
    let running = sqlite();
    let user = running.client().create_user(&email_address()).await;
    let body = json!({ "action": "get_user", "arguments": { "user_id": user["id"] } }).to_string();
    for client in [running.client(), running.client().http1()] {
        let mut answers = Vec::new();
        for headers in [
            &[][..],
            &[("content-type", "application/json")],
            &[("content-type", "application/json; charset=utf-16")],
            &[("content-type", "text/plain")],
            &[("content-type", "multipart/form-data; boundary=planted")],
            &[("content-type", "application/json"), ("content-type", "text/html")],
            &[("content-type", "")],
            &[("accept", "text/html"), ("accept-encoding", "gzip"), ("origin", "https://planted")],
            &[("content-encoding", "identity"), ("authorization", "Bearer planted")],
            &[("x-http-method-override", "DELETE"), ("range", "bytes=0-1")],
        ] {
            let mut request = client.request(Method::POST, "/", body.clone());
            for (name, value) in headers {
                request.headers_mut().append(*name, value.parse().unwrap());
            }
            let reply = client.send(request).await.unwrap();
            assert_eq!(reply.status, 200, "{headers:?}: {}", reply.text());
            assert_eq!(reply.json()["values"]["user"], user, "{headers:?}");
            assert_eq!(reply.header("content-type"), Some("application/json"), "{headers:?}");
            answers.push(reply.text().to_owned());
        }
        let ids: std::collections::HashSet<String> = answers
            .iter()
            .map(|answer| {
                let json: Value = serde_json::from_str(answer).unwrap();
                json["action_invocation_id"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(ids.len(), answers.len(), "every invocation has an ID of its own");
        answers.iter_mut().for_each(|answer| *answer = without_id(answer));
        answers.dedup();
        assert_eq!(answers.len(), 1, "and nothing else differs");
    }
}

/// A connection that is closed with something unread is reset, and a reset overtakes the answer.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_wait_for_a_large_body_still_arrives() {
    const BODY: usize = 900 << 10;
    const EACH: usize = 67;
    let (sidecar, _file) = sqlite_sidecar(&[]);
    let allowed = sidecar.client();
    let stranger = stranger(&sidecar);
    let forbidden = problem("403 Forbidden", &[], FORBIDDEN);
    let not_found = problem("404 Not Found", &[], "the endpoint is at another path");
    let too_large =
        problem("413 Payload Too Large", &[], "the request body is larger than 65536 bytes");

    let many = async |client: &Client, path: &str, expected: &str| {
        for number in 0..EACH {
            let body = Bytes::from(vec![b'x'; BODY]);
            let body = match number % 3 {
                0 => Body::Whole(body),
                1 => Body::Streamed(body),
                _ => Body::Impatient(body),
            };
            let caption = format!("request {number}, {body:?}");
            let answer = send(Version::Http1, client, "POST", path, body).await;
            assert_eq!(answer, expected, "{caption}");
        }
    };
    tokio::join!(
        many(&stranger, "/", &forbidden),
        many(&allowed, "/other", &not_found),
        many(&allowed, "/", &too_large),
    );
}

/// A client is told, so that it sends its next request on another connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_with_an_unread_body_is_closed_and_says_so() {
    let (sidecar, _file) = sqlite_sidecar(&[]);
    let client = sidecar.client();
    let mut connection = client.raw_http1().await;
    for wrong in ["GET / HTTP/1.1\r\nHost: x", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0"] {
        connection.write(format!("{wrong}\r\n\r\n")).await.unwrap();
        let (head, _) = connection.response().await.unwrap();
        assert!(!head.contains("connection: close"), "nothing is left unread: {head}");
    }
    let post = "POST /other HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
    connection.write(post).await.unwrap();
    let (head, _) = connection.response().await.unwrap();
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
    assert!(connection.response().await.is_err(), "it is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_100_continue_gets_it_only_if_its_body_is_wanted() {
    let (sidecar, _file) = sqlite_sidecar(&[]);
    let allowed = sidecar.client();
    let stranger = stranger(&sidecar);
    let head = |method: &str, path: &str, length: usize| {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
             Content-Length: {length}\r\n\r\n"
        )
    };
    for (client, method, path, length, expected) in [
        (&stranger, "POST", "/", 20, problem("403 Forbidden", &[], FORBIDDEN)),
        (
            &allowed,
            "POST",
            "/other",
            20,
            problem("404 Not Found", &[], "the endpoint is at another path"),
        ),
        (
            &allowed,
            "PUT",
            "/",
            20,
            problem(
                "405 Method Not Allowed",
                &[("allow", "POST")],
                "action invocations are sent with POST",
            ),
        ),
        (
            &allowed,
            "POST",
            "/",
            65_537,
            problem("413 Payload Too Large", &[], "the request body is larger than 65536 bytes"),
        ),
    ] {
        // More than once, for the 100 must not come in a race with the answer either.
        for _ in 0..10 {
            let mut connection = client.raw_http1().await;
            connection.write(head(method, path, length)).await.unwrap();
            let (head, body) = connection.response().await.unwrap();
            assert_eq!(http1_answer(&head, &body), expected, "{method} {path} {length}");
        }
    }

    let body = r#"{"action":"get_user","arguments":{"user_id":"planted"}}"#;
    let mut connection = allowed.raw_http1().await;
    connection.write(head("POST", "/", body.len())).await.unwrap();
    let (interim, _) = connection.response().await.unwrap();
    assert_eq!(interim, "HTTP/1.1 100 Continue\r\n\r\n");
    connection.write(body).await.unwrap();
    let (head, body) = connection.response().await.unwrap();
    assert_eq!(http1_answer(&head, &body), action_error("user_not_found"));
}

/// Over HTTP/1.1 only: on HTTP/2 nobody is left to be answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_shorter_than_announced_is_400() {
    let running = sqlite();
    let client = running.client();
    let user = client.create_user(&email_address()).await;
    let before = running.database.dump().await;
    // What did arrive would be a whole action invocation.
    let body =
        json!({ "action": "delete_user", "arguments": { "user_id": user["id"] } }).to_string();
    let length = body.len();
    for request in [
        format!("Content-Length: {}\r\n\r\n{body}", length + 1),
        format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n"),
    ] {
        let mut connection = client.raw_http1().await;
        connection.write(format!("POST / HTTP/1.1\r\nHost: localhost\r\n{request}")).await.unwrap();
        connection.finish_writing().await.unwrap();
        let (head, body) = connection.response().await.unwrap();
        let detail = "the request body ended before it was complete";
        assert_eq!(http1_answer(&head, &body), problem("400 Bad Request", &[], detail));
    }
    assert_eq!(running.database.dump().await, before);
}

fn sqlite() -> Running {
    StoreKind::Bundled(Kind::Sqlite).start(&[])
}

/// A client with a valid certificate that no `--allow-client` entry names.
fn stranger(sidecar: &Sidecar) -> Client {
    let identity = sidecar.pki.authority.issue("stranger", Leaf::client(&["stranger"]));
    Client::new(sidecar.endpoint, &sidecar.pki, Some(&identity))
}

fn create(client: &Client, path: &str) -> Request<http_body_util::Full<Bytes>> {
    let body = json!({ "action": "create_user", "arguments": new_user(&email_address()) });
    client.request(Method::POST, path, body.to_string())
}

fn email(id: &Value, counter: i32, address: &str) -> Value {
    json!({ "user_id": id, "email_address": address, "user_email_address_counter": counter })
}

fn password(id: &Value, counter: i32) -> Value {
    json!({
        "user_id": id,
        "password_hash": base64("another planted hash"),
        "password_hash_algorithm_id": "another",
        "password_salt": base64("another planted salt"),
        "user_password_hash_counter": counter,
    })
}

fn sessions(id: &Value, counter: i32) -> Value {
    json!({ "user_id": id, "user_sessions_counter": counter })
}

fn text_of_hex(hex: &str) -> String {
    let bytes = hex
        .as_bytes()
        .chunks(2)
        .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap());
    String::from_utf8(bytes.collect()).unwrap()
}

/// How a request's body is sent.
#[derive(Clone)]
enum Body {
    /// With its length ahead of it.
    Whole(Bytes),
    /// The same with `Expect: 100-continue`, for which the client does not wait.
    Impatient(Bytes),
    /// Without; it ends where it ends.
    Streamed(Bytes),
    /// Without, and what is there is not the end.
    Endless(Bytes),
}

impl Body {
    fn whole(bytes: impl AsRef<[u8]>) -> Self {
        Self::Whole(Bytes::copy_from_slice(bytes.as_ref()))
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(bytes) => write!(f, "Whole({} bytes)", bytes.len()),
            Self::Impatient(bytes) => write!(f, "Impatient({} bytes)", bytes.len()),
            Self::Streamed(bytes) => write!(f, "Streamed({} bytes)", bytes.len()),
            Self::Endless(bytes) => write!(f, "Endless({} bytes)", bytes.len()),
        }
    }
}

/// Invokes an action; the answer as [`answer`] has it.
async fn exchange(version: Version, client: &Client, action: &str, arguments: Value) -> String {
    let body = json!({ "action": action, "arguments": arguments }).to_string();
    send(version, client, "POST", "/", Body::whole(body)).await
}

/// Sends a request; the answer as [`answer`] has it.
async fn send(version: Version, client: &Client, method: &str, path: &str, body: Body) -> String {
    let answer = async {
        match version {
            Version::Http1 => send_http1(client, method, path, body).await,
            Version::Http2 => send_http2(client, method, path, body).await,
        }
    };
    timeout(PATIENCE, answer).await.expect("an answer")
}

async fn send_http1(client: &Client, method: &str, path: &str, body: Body) -> String {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
    let (bytes, chunked, ends) = match &body {
        Body::Whole(bytes) => (bytes, false, true),
        Body::Impatient(bytes) => {
            request.extend_from_slice(b"Expect: 100-continue\r\n");
            (bytes, false, true)
        }
        Body::Streamed(bytes) => (bytes, true, true),
        Body::Endless(bytes) => (bytes, true, false),
    };
    if chunked {
        request.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        if !bytes.is_empty() {
            request.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
            request.extend_from_slice(bytes);
            request.extend_from_slice(b"\r\n");
        }
        if ends {
            request.extend_from_slice(b"0\r\n\r\n");
        }
    } else {
        request.extend_from_slice(format!("Content-Length: {}\r\n\r\n", bytes.len()).as_bytes());
        request.extend_from_slice(bytes);
    }
    let mut connection = client.raw_http1().await;
    connection.write(request).await.unwrap();
    let (head, body) = connection.response().await.unwrap();
    http1_answer(&head, &body)
}

async fn send_http2(client: &Client, method: &str, path: &str, body: Body) -> String {
    type Frames = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>;

    let uri = Uri::builder().scheme("https").authority("localhost").path_and_query(path);
    let mut request = Request::builder().method(method).uri(uri.build().unwrap());
    let frame = |bytes: Bytes| tokio_stream::once(Ok(Frame::data(bytes)));
    let frames: Frames = match body {
        Body::Whole(bytes) => {
            request = request.header("content-length", bytes.len());
            Box::pin(frame(bytes))
        }
        Body::Impatient(bytes) => {
            request =
                request.header("content-length", bytes.len()).header("expect", "100-continue");
            Box::pin(frame(bytes))
        }
        Body::Streamed(bytes) => Box::pin(frame(bytes)),
        Body::Endless(bytes) => Box::pin(frame(bytes).chain(tokio_stream::pending())),
    };
    let io = TokioIo::new(client.connect().await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = request.body(StreamBody::new(frames)).unwrap();
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    connection.abort();
    let headers =
        parts.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
    answer(&parts.status.to_string(), headers, std::str::from_utf8(&body).unwrap())
}

/// [`answer`] of a response of HTTP/1.1.
fn http1_answer(head: &str, body: &[u8]) -> String {
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().unwrap().strip_prefix("HTTP/1.1 ").unwrap();
    let headers = lines
        .map(|line| line.split_once(": ").unwrap())
        // What is left unread ends with the connection: a test of its own.
        .filter(|header| *header != ("connection", "close"));
    answer(status, headers, std::str::from_utf8(body).unwrap())
}

/// A response as one text, in which only what varies is left out: the value of `date`, and the
/// action invocation ID.
fn answer<'a>(
    status: &str,
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    body: &str,
) -> String {
    let (dates, headers): (Vec<_>, Vec<_>) =
        headers.into_iter().partition(|(name, _)| *name == "date");
    assert!(
        matches!(dates[..], [(_, date)] if date.len() == 29 && date.ends_with(" GMT")),
        "{dates:?}"
    );
    text(status, headers, &without_id(body))
}

fn text(status: &str, mut headers: Vec<(&str, &str)>, body: &str) -> String {
    headers.sort_unstable();
    let headers: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    format!("{status}\n{headers}\n{body}")
}

/// The body with [`ID`] in the place of an ID that is one.
fn without_id(body: &str) -> String {
    const NAME: &str = r#""action_invocation_id":""#;
    let Some(start) = body.find(NAME).map(|at| at + NAME.len()) else { return body.to_owned() };
    let id: String = body[start..].chars().take_while(|character| *character != '"').collect();
    assert_eq!(id.len(), 24, "{id}");
    assert!(
        id.chars().all(|character| "abcdefghjkmnopqrstuvwxyz23456789".contains(character)),
        "{id}"
    );
    body.replacen(&id, ID, 1)
}

/// What an action that succeeded answers.
fn success(values: &str) -> String {
    ok(&format!(r#"{{"ok":true,"action_invocation_id":"{ID}","values":{values}}}"#))
}

/// What an action that failed answers.
fn action_error(code: &str) -> String {
    ok(&format!(r#"{{"ok":false,"action_invocation_id":"{ID}","error_code":"{code}"}}"#))
}

fn ok(body: &str) -> String {
    let length = body.len().to_string();
    let headers = vec![("content-type", "application/json"), ("content-length", &length)];
    text("200 OK", headers, body)
}

/// What is answered where nothing was invoked.
fn problem(status: &str, headers: &[(&str, &str)], detail: &str) -> String {
    let (number, title) = status.split_once(' ').unwrap();
    let body = format!(r#"{{"title":"{title}","status":{number},"detail":"{detail}"}}"#);
    let length = body.len().to_string();
    let mut all = vec![("content-type", "application/problem+json"), ("content-length", &length)];
    all.extend(headers);
    text(status, all, &body)
}
