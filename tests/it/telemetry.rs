//! Traces, as a collector receives them, and the log level while the program runs. README,
//! "Traces" and "Log".

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use faroe_sidecar::{
    proto::user_store_server::UserStoreServer,
    store::sql::{self, SqlStore},
};
use http::{HeaderMap, Method, StatusCode};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value},
    trace::v1::{Span, span::SpanKind, status::StatusCode as SpanStatus},
};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status, async_trait,
    transport::{Identity, Server, ServerTlsConfig},
};
use uuid::Uuid;

use crate::harness::{
    PLANTED, base64,
    certs::Leaf,
    client::{Client, Reply, admin, admin_with, new_user},
    database::{Kind, find},
    email_address, on_every_database,
    process::{PATIENCE, Pki, Process, Sidecar, SqliteFile, output_of, program, run},
};

/// A collector, as OpenTelemetry has them. No planted secret may ever reach it.
struct Collector {
    url: String,
    received: watch::Sender<Received>,
}

#[derive(Default)]
struct Received {
    spans: Vec<Span>,
    resource: Vec<KeyValue>,
    everything: String,
}

struct Receiver(watch::Sender<Received>);

#[async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let request = request.into_inner();
        self.0.send_modify(|received| {
            received.everything.push_str(&format!("{request:?}\n"));
            for resource_spans in request.resource_spans {
                received.resource = resource_spans.resource.unwrap().attributes;
                let spans = resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans);
                received.spans.extend(spans);
            }
        });
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> Self {
        Self::start_on(Server::builder(), "http://127.0.0.1").await
    }

    async fn start_on(mut server: Server, host: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{host}:{}", listener.local_addr().unwrap().port());
        let received = watch::Sender::default();
        let service = TraceServiceServer::new(Receiver(received.clone()));
        tokio::spawn(
            server.add_service(service).serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Self { url, received }
    }

    /// Waits for so many spans of a trace, and gives them in the order in which they began.
    async fn spans(&self, trace: &Trace, count: usize) -> Vec<Span> {
        let of_trace = |received: &Received| {
            let mut spans = received.spans.clone();
            spans.retain(|span| hex(&span.trace_id) == trace.id);
            spans.sort_by_key(|span| span.start_time_unix_nano);
            spans
        };
        let mut received = self.received.subscribe();
        let arrived = received.wait_for(|received| of_trace(received).len() >= count);
        let arrived = timeout(PATIENCE, arrived).await.expect("the spans do not arrive");
        let spans = of_trace(&arrived.unwrap());
        assert_eq!(spans.len(), count, "{spans:#?}");
        spans
    }

    /// The span of a request and that of its call of the store, as parent and child.
    async fn request_and_call(&self, trace: &Trace) -> [Span; 2] {
        let spans: [Span; 2] = self.spans(trace, 2).await.try_into().unwrap();
        let [request, call] = &spans;
        assert_eq!(hex(&request.parent_span_id), PARENT);
        assert_eq!(call.parent_span_id, request.span_id);
        assert!(call.end_time_unix_nano <= request.end_time_unix_nano, "{spans:#?}");
        spans
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let everything = &self.received.borrow().everything;
            for secret in [PLANTED, &base64("planted hash"), &base64("planted salt")] {
                assert!(!everything.contains(secret), "a planted secret in a trace: {everything}");
            }
        }
    }
}

/// A trace that began before the sidecar.
struct Trace {
    id: String,
    sampled: bool,
}

/// The span within which the caller calls.
const PARENT: &str = "b7ad6b7169203331";

impl Trace {
    fn new() -> Self {
        Self { id: Uuid::now_v7().simple().to_string(), sampled: true }
    }

    fn unsampled() -> Self {
        Self { sampled: false, ..Self::new() }
    }

    /// The header with which this span continues it.
    fn parent(&self, span: &str) -> String {
        format!("00-{}-{span}-0{}", self.id, u8::from(self.sampled))
    }

    /// Invokes an action within it.
    async fn invoke(&self, client: &Client, action: &str, arguments: Value) -> Reply {
        let body = json!({ "action": action, "arguments": arguments }).to_string();
        self.send(client, Method::POST, "/", body).await
    }

    async fn send(&self, client: &Client, method: Method, path: &str, body: String) -> Reply {
        let mut request = client.request(method, path, body);
        request.headers_mut().insert("traceparent", self.parent(PARENT).parse().unwrap());
        request.headers_mut().insert("tracestate", "vendor=its-own".parse().unwrap());
        client.send(request).await.unwrap()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The attributes as text, sorted.
fn attributes(attributes: &[KeyValue]) -> Vec<(&str, String)> {
    let text = |attribute: &KeyValue| match attribute.value.clone().unwrap().value.unwrap() {
        any_value::Value::StringValue(text) => text,
        any_value::Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    let mut attributes: Vec<_> =
        attributes.iter().map(|attribute| (attribute.key.as_str(), text(attribute))).collect();
    attributes.sort();
    attributes
}

fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = attributes(&span.attributes).into_iter().find(|(name, _)| *name == key);
    found.map(|(_, value)| value)
}

fn has_failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == SpanStatus::Error)
}

/// A sidecar, ready, that sends its traces to a collector at once.
fn traced(url: &str, store: &str, environment: &[(&str, &str)]) -> Sidecar {
    let pki = Arc::new(Pki::new());
    let mut command = program(pki.serve_options(store));
    command.args(["--otlp-endpoint", url]);
    command.env("OTEL_BSP_SCHEDULE_DELAY", "50").envs(environment.iter().copied());
    let sidecar = Sidecar::of_process(Process::start(command), pki);
    sidecar.wait_until_ready();
    sidecar
}

/// A gRPC store that keeps the metadata of the calls that it receives.
struct Store {
    address: SocketAddr,
    calls: Arc<Mutex<Vec<HeaderMap>>>,
    file: SqliteFile,
}

impl Store {
    async fn start() -> Self {
        let file = SqliteFile::new();
        let config = sql::Config { max_connections: None, store_timeout: PATIENCE };
        let store = SqlStore::open(&sql::Url::Sqlite(file.path.clone()), &config).unwrap();
        store.migrate_up().await.unwrap();
        let calls = Arc::<Mutex<Vec<HeaderMap>>>::default();
        let keeper = Arc::clone(&calls);
        let service = UserStoreServer::with_interceptor(store, move |request: Request<()>| {
            keeper.lock().unwrap().push(request.metadata().clone().into_headers());
            Ok(request)
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Self { address, calls, file }
    }

    fn url(&self) -> String {
        format!("grpc://{}", self.address)
    }

    /// A header of the newest call.
    fn header(&self, name: &str) -> Option<String> {
        let calls = self.calls.lock().unwrap();
        calls.last().unwrap().get(name).map(|value| value.to_str().unwrap().to_owned())
    }
}

/// An address that nobody listens on.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_from_the_caller_through_the_sidecar_to_a_grpc_store() {
    let collector = Collector::start().await;
    let store = Store::start().await;
    let sidecar = traced(&collector.url, &store.url(), &[]);
    let client = sidecar.client();
    for (action, method, arguments) in [
        ("create_user", "CreateUser", new_user(&email_address())),
        ("get_user", "GetUser", json!({ "user_id": "1" })),
    ] {
        let trace = Trace::new();
        let answer = trace.invoke(&client, action, arguments).await.json();
        let [request, call] = collector.request_and_call(&trace).await;

        let of_store = store.header("traceparent");
        assert_eq!(of_store.as_deref(), Some(&*trace.parent(&hex(&call.span_id))));
        assert_eq!(store.header("tracestate").as_deref(), Some("vendor=its-own"));

        let is_found = answer["ok"] == true;
        let outcome = if is_found { "ok" } else { "user_not_found" };
        assert_eq!((request.kind(), request.name.as_str()), (SpanKind::Server, "POST /"));
        assert_eq!(
            attributes(&request.attributes),
            [
                ("client.address", "127.0.0.1".to_owned()),
                ("faroe.action", action.to_owned()),
                (
                    "faroe.action_invocation_id",
                    answer["action_invocation_id"].as_str().unwrap().to_owned()
                ),
                ("faroe.outcome", outcome.to_owned()),
                ("http.request.method", "POST".to_owned()),
                ("http.response.status_code", "200".to_owned()),
                ("http.route", "/".to_owned()),
                ("network.protocol.version", "2".to_owned()),
                ("url.path", "/".to_owned()),
                ("url.scheme", "https".to_owned()),
            ]
        );
        assert!(!has_failed(&request), "that a user is not there is no fault of the sidecar");

        let name = format!("faroe.userstore.v1.UserStore/{method}");
        assert_eq!((call.kind(), call.name), (SpanKind::Client, name));
        let mut expected = vec![
            ("rpc.grpc.status_code", if is_found { "0" } else { "5" }.to_owned()),
            ("rpc.method", method.to_owned()),
            ("rpc.service", "faroe.userstore.v1.UserStore".to_owned()),
            ("rpc.system", "grpc".to_owned()),
            ("server.address", "127.0.0.1".to_owned()),
            ("server.port", store.address.port().to_string()),
        ];
        if !is_found {
            expected.insert(0, ("error.type", "NOT_FOUND".to_owned()));
        }
        assert_eq!(attributes(&call.attributes), expected);

        let line = sidecar.process.wait_for_log(&format!("\"trace_id\":\"{}\"", trace.id));
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["message"], &line["action"]), (&json!("invoked"), &json!(action)));
        assert_eq!((line.get("span"), line.get("spans")), (None, None), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_trace_begins_one() {
    let collector = Collector::start().await;
    let store = Store::start().await;
    let sidecar = traced(&collector.url, &store.url(), &[]);
    sidecar.client().error_code("get_user", json!({ "user_id": "1" })).await;
    let parent = store.header("traceparent").unwrap();
    let trace = Trace { id: parent.split('-').nth(1).unwrap().to_owned(), sampled: true };
    let spans = collector.spans(&trace, 2).await;
    assert!(spans[0].parent_span_id.is_empty());
    assert_eq!(spans[1].parent_span_id, spans[0].span_id);
    assert_eq!(parent, trace.parent(&hex(&spans[1].span_id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_caller_does_not_sample_is_not_sent_and_still_goes_on_to_the_store() {
    let collector = Collector::start().await;
    let store = Store::start().await;
    let sidecar = traced(&collector.url, &store.url(), &[]);
    let client = sidecar.client();
    let unsampled = Trace::unsampled();
    unsampled.invoke(&client, "get_user", json!({ "user_id": "1" })).await;
    let parent = store.header("traceparent").unwrap();
    assert!(parent.starts_with(&format!("00-{}-", unsampled.id)), "{parent}");
    assert!(parent.ends_with("-00"), "{parent}");
    // Whatever there was of it would have come before this one.
    let sampled = Trace::new();
    sampled.invoke(&client, "get_user", json!({ "user_id": "1" })).await;
    collector.spans(&sampled, 2).await;
    collector.spans(&unsampled, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_a_trace_goes_through_as_it_is() {
    let store = Store::start().await;
    let sidecar = Sidecar::ready(&store.url(), &[]);
    let client = sidecar.client();
    for (action, arguments) in
        [("create_user", new_user(&email_address())), ("get_user", json!({ "user_id": "1" }))]
    {
        let trace = Trace::new();
        trace.invoke(&client, action, arguments).await;
        assert_eq!(store.header("traceparent"), Some(trace.parent(PARENT)));
        assert_eq!(store.header("tracestate").as_deref(), Some("vendor=its-own"));
        client.error_code("get_user", json!({ "user_id": "1" })).await;
        assert_eq!(store.header("traceparent"), None, "another request is not of that trace");
    }
    sidecar.process.wait_for_log_lines("\"invoked\"", 4);
    assert!(!sidecar.process.log().contains("trace_id"));
}

async fn the_bundled_store_is_a_database_in_traces(kind: Kind) {
    let collector = Collector::start().await;
    let database = kind.database();
    let sidecar = Sidecar::ready(&database.url, &["--migrate"]);
    drop(sidecar);
    let sidecar = traced(&collector.url, &database.url, &[]);
    let client = sidecar.client();

    let trace = Trace::new();
    let answer = trace.invoke(&client, "create_user", new_user(&email_address())).await.json();
    let user = &answer["values"]["user"];
    let mut traces = vec![(trace, "INSERT")];
    for (action, arguments, statement) in [
        ("get_user", json!({ "user_id": user["id"] }), "SELECT"),
        ("get_user_by_email_address", json!({ "email_address": user["email_address"] }), "SELECT"),
        (
            "update_user_email_address",
            json!({
                "user_id": user["id"],
                "email_address": email_address(),
                "user_email_address_counter": 0,
            }),
            "UPDATE",
        ),
        (
            "update_user_password_hash",
            json!({
                "user_id": user["id"],
                "password_hash": base64("planted hash"),
                "password_hash_algorithm_id": "x",
                "password_salt": base64("planted salt"),
                "user_password_hash_counter": 0,
            }),
            "UPDATE",
        ),
        (
            "increment_user_sessions_counter",
            json!({ "user_id": user["id"], "user_sessions_counter": 0 }),
            "UPDATE",
        ),
        ("delete_user", json!({ "user_id": user["id"] }), "DELETE"),
    ] {
        let trace = Trace::new();
        let answer = trace.invoke(&client, action, arguments).await.json();
        assert_eq!(answer["ok"], true, "{action}: {answer}");
        traces.push((trace, statement));
    }
    let trace = Trace::new();
    trace.invoke(&client, "get_user", json!({ "user_id": user["id"] })).await;
    traces.push((trace, "SELECT"));

    let system = match kind {
        Kind::Sqlite => "sqlite",
        Kind::Postgres => "postgresql",
        Kind::MariaDb => "mysql",
    };
    for (trace, statement) in &traces {
        let [_, query] = collector.request_and_call(trace).await;
        assert_eq!((query.kind(), &query.name), (SpanKind::Client, &format!("{statement} users")));
        assert_eq!(attribute(&query, "db.system.name").as_deref(), Some(system));
        assert_eq!(attribute(&query, "db.operation.name").as_deref(), Some(*statement));
        assert_eq!(attribute(&query, "db.collection.name").as_deref(), Some("users"));
        assert_eq!(attribute(&query, "server.address").is_some(), kind != Kind::Sqlite);
        assert_eq!(attribute(&query, "db.namespace").is_some(), kind != Kind::Sqlite);
        assert_eq!(attribute(&query, "rpc.grpc.status_code"), None);
        assert_eq!(attribute(&query, "error.type"), None, "no row is no failure of the statement");
        assert!(!has_failed(&query));
    }

    let (first, second) = (email_address(), Trace::new());
    client.create_user(&first).await;
    second.invoke(&client, "create_user", new_user(&first)).await;
    let [request, query] = collector.request_and_call(&second).await;
    let outcome = attribute(&request, "faroe.outcome");
    assert_eq!(outcome.as_deref(), Some("email_address_already_used"));
    assert!(!has_failed(&request));
    assert_eq!(attribute(&query, "error.type").as_deref(), Some("ALREADY_EXISTS"));
    assert!(has_failed(&query));
}
on_every_database!(the_bundled_store_is_a_database_in_traces);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_a_span_that_says_nothing_of_what_the_caller_wrote() {
    let collector = Collector::start().await;
    let file = SqliteFile::new();
    let sidecar = traced(&collector.url, &file.url(), &[]);
    let client = sidecar.client();
    let invented = Method::from_bytes(b"PLANTED").unwrap();
    for (method, path, body, status, name) in [
        (Method::POST, "/", "planted", 400, "POST /"),
        (Method::POST, "/user@planted.example?x=planted", "", 404, "POST"),
        (Method::POST, "/?x=planted", r#"{"action":"planted"}"#, 400, "POST /"),
        (Method::GET, "/", "", 405, "GET /"),
        (invented, "/", "", 405, "HTTP /"),
    ] {
        let trace = Trace::new();
        let reply = trace.send(&client, method.clone(), path, body.to_owned()).await;
        assert_eq!(reply.status, status, "{method} {path}");
        let spans = collector.spans(&trace, 1).await;
        assert_eq!(spans[0].name, name);
        let shown = attribute(&spans[0], "url.path");
        assert_eq!(shown.as_deref(), Some(if status == 404 { "REDACTED" } else { "/" }));
        let sent = attribute(&spans[0], "http.response.status_code");
        assert_eq!(sent, Some(status.to_string()));
        assert!(!has_failed(&spans[0]), "it is the caller's fault");
    }
    let stranger = sidecar.pki.authority.issue("stranger", Leaf::client(&["stranger"]));
    let stranger = Client::new(sidecar.endpoint, &sidecar.pki, Some(&stranger)).http1();
    let trace = Trace::new();
    let reply = trace.invoke(&stranger, "create_user", new_user(&email_address())).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    let spans = collector.spans(&trace, 1).await;
    assert_eq!(attribute(&spans[0], "network.protocol.version").as_deref(), Some("1.1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_a_failure_in_both_spans() {
    let collector = Collector::start().await;
    let pki = Arc::new(Pki::new());
    let mut command = program(pki.serve_options(&format!("grpc://{}", nobody().await)));
    command.args(["--otlp-endpoint", &collector.url]).env("OTEL_BSP_SCHEDULE_DELAY", "50");
    let sidecar = Sidecar::of_process(Process::start(command), pki);
    let trace = Trace::new();
    let reply = trace.invoke(&sidecar.client(), "delete_user", json!({ "user_id": "1" })).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    let [request, call] = collector.request_and_call(&trace).await;
    assert!(has_failed(&request) && has_failed(&call));
    assert_eq!(attribute(&request, "error.type").as_deref(), Some("503"));
    assert_eq!(attribute(&request, "faroe.action").as_deref(), Some("delete_user"));
    assert_eq!(attribute(&call, "error.type").as_deref(), Some("UNAVAILABLE"));
    assert_eq!(attribute(&call, "rpc.grpc.status_code").as_deref(), Some("14"));
    sidecar.process.wait_for_log(&trace.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_caller_has_gone_ends_the_span_of_its_request() {
    let collector = Collector::start().await;
    let store = Store::start().await;
    let environment = [("FAROE_SIDECAR_STORE_TIMEOUT", "30s")];
    let sidecar = traced(&collector.url, &store.url(), &environment);
    // Somebody else is writing: the store has to wait.
    let mut other = SqliteConnection::connect(&store.file.url()).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let trace = Trace::new();
    let client = sidecar.client();
    let call = trace.invoke(&client, "create_user", new_user(&email_address()));
    let received = async {
        while store.calls.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        reply = call => panic!("it has to wait: {reply:?}"),
        received = timeout(PATIENCE, received) => received.unwrap(),
    }
    drop(client);
    sidecar.process.wait_for_log("a caller went away before its answer");
    sqlx::query("COMMIT").execute(&mut other).await.unwrap();
    let [request, _] = collector.request_and_call(&trace).await;
    assert_eq!(attribute(&request, "faroe.outcome").as_deref(), Some("ok"));
    assert_eq!(attribute(&request, "http.response.status_code"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_spans_are_sent_before_the_end() {
    let collector = Collector::start().await;
    let file = SqliteFile::new();
    let mut sidecar =
        traced(&collector.url, &file.url(), &[("OTEL_BSP_SCHEDULE_DELAY", "3600000")]);
    let trace = Trace::new();
    trace.invoke(&sidecar.client(), "create_user", new_user(&email_address())).await;
    assert!(sidecar.process.terminate().success());
    let received = collector.received.borrow().spans.len();
    assert_eq!(received, 2, "they are there when the process has ended");
    collector.request_and_call(&trace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_names_the_service() {
    let collector = Collector::start().await;
    for (environment, name, more) in [
        (&[][..], "faroe-sidecar", None),
        (&[("OTEL_SERVICE_NAME", "users")][..], "users", None),
        (
            &[("OTEL_RESOURCE_ATTRIBUTES", "service.name=people,deployment.environment.name=test")],
            "people",
            Some("test"),
        ),
    ] {
        let file = SqliteFile::new();
        let sidecar = traced(&collector.url, &file.url(), environment);
        let trace = Trace::new();
        trace.invoke(&sidecar.client(), "get_user", json!({ "user_id": "1" })).await;
        collector.spans(&trace, 2).await;
        let received = collector.received.borrow();
        let resource = attributes(&received.resource);
        let value = |key| resource.iter().find(|(name, _)| *name == key).map(|(_, value)| &**value);
        assert_eq!(value("service.name"), Some(name));
        assert_eq!(value("service.version"), Some(env!("CARGO_PKG_VERSION")));
        assert_eq!(value("deployment.environment.name"), more);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_may_sample_less() {
    let collector = Collector::start().await;
    let file = SqliteFile::new();
    let environment = [("OTEL_TRACES_SAMPLER", "parentbased_always_off")];
    let sidecar = traced(&collector.url, &file.url(), &environment);
    let client = sidecar.client();
    client.error_code("get_user", json!({ "user_id": "1" })).await;
    let trace = Trace::new();
    trace.invoke(&client, "get_user", json!({ "user_id": "1" })).await;
    collector.spans(&trace, 2).await;
    assert_eq!(collector.received.borrow().spans.len(), 2, "only what the caller wants");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_with_tls_is_verified() {
    let pki = Pki::new();
    let identity = pki.authority.issue("collector", Leaf::server());
    let [certificate, key] =
        [identity.certificate, identity.key].map(|path| std::fs::read(path).unwrap());
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
    let server = Server::builder().tls_config(tls).unwrap();
    let collector = Collector::start_on(server, "https://localhost").await;
    let file = SqliteFile::new();

    let authority = pki.authority.certificate();
    let trusting =
        traced(&collector.url, &file.url(), &[("SSL_CERT_FILE", authority.to_str().unwrap())]);
    let trace = Trace::new();
    trace.invoke(&trusting.client(), "get_user", json!({ "user_id": "1" })).await;
    collector.spans(&trace, 2).await;

    let other = Pki::new().authority;
    let authority = other.certificate();
    let distrusting =
        traced(&collector.url, &file.url(), &[("SSL_CERT_FILE", authority.to_str().unwrap())]);
    let trace = Trace::new();
    trace.invoke(&distrusting.client(), "get_user", json!({ "user_id": "1" })).await;
    distrusting.process.wait_for_log("traces could not be sent");
    collector.spans(&trace, 0).await;
}

/// A collector that refuses connections, and one that takes them and says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_holds_nobody_up() {
    const REQUESTS: usize = 300;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [nobody().await, silent.local_addr().unwrap()];
    for address in addresses {
        let file = SqliteFile::new();
        // The queue is full long before the end.
        let environment =
            [("OTEL_BSP_MAX_QUEUE_SIZE", "64"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16")];
        let mut sidecar = traced(&format!("http://{address}"), &file.url(), &environment);
        let client = sidecar.client();
        let begun = Instant::now();
        for _ in 0..REQUESTS {
            client.error_code("get_user", json!({ "user_id": "1" })).await;
        }
        let each = begun.elapsed() / u32::try_from(REQUESTS).unwrap();
        assert!(each < Duration::from_millis(500), "{each:?} a request");
        if address == addresses[0] {
            sidecar.process.wait_for_log("traces could not be sent, and are lost");
        }
        let begun_to_stop = Instant::now();
        assert!(sidecar.process.terminate().success());
        let stopping = begun_to_stop.elapsed();
        assert!(stopping < Duration::from_secs(20), "{stopping:?} until the end");
        let log = sidecar.process.log();
        let is_silent = address != addresses[0];
        assert_eq!(log.contains("the last traces could not be sent in time"), is_silent, "{log}");
        let warnings = log.lines().filter(|line| line.contains("\"WARN\"")).count();
        let most = begun.elapsed().as_secs() / 10 + 2;
        assert!((1..=most).contains(&warnings.try_into().unwrap()), "{warnings}:\n{log}");
    }
}

#[test]
fn an_endpoint_that_cannot_be_used_is_wrong_usage() {
    let pki = Pki::new();
    for (url, reason) in [
        ("localhost:4317", "http://HOST:PORT"),
        ("http://localhost", "http://HOST:PORT"),
        ("http://user:planted@localhost:4317", "http://HOST:PORT"),
        ("http://localhost:4317/planted", "http://HOST:PORT"),
    ] {
        for command in ["serve", "check"] {
            let mut arguments = pki.serve_options("sqlite:///nowhere/planted.sqlite");
            arguments[0] = command.to_owned();
            arguments.extend(["--otlp-endpoint".to_owned(), url.to_owned()]);
            let output = run(arguments);
            assert_eq!(output.status.code(), Some(2), "{command} {url}");
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.contains("--otlp-endpoint") && said.contains(reason), "{said}");
        }
    }
}

#[test]
fn https_without_any_authority_is_wrong_usage() {
    let pki = Pki::new();
    for command in ["serve", "check"] {
        let mut arguments = pki.serve_options("sqlite:///nowhere/users.sqlite");
        arguments[0] = command.to_owned();
        let mut command = program(arguments);
        command.args(["--otlp-endpoint", "https://localhost:4317"]);
        command.env("SSL_CERT_FILE", "/dev/null").env_remove("SSL_CERT_DIR");
        let output = output_of(command, "", PATIENCE);
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("--otlp-endpoint: TLS to the collector"), "{said}");
    }
}

async fn set_level(sidecar: &Sidecar, level: &'static str) -> Reply {
    admin_with(Method::PUT, sidecar.admin, "/log-level", level).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_level_changes_while_the_sidecar_runs() {
    let file = SqliteFile::new();
    let sidecar = Sidecar::ready(&file.url(), &[]);
    let client = sidecar.client();
    let level = async || admin(sidecar.admin, "/log-level").await.text().to_owned();
    assert_eq!(level().await, "debug\n", "as the sidecar was started");

    for (set, from) in [("warn", "debug"), ("error", "warn")] {
        let reply = set_level(&sidecar, set).await;
        assert_eq!((reply.status, reply.text()), (StatusCode::OK, &*format!("{set}\n")));
        assert_eq!(level().await, format!("{set}\n"));
        let change = format!("\"from\":\"{from}\",\"to\":\"{set}\"");
        assert!(sidecar.process.wait_for_log(&change).contains("the log level is changed"));
        client.create_user(&email_address()).await;
    }
    sidecar.process.wait_for_log_lines("user created", 2);
    assert!(!sidecar.process.log().contains("invoked"), "info is not logged, but for the audit");

    assert_eq!(set_level(&sidecar, "debug\n").await.status, StatusCode::OK);
    sidecar.process.wait_for_log("\"from\":\"error\",\"to\":\"debug\"");
    client.error_code("get_user", json!({ "user_id": "1" })).await;
    sidecar.process.wait_for_log("\"invoked\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_log_level_changes_nothing() {
    let file = SqliteFile::new();
    let sidecar = Sidecar::ready(&file.url(), &[]);
    for level in ["", "loud", "WARN", "debug,info", "debug                     "] {
        let reply = set_level(&sidecar, level).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{level:?}");
        assert_eq!(reply.text(), "write error, warn, info, debug or trace\n");
    }
    assert_eq!(admin(sidecar.admin, "/log-level").await.text(), "debug\n");
    assert!(!sidecar.process.log().contains("the log level is changed"));
}

/// The program in a network of its own, where this host has an address that others know it by; and
/// what to run beside it.
fn in_a_network(address: &str, arguments: &[String]) -> Command {
    const ENTER: &str =
        r#""$1" link set lo up && "$1" addr add "$2/32" dev lo && shift 2 && exec "$@""#;
    let program = program(arguments);
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--net", "sh", "-c", ENTER, "sh"])
        .arg(find("ip", "iproute2"))
        .arg(address)
        .arg(program.get_program())
        .args(program.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_something_is_for_the_host_of_the_sidecar_alone() {
    const OUTSIDE: &str = "198.51.100.7";
    let file = SqliteFile::new();
    let pki = Arc::new(Pki::new());
    let mut arguments = pki.serve_options(&file.url());
    let at = arguments.iter().position(|argument| argument == "--admin-listen").unwrap();
    arguments[at + 1] = "0.0.0.0:0".to_owned();
    let process = Process::start(in_a_network(OUTSIDE, &arguments));
    let sidecar = Sidecar::of_process(process, pki);
    let id = sidecar.process.id().to_string();
    let ask = |host: &str, path: &str, options: &[&str]| {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &id, "--user", "--net", "--preserve-credentials", "--"])
            .arg(find("curl", "curl"))
            .args(["--silent", "--show-error", "--write-out", "%{http_code}"])
            .args(options)
            .arg(format!("http://{host}:{}{path}", sidecar.admin.port()));
        let output = output_of(command, "", PATIENCE);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let put: &[&str] = &["--request", "PUT", "--data", "trace"];
    let refused = "this is for the host of the sidecar alone\n403";
    for (path, options) in
        [("/log-level", &[][..]), ("/log-level", put), ("/drain", &["--request", "POST"])]
    {
        assert_eq!(ask(OUTSIDE, path, options), refused, "{path} {options:?}");
    }
    // Others may look, and nothing was changed.
    assert_eq!(ask(OUTSIDE, "/livez", &[]), "ok\n200");
    assert_eq!(ask("127.0.0.1", "/log-level", &[]), "debug\n200");
    assert!(!ask("127.0.0.1", "/readyz", &[]).contains("drain"));
    assert_eq!(ask("127.0.0.1", "/log-level", put), "trace\n200");
    assert_eq!(ask("127.0.0.1", "/drain", &["--request", "POST"]), "draining\n200");
}
