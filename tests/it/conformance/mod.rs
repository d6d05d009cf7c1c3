//! `faroe-sidecar conformance`: what it says of the bundled store on every database, and of stores
//! that are wrong in one way or another. `user-store`, `faroe-endpoint`, `interface`.

mod flawed;
mod users;

use std::{
    net::SocketAddr,
    process::{Command, Output},
};

use faroe_sidecar::{
    conformance::{self, Config, Outcome, Selection},
    proto::{CreateUserRequest, User, user_store_client::UserStoreClient},
};
use serde_json::Value;

use self::flawed::{Flaw, Flawed};
use crate::harness::{
    certs::Leaf,
    database::{Database, Kind},
    email_address, on_every_database,
    process::{PATIENCE, Pki, Process, output_of, program, run},
};

on_every_database!(the_bundled_store_conforms_and_keeps_its_users);

/// `faroe-sidecar store` over an empty database.
struct Bundled {
    process: Process,
    database: Database,
    address: SocketAddr,
}

impl Bundled {
    fn start(kind: Kind) -> Self {
        let database = kind.database();
        assert!(run(["migrate", "up", "--store", &database.url]).status.success());
        let arguments =
            ["store", "--listen", "tcp://127.0.0.1:0", "--log-format", "json", "--store"];
        let process = Process::start(program(arguments.into_iter().chain([database.url.as_str()])));
        let line: Value = serde_json::from_str(&process.wait_for_log("\"listening\"")).unwrap();
        let address = line["store"].as_str().unwrap().strip_prefix("tcp://").unwrap();
        Self { address: address.parse().unwrap(), process, database }
    }

    fn url(&self) -> String {
        format!("grpc://{}", self.address)
    }

    async fn create(&self, email_address: &str) -> User {
        let mut client =
            UserStoreClient::connect(format!("http://{}", self.address)).await.unwrap();
        let request = CreateUserRequest {
            email_address: email_address.to_owned(),
            password_hash: b"planted".as_slice().into(),
            ..CreateUserRequest::default()
        };
        client.create_user(request).await.unwrap().into_inner().user.unwrap()
    }
}

/// Runs `conformance` to its end, with calls that have time on a machine that has much to do.
async fn conformance(url: &str, options: &[&str]) -> Output {
    let mut command = program(["conformance", url, "--timeout", "30s"]);
    command.args(options);
    output(command).await
}

async fn output(command: Command) -> Output {
    let limit = PATIENCE * 4;
    tokio::task::spawn_blocking(move || output_of(command, "", limit)).await.unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap()
}

/// The IDs of the cases with an outcome.
fn with<'a>(report: &'a Value, outcome: &str) -> Vec<&'a str> {
    let cases = report["cases"].as_array().unwrap().iter();
    cases
        .filter(|case| case["outcome"] == outcome)
        .map(|case| case["id"].as_str().unwrap())
        .collect()
}

async fn the_bundled_store_conforms_and_keeps_its_users(kind: Kind) {
    let store = Bundled::start(kind);
    // Users as a store has them before anybody checks it.
    let users =
        [email_address(), "planted%@x".to_owned(), "planted_ @x ".to_owned(), String::new()];
    for user in &users {
        store.create(user).await;
    }
    let before = store.database.dump().await;
    assert_eq!(before.lines().count(), users.len());

    let output = conformance(&store.url(), &["--format", "json"]).await;

    let report = json(&output);
    let failed: Vec<&Value> = report["cases"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|case| case["outcome"] == "failed")
        .collect();
    assert!(failed.is_empty(), "{kind:?}: {failed:#?}");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(report["conforms"], true);
    assert_eq!(report["complete"], true);
    assert_eq!(report["left_behind"], Value::Array(Vec::new()));
    assert_eq!(
        with(&report, "not_checkable"),
        [
            "lookup.shows-what-the-application-set",
            "lookup.outage-is-not-not-found",
            "email.empty",
            "counters.at-maximum",
            "counters.disabled",
            "consistency.writes-are-durable",
            "protocol.transient-conflict-is-aborted",
            "protocol.stops-at-the-deadline",
        ]
    );
    for outcome in ["not_present", "not_run", "skipped"] {
        assert_eq!(with(&report, outcome), [""; 0], "{outcome}");
    }
    assert_eq!(report["cases"].as_array().unwrap().len(), conformance::cases().count());
    assert_eq!(store.database.dump().await, before, "{kind:?}");
    assert!(!store.process.log().contains("conformance.invalid"), "an email address in the log");
    // A line for each case while it runs.
    let progress = stderr(&output);
    let passed = with(&report, "passed");
    assert_eq!(progress.matches(" … passed (").count(), passed.len(), "{progress}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_checked_over_mutual_tls() {
    let database = Kind::Sqlite.database();
    let pki = Pki::new();
    let server = pki.authority.issue("store", Leaf::server());
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let ca = text(&pki.authority.certificate());
    let (certificate, key) = (text(&pki.client.certificate), text(&pki.client.key));
    let process = Process::start(program([
        "store",
        "--listen",
        "tcp://127.0.0.1:0",
        "--log-format",
        "json",
        "--store",
        &database.url,
        "--tls-cert",
        &text(&server.certificate),
        "--tls-key",
        &text(&server.key),
        "--client-ca",
        &ca,
    ]));
    let line: Value = serde_json::from_str(&process.wait_for_log("\"listening\"")).unwrap();
    let url = line["store"].as_str().unwrap().replace("tcp://127.0.0.1", "grpcs://localhost");

    let material = ["--store-ca", &ca, "--store-cert", &certificate, "--store-key", &key];
    let output = conformance(&url, &[&material[..], &["--only", "create,delete"]].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));

    // Without a certificate nobody is let in.
    let output = conformance(&url, &material[..2]).await;
    assert_eq!(output.status.code(), Some(3), "{}", stdout(&output));
    assert!(stderr(&output).contains("could not be reached"), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
    // A file that is not there is said before anything is tried.
    let output = conformance(&url, &["--store-ca", "/nowhere/ca.pem"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("/nowhere/ca.pem"), "{}", stderr(&output));
}

#[test]
fn a_store_that_is_not_there_is_exit_code_3() {
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("unix://{}", folder.path().join("nobody.sock").display());
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in [socket, format!("grpc://{closed}")] {
        let output = run(["conformance", &url, "--format", "json"]);
        assert_eq!(output.status.code(), Some(3), "{url}: {}", stderr(&output));
        let said = stderr(&output);
        assert!(said.contains(&format!("{url} could not be reached: ")), "{said}");
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn wrong_usage_is_exit_code_2_and_nothing_is_tried() {
    for (arguments, said) in [
        (&["conformance"][..], "URL"),
        (&["conformance", "grpc://127.0.0.1"], "URL: "),
        (&["conformance", "postgres://u:hunter2@h/db"], "faroe-sidecar store"),
        (&["conformance", "http://127.0.0.1:1"], "unknown scheme: use grpc, grpcs or unix"),
        (&["conformance", "127.0.0.1:50777"], "such as grpc://127.0.0.1:50051"),
        (&["conformance", "sqlite://users.sqlite"], "faroe-sidecar store"),
        (&["conformance", "u:hunter2@h/db"], "no scheme"),
        (&["conformance", "grpc://127.0.0.1:1", "--only", "creat"], "no case or group \"creat\""),
        (&["conformance", "grpc://127.0.0.1:1", "--skip", "create.x"], "no case or group"),
        (
            &["conformance", "grpc://127.0.0.1:1", "--only", "counters"],
            "no case that can be checked",
        ),
        (&["conformance", "grpc://127.0.0.1:1", "--format", "xml"], "text, json, junit or tap"),
        (&["conformance", "grpc://127.0.0.1:1", "--store-ca", "x"], "grpcs://"),
        (&["conformance", "grpc://127.0.0.1:1", "--timeout", "5"], "--timeout"),
        (&["conformance", "--list", "--format", "tap"], "--list"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("hunter2"), "{arguments:?}");
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn the_list_names_every_case_without_a_store() {
    let output = run(["conformance", "--list"]);
    assert_eq!(output.status.code(), Some(0));
    let list = stdout(&output);
    let (list, sections) = list.trim_end().split_once("\n\n").unwrap();
    assert_eq!(list.lines().count(), conformance::cases().count());
    // Nobody who has the program alone is sent to a document of a name that says nothing.
    for document in ["user-store", "faroe-endpoint", "faroe-sidecar proto"] {
        assert!(sections.contains(document), "{sections}");
    }
    for (line, case) in list.lines().zip(conformance::cases()) {
        for part in [case.id, case.level.as_str(), case.demand, case.section] {
            assert!(line.contains(part), "no {part:?} in {line:?}");
        }
    }
    assert!(list.contains("(not checkable: "), "{list}");
    let output = run(["conformance", "--list", "--format", "json", "--only", "delete"]);
    let list: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let ids: Vec<_> = list.as_array().unwrap().iter().map(|case| &case["id"]).collect();
    assert!(ids.len() > 3 && ids.iter().all(|id| id.as_str().unwrap().starts_with("delete.")));
    // What no call can check is listed all the same, and says so.
    let output = run(["conformance", "--list", "--format", "json", "--only", "counters,delete"]);
    let list: Value = serde_json::from_str(&stdout(&output)).unwrap();
    for case in list.as_array().unwrap() {
        let counters = case["id"].as_str().unwrap().starts_with("counters.");
        assert_eq!(case["not_checkable"].is_string(), counters, "{case}");
    }
    let output = run(["conformance", "--list", "--only", "counters"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("counters.at-maximum"), "{}", stdout(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_must_that_fails_is_exit_code_1_and_is_told_in_every_format() {
    const CASE: &str = "create.taken-email-address";
    let store = Bundled::start(Kind::Sqlite);
    let url = Flawed::start(&store, Flaw::TakenIsInternal, None).await;

    let output = conformance(&url, &["--format", "json", "--only", "create,delete"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let report = json(&output);
    assert_eq!(with(&report, "failed"), [CASE]);
    assert_eq!(report["conforms"], false);

    let only = ["--only", "create.taken-email-address,create.defaults"];
    for (format, parts) in [
        (
            "text",
            &[
                "FAILED create.taken-email-address (MUST)\n  demanded:  ",
                "  sent:      CreateUser { email_address: \"faroe-conformance-",
                "  came back: INTERNAL \"a duplicate\"\n",
                "  due:       ALREADY_EXISTS: ",
                "  contract:  user-store, Errors\n",
                "  to fix:    Catch the violation",
                " does not conform, in ",
            ][..],
        ),
        ("tap", &["TAP version 14\n", " - create.taken-email-address\n  ---\n", "# SKIP skipped"]),
        (
            "junit",
            &[
                "<failure message=\"INTERNAL &quot;a duplicate&quot;\">",
                " failures=\"1\" errors=\"0\"",
            ],
        ),
    ] {
        let output = conformance(&url, &[&only[..], &["--format", format]].concat()).await;
        assert_eq!(output.status.code(), Some(1), "{format}");
        let report = stdout(&output);
        for part in parts {
            assert!(report.contains(part), "no {part:?} in:\n{report}");
        }
    }
    assert_eq!(store.database.dump().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_should_that_fails_is_a_warning() {
    let store = Bundled::start(Kind::Sqlite);
    let url = Flawed::start(&store, Flaw::StatusNamesTheAddress, None).await;
    let output = conformance(&url, &["--only", "create,protocol"]).await;
    let report = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert!(report.contains("FAILED protocol.statuses-without-values (SHOULD)\n"), "{report}");
    assert!(report.contains(" conforms, but not to everything that it should"), "{report}");
    // The proxy has no health service.
    assert!(report.contains("  protocol.health: the store has no grpc.health.v1\n"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_skipped_is_in_the_verdict() {
    let store = Bundled::start(Kind::Sqlite);
    let output = conformance(&store.url(), &["--only", "delete", "--skip", "delete.twice"]).await;
    let report = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert!(report.contains(" cases (--skip delete.twice).\n"), "{report}");
    let verdict =
        "as far as it was checked, which is no proof: cases were skipped (--skip delete.twice)";
    assert!(report.contains(verdict), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_case_is_a_short_report_whose_numbers_agree() {
    let store = Bundled::start(Kind::Sqlite);
    let only = ["--only", "delete.twice"];
    let output = conformance(&store.url(), &only).await;
    let all = conformance::cases().count();
    let report = stdout(&output);
    assert!(report.contains(&format!("Skipped as told: {} cases.\n", all - 1)), "{report}");
    assert!(report.contains(&format!("{all} cases: 1 ran, {} skipped.\n", all - 1)), "{report}");
    assert!(report.lines().count() < 12, "{report}");
    let progress = stderr(&output);
    assert!(progress.contains(&format!("cases to run: 1 of {all} (")), "{progress}");
    assert!(progress.contains("[1/1] delete.twice"), "{progress}");
    let output = conformance(&store.url(), &[&only[..], &["--format", "tap"]].concat()).await;
    let tap = stdout(&output);
    assert!(tap.contains(&format!("\n1..{}\n# {all} cases: 1 ran, ", all + 1)), "{tap}");
    assert_eq!(tap.matches("# SKIP skipped as told\n").count(), all - 1);
}

/// The failures of a report by the cause that they say to fix.
fn fixes(report: &Value) -> Vec<(&str, &str)> {
    let cases = report["cases"].as_array().unwrap().iter();
    cases
        .filter(|case| case["outcome"] == "failed")
        .map(|case| (case["id"].as_str().unwrap(), case["failure"]["to_fix"].as_str().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cause_that_the_answer_shows_is_the_fix_of_all_its_failures_and_comes_first() {
    const FIX: &str = "An absent user is the status NOT_FOUND, not OK without a user.";
    let store = Bundled::start(Kind::Sqlite);
    let url = Flawed::start(&store, Flaw::AbsentIsOk, None).await;
    let output = conformance(&url, &["--format", "json"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let report = json(&output);
    let fixes = fixes(&report);
    assert!(fixes.len() > 15, "{fixes:?}");
    for (id, fix) in &fixes {
        assert!(fix.starts_with(FIX), "{id}: {fix}");
        let is_first = ["lookup.absent-id", "lookup.absent-email-address"].contains(id);
        assert_eq!(fix.contains("Fix lookup.absent-id and "), !is_first, "{id}: {fix}");
    }
    let common = &report["common_causes"];
    assert_eq!(common.as_array().unwrap().len(), 1, "{common}");
    assert_eq!(common[0]["failures"], fixes.len());
    assert_eq!(common[0]["start_with"][0], "lookup.absent-id");

    let output = conformance(&url, &["--only", "lookup"]).await;
    let text = stdout(&output);
    let first = text.lines().next().unwrap();
    assert!(first.contains(" failures have one cause: ") && first.contains(FIX), "{first}");
    assert!(first.ends_with("Start with --only lookup.absent-id,lookup.absent-email-address."));
}

/// A case whose user might be somebody's is not passed because it was not tried.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_risked_has_not_passed() {
    let store = Bundled::start(Kind::Sqlite);
    let url = Flawed::start(&store, Flaw::AbsentIsOkAndDeleted, None).await;
    for case in [
        "delete.absent-user",
        "delete.twice",
        "lookup.writes-compare-ids-byte-exactly",
        "update-password-hash.absent-user",
        "values.nul-character",
    ] {
        let output = conformance(&url, &["--only", case, "--format", "json"]).await;
        assert_eq!(output.status.code(), Some(1), "{case}: {}", stderr(&output));
        let report = json(&output);
        assert_eq!(with(&report, "failed"), [case]);
        assert_eq!(report["conforms"], false);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fix_is_chosen_by_what_came_back() {
    let store = Bundled::start(Kind::Sqlite);
    let only = |cases| ["--format", "json", "--only", cases];

    let url = Flawed::start(&store, Flaw::IgnoresCounters, None).await;
    let counters = only("update-email-address,update-password-hash,increment-sessions-counter");
    let report = json(&conformance(&url, &counters).await);
    let mut ids = Vec::new();
    for (id, fix) in fixes(&report) {
        if id.ends_with("-counter") {
            ids.push(id.split('.').next_back().unwrap());
            assert!(
                fix.contains("WHERE id = ? AND counter = ?; 0 rows is NOT_FOUND"),
                "{id}: {fix}"
            );
        }
    }
    let four = ["stale-counter", "future-counter", "negative-counter", "maximum-counter"];
    assert_eq!(ids, [four, four, four].concat());

    let url = Flawed::start(&store, Flaw::RefusesCrowds, None).await;
    let report = json(
        &conformance(
            &url,
            &only("race.creates-of-different-addresses,race.updates-of-one-password-hash"),
        )
        .await,
    );
    let crowded = fixes(&report);
    assert_eq!(crowded.len(), 2, "{report}");
    for (id, fix) in crowded {
        assert!(fix.contains("Let calls wait, or raise the pool"), "{id}: {fix}");
    }

    let url = Flawed::start(&store, Flaw::ErrorsAreUnknown, None).await;
    let report = json(
        &conformance(&url, &only("lookup.absent-id,delete.twice,create.taken-email-address")).await,
    );
    let unknown = fixes(&report);
    assert_eq!(unknown.len(), 3, "{report}");
    for (id, fix) in unknown {
        assert!(
            fix.contains("answer NOT_FOUND, ALREADY_EXISTS, ABORTED or INTERNAL"),
            "{id}: {fix}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_towards_a_store_without_it_is_said() {
    let store = Bundled::start(Kind::Sqlite);
    let pki = Pki::new();
    let ca = pki.authority.certificate();
    let url = format!("grpcs://localhost:{}", store.address.port());
    let output = conformance(&url, &["--store-ca", ca.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(3), "{}", stdout(&output));
    let said = stderr(&output);
    assert!(said.contains("(does the store speak TLS? grpc:// is without)"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_library_runs_in_a_test_of_ones_own() {
    let store = Bundled::start(Kind::Sqlite);
    let selection = |only: &str| Selection::new(vec![only.to_owned()], Vec::new()).unwrap();

    let url = Flawed::start(&store, Flaw::None, None).await;
    let report =
        conformance::run(&Config::new(url.parse().unwrap()), &selection("create")).await.unwrap();
    assert!(report.conforms(), "{}", conformance::report::text(&report));

    let url = Flawed::start(&store, Flaw::TakenIsInternal, None).await;
    let only = selection("create.taken-email-address");
    let report = conformance::run(&Config::new(url.parse().unwrap()), &only).await.unwrap();
    assert!(!report.conforms());
    let failed = |result: &&conformance::CaseResult| matches!(result.outcome, Outcome::Failed(_));
    assert_eq!(report.results.iter().filter(failed).count(), 1);

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = Config::new(format!("grpc://{closed}").parse().unwrap());
    let error = conformance::run(&nobody, &Selection::all()).await.unwrap_err();
    assert!(error.to_string().contains("connecting"), "{error}");
}
