//! What becomes of the users of a run, and that those of others are left alone.

use std::{collections::HashSet, time::Instant};

use serde_json::Value;

use super::{
    Bundled, conformance,
    flawed::{Flaw, Flawed},
    json, output, stderr, stdout, with,
};
use crate::harness::{
    database::Kind,
    email_address,
    process::{PATIENCE, Process, program},
};

#[tokio::test(flavor = "multi_thread")]
async fn users_not_seen_to_be_gone_are_told_shortly_and_are_the_reason() {
    let store = Bundled::start(Kind::Sqlite);
    let url = Flawed::start(&store, Flaw::AbsentIsOk, None).await;
    let output = conformance(&url, &["--only", "create.ids-are-unique"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    // They are gone, and only the look-up does not say so.
    assert_eq!(store.database.dump().await, "");
    let report = stdout(&output);
    for part in [
        "Whether these users are gone could not be seen (GetUser: OK without a user in it): 8 of them; all have ",
        " in their email address:\n  id \"",
        "\n  and 3 more, whom --format json names\n",
        "\nMUST   1 passed, 0 failed, ",
        "\n8 users of this run could not be shown to be deleted, which by itself is reason not to conform.\n",
        " does not conform, in ",
    ] {
        assert!(report.contains(part), "no {part:?} in:\n{report}");
    }
    assert_eq!(report.matches("  id \"").count(), 5, "{report}");

    let only = ["--only", "create,update-email-address", "--format", "json"];
    let report = json(&conformance(&url, &only).await);
    let left = report["left_behind"].as_array().unwrap();
    let users: HashSet<_> = left.iter().map(|left| left["user"].as_str().unwrap()).collect();
    assert_eq!(users.len(), left.len(), "a user is there twice");
    assert!(users.iter().all(|user| user.starts_with("id ")), "{users:?}");
    assert!(left.iter().all(|left| left["unclear"] == true), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_that_cannot_be_deleted_are_named() {
    let store = Bundled::start(Kind::Sqlite);
    let url = Flawed::start(&store, Flaw::NoDeletion, None).await;
    let output = conformance(&url, &["--only", "create.defaults", "--format", "json"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let report = json(&output);
    assert_eq!(with(&report, "passed"), ["create.defaults"]);
    let ids = store.database.texts("SELECT id FROM users").await;
    assert_eq!(ids.len(), 1);
    let left = report["left_behind"][0].clone();
    assert_eq!(left["user"], format!("id {:?}", ids[0]));
    assert!(left["reason"].as_str().unwrap().contains("INTERNAL \"not today\""), "{left}");
    let addresses = store.database.texts("SELECT email_address FROM users").await;
    assert!(addresses[0].contains(report["mark"].as_str().unwrap()), "{addresses:?}");
}

/// A call that was given up may still end, and an answer may be lost: who is there in the end counts.
#[tokio::test(flavor = "multi_thread")]
async fn users_who_come_late_or_were_not_seen_are_deleted_at_the_end() {
    for (flaw, failed) in
        [(Flaw::CreatesLate, &["create.returns-what-was-sent"][..]), (Flaw::LosesALookUp, &[])]
    {
        let store = Bundled::start(Kind::Sqlite);
        let url = Flawed::start(&store, flaw, None).await;
        let only = "create.returns-what-was-sent,create.defaults";
        let arguments =
            ["conformance", &url, "--timeout", "3s", "--format", "json", "--only", only];
        let output = output(program(arguments)).await;
        let report = json(&output);
        assert_eq!(with(&report, "failed"), failed, "{flaw:?}: {report}");
        assert_eq!(with(&report, "passed").len(), 2 - failed.len(), "{flaw:?}: {report}");
        assert_eq!(report["left_behind"], Value::Array(Vec::new()), "{flaw:?}");
        assert_eq!(store.database.dump().await, "", "{flaw:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_that_nobody_could_have_reached_are_a_failure_like_others() {
    let store = Bundled::start(Kind::Sqlite);
    let url = Flawed::start(&store, Flaw::ShowsMaximum, None).await;
    let output = conformance(&url, &["--format", "json"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
    let report = json(&output);
    assert!(with(&report, "failed").contains(&"update-email-address.own-address"), "{report}");
    assert_eq!(store.database.dump().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_conflicts_are_lasting_holds_nobody_up() {
    let store = Bundled::start(Kind::Sqlite);
    let url = Flawed::start(&store, Flaw::AlwaysConflicts, None).await;
    let began = Instant::now();
    let output = conformance(&url, &["--format", "json"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(began.elapsed() < PATIENCE * 2, "{:?}", began.elapsed());
    let report = json(&output);
    assert!(with(&report, "failed").contains(&"create.defaults"), "{report}");
}

/// A store that takes others' users for those of the run could have them changed and deleted.
#[tokio::test(flavor = "multi_thread")]
async fn users_of_others_are_neither_changed_nor_deleted_nor_shown() {
    let store = Bundled::start(Kind::Sqlite);
    let somebody = store.create(&email_address()).await;
    let before = store.database.dump().await;
    let url = Flawed::start(&store, Flaw::AnswersSomebodyElse, Some(somebody)).await;
    let output = conformance(&url, &["--format", "json", "--skip", "race"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let report = json(&output);
    assert!(with(&report, "failed").contains(&"create.returns-what-was-sent"), "{report}");
    assert!(with(&report, "failed").contains(&"delete.user-is-gone"), "{report}");
    for said in [stdout(&output), stderr(&output)] {
        assert!(!said.contains("planted"), "{said}");
        // `planted` as the bytes of a hash are shown.
        assert!(!said.contains("706c616e746564"), "{said}");
    }
    assert_eq!(report["left_behind"], Value::Array(Vec::new()));
    assert_eq!(store.database.dump().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stops_answering_does_not_conform_and_holds_nobody_up() {
    let store = Bundled::start(Kind::Sqlite);
    let url = Flawed::start(&store, Flaw::Hangs, None).await;
    let began = Instant::now();
    let command = program(["conformance", &url, "--timeout", "500ms", "--format", "json"]);
    let output = output(command).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    let report = json(&output);
    assert!(!with(&report, "not_run").is_empty(), "{report}");
    assert_eq!(report["conforms"], false);
    // The user is there, and cannot be reached any more.
    assert!(!report["left_behind"].as_array().unwrap().is_empty(), "{report}");
}

/// Waits until a run has made a user.
async fn wait_for_a_user(store: &Bundled) {
    let deadline = Instant::now() + PATIENCE;
    while store.database.dump().await.is_empty() {
        assert!(Instant::now() < deadline, "no user is created");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_a_run_after_its_users_are_deleted() {
    let store = Bundled::start(Kind::Sqlite);
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let arguments = ["conformance", &store.url(), "--format", "json", "--timeout", "30s"];
        let mut process = Process::start(program(arguments));
        wait_for_a_user(&store).await;
        process.signal(signal);
        assert_eq!(process.wait().code(), Some(code), "{signal}: {}", process.log());
        let report: Value = serde_json::from_str(&process.wait_for_stdout("\n}\n")).unwrap();
        assert_eq!(report["stopped"], true);
        assert_eq!(report["conforms"], false);
        assert_eq!(report["left_behind"], Value::Array(Vec::new()));
        assert!(with(&report, "not_run").len() > 50, "{report}");
        assert_eq!(store.database.dump().await, "", "{signal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_run_at_once() {
    let store = Bundled::start(Kind::Sqlite);
    let url = Flawed::start(&store, Flaw::Hangs, None).await;
    let mut process = Process::start(program(["conformance", &url, "--timeout", "10m"]));
    process.wait_for_log("the email addresses of this run have");
    // Its first call that is not answered takes ten minutes.
    wait_for_a_user(&store).await;
    process.signal("INT");
    process.wait_for_log("stopping");
    process.signal("TERM");
    assert_eq!(process.wait().code(), Some(143));
    assert!(process.log().contains("users of this run may still be there"), "{}", process.log());
}
