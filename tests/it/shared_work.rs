//! Calls of one moment share a query, or on SQLite a commit; each of them has an outcome of its own.
//! `faroe-endpoint`, section 3.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{
    client::{Client, new_user},
    database::Kind,
    email_address,
    metrics::wait_for_metrics,
    on_every_database,
    process::Sidecar,
    stores::{Running, StoreKind},
};

on_every_database!(a_key_that_cannot_be_looked_up_fails_alone);

/// Time for all calls to come together before the first has waited for too long.
const OPTIONS: [&str; 2] = ["--store-timeout", "60s"];

/// The answers to these calls, which wait together until `let_go` is done: `ok` or an error code.
async fn together(
    sidecar: &Sidecar,
    client: &Arc<Client>,
    calls: Vec<(&'static str, Value)>,
    let_go: impl Future<Output = ()>,
) -> Vec<String> {
    let number = f64::from(u32::try_from(calls.len()).unwrap());
    let calls: Vec<_> = calls
        .into_iter()
        .map(|(action, arguments)| {
            let client = Arc::clone(client);
            tokio::spawn(async move { client.invoke(action, arguments).await })
        })
        .collect();
    wait_for_metrics(sidecar, "all wait", |metrics| metrics.in_flight_requests() == number).await;
    let_go.await;
    let mut outcomes = Vec::new();
    for call in calls {
        let answer = call.await.unwrap();
        outcomes.push(answer["error_code"].as_str().unwrap_or("ok").to_owned());
    }
    outcomes
}

/// PostgreSQL's text has no NUL; the other databases look for it, and find nobody.
async fn a_key_that_cannot_be_looked_up_fails_alone(kind: Kind) {
    let Running { sidecar, database, .. } = &StoreKind::Bundled(kind).start(&OPTIONS);
    let client = Arc::new(sidecar.client());
    let user = client.create_user(&email_address()).await;
    let absent = if kind == Kind::Postgres { "internal_error" } else { "user_not_found" };
    let by_id = |id: Value| ("get_user", json!({ "user_id": id }));
    let by_address =
        |address: Value| ("get_user_by_email_address", json!({ "email_address": address }));
    let mut calls = Vec::new();
    let mut due = Vec::new();
    for number in 0..40 {
        let (call, outcome) = match number % 4 {
            0 => (by_id(user["id"].clone()), "ok"),
            1 => (by_id(json!(format!("nobody {number}"))), "user_not_found"),
            2 => (by_address(user["email_address"].clone()), "ok"),
            _ => (by_address(json!(format!("nobody {number}"))), "user_not_found"),
        };
        calls.push(call);
        due.push(outcome);
    }
    for at in [13, 27] {
        calls[at] = by_id(json!("a\0b"));
        due[at] = absent;
    }
    // No lock keeps a reader of SQLite waiting, so that they come together there by themselves.
    let lock = match kind {
        Kind::Sqlite => None,
        Kind::Postgres => Some("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE"),
        Kind::MariaDb => Some("LOCK TABLES users WRITE"),
    };
    let Some(lock) = lock else {
        let calls = calls.into_iter().map(|(action, arguments)| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.invoke(action, arguments).await })
        });
        for (call, due) in calls.collect::<Vec<_>>().into_iter().zip(due) {
            let answer = call.await.unwrap();
            assert_eq!(answer["error_code"].as_str().unwrap_or("ok"), due);
        }
        return;
    };
    let held = database.hold(lock).await;
    assert_eq!(together(sidecar, &client, calls, async { drop(held) }).await, due);
}

/// A connection that is kept from one look-up to the next may have been lost in between, as when a
/// server is restarted: a read is made again, and nobody is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_between_two_look_ups_is_no_failure() {
    for kind in [Kind::Postgres, Kind::MariaDb] {
        let Running { sidecar, database, .. } = &StoreKind::Bundled(kind).start(&[]);
        let client = sidecar.client();
        let user = client.create_user(&email_address()).await;
        for _ in 0..3 {
            assert_eq!(client.get_user(&user).await, user);
            assert!(database.end_connections().await > 0, "the pool has a connection");
            assert_eq!(client.get_user(&user).await, user);
        }
    }
}

/// An absence that is not certain would sign people out for good.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_whom_the_database_calls_otherwise_is_not_said_to_be_absent() {
    let Running { sidecar, database, .. } = &StoreKind::Bundled(Kind::Postgres).start(&OPTIONS);
    let client = sidecar.client();
    let user = client.create_user(&email_address()).await;
    // Such a column pads what it gives, and compares without what it has padded.
    database.execute("ALTER TABLE users ALTER COLUMN id TYPE CHAR(40)").await;
    let by_id = json!({ "user_id": user["id"] });
    assert_eq!(client.error_code("get_user", by_id).await, "internal_error");
    let line = sidecar.process.wait_for_log("who was not asked for");
    assert!(line.contains("byte for byte"), "{line}");
}

/// How many commits the journal of an SQLite file holds: a frame that ends one has the size of the
/// file in its head. SQLite's file format, sections 4.1 and 4.2.
fn commits(journal: &str) -> usize {
    let journal = std::fs::read(journal).unwrap();
    let (head, frames) = journal.split_at(32);
    let page = u32::from_be_bytes(head[8..12].try_into().unwrap()) as usize;
    let of_this_journal = |frame: &&[u8]| frame[8..16] == head[16..24];
    let ends_a_commit = |frame: &&[u8]| frame[4..8] != [0; 4];
    frames.chunks_exact(24 + page).take_while(of_this_journal).filter(ends_a_commit).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_wait_together_to_sqlite_share_a_commit() {
    const WRITES: usize = 20;
    let Running { sidecar, database, .. } = &StoreKind::Bundled(Kind::Sqlite).start(&OPTIONS);
    let client = Arc::new(sidecar.client());
    client.create_user(&email_address()).await;
    let journal = format!("{}-wal", database.url.strip_prefix("sqlite://").unwrap());
    let before = commits(&journal);
    assert!(before > 0, "the first user is there");
    let calls = (0..WRITES).map(|_| ("create_user", new_user(&email_address())));
    let held = database.hold("BEGIN IMMEDIATE").await;
    let outcomes = together(sidecar, &client, calls.collect(), async { drop(held) }).await;
    assert_eq!(outcomes, ["ok"; WRITES]);
    // The first was begun with before the others had come.
    let shared = commits(&journal) - before;
    assert!((1..=3).contains(&shared), "{shared} commits for {WRITES} writes");
}

/// What a trigger does may roll everything back, and what is looked at with the commit fails all of
/// it; the writes beside it are made all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_takes_no_other_with_it() {
    let Running { sidecar, database, .. } = &StoreKind::Bundled(Kind::Sqlite).start(&OPTIONS);
    database.execute("CREATE TABLE names (name TEXT UNIQUE)").await;
    database.execute("INSERT INTO names VALUES ('taken')").await;
    database
        .execute(
            "CREATE TABLE owned (owner TEXT REFERENCES names (name) DEFERRABLE INITIALLY DEFERRED)",
        )
        .await;
    for raised in [
        "SELECT RAISE(ABORT, 'refused')",
        "SELECT RAISE(ROLLBACK, 'refused')",
        "INSERT OR ROLLBACK INTO names VALUES ('taken')",
        "INSERT INTO owned VALUES ('nobody')",
        "SELECT RAISE(IGNORE)",
        "SELECT json('{')",
    ] {
        let trigger = format!(
            "CREATE TRIGGER refused BEFORE INSERT ON users WHEN NEW.email_address LIKE 'refused%' \
             BEGIN {raised}; END"
        );
        database.execute(&trigger).await;
        let client = Arc::new(sidecar.client());
        let user = client.create_user(&email_address()).await;
        let create = |address: String| ("create_user", new_user(&address));
        let increment = |seen: i32| {
            let arguments = json!({ "user_id": user["id"], "user_sessions_counter": seen });
            ("increment_user_sessions_counter", arguments)
        };
        let taken = user["email_address"].as_str().unwrap();
        let calls = vec![
            create(email_address()),
            create(taken.to_owned()),
            increment(7),
            create(format!("refused {}", email_address())),
            create(email_address()),
            increment(0),
            ("delete_user", json!({ "user_id": "nobody" })),
        ];
        let due = [
            "ok",
            "email_address_already_used",
            "user_not_found",
            "internal_error",
            "ok",
            "ok",
            "user_not_found",
        ];
        let before = database.number("SELECT COUNT(*) FROM users").await;
        let held = database.hold("BEGIN IMMEDIATE").await;
        assert_eq!(together(sidecar, &client, calls, async { drop(held) }).await, due, "{raised}");
        assert_eq!(database.number("SELECT COUNT(*) FROM users").await, before + 2, "{raised}");
        let now = client.get_user(&user).await;
        assert_eq!(now["sessions_counter"], 1, "{raised}");
        database.execute("DROP TRIGGER refused").await;
    }
}
