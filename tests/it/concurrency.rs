//! Many callers at once, on two sidecars over one database: exactly one wins.
//! `faroe-endpoint`, section 3.
//!
//! `internal_conflict` says that nothing was changed, so whoever gets it has lost. SQLite has no
//! reason to give it (writers queue for longer than these tests take), PostgreSQL only where two
//! statements wait for each other; MariaDB takes more locks and may find a deadlock anywhere.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use tokio::{sync::Barrier, task::JoinSet};

use crate::harness::{
    base64,
    client::{Client, new_user},
    database::Kind,
    email_address, on_every_database,
    stores::Pair,
};

on_every_database!(
    one_of_many_creations_of_an_email_address_succeeds,
    creations_of_different_users_all_succeed,
    one_of_many_updates_of_an_email_address_succeeds,
    one_of_many_updates_of_a_password_hash_succeeds,
    one_of_many_increments_of_a_sessions_counter_succeeds,
    one_of_many_deletions_succeeds,
    of_two_users_who_want_an_email_address_one_gets_it,
    two_users_who_want_each_others_email_address_keep_their_own,
    a_user_deleted_during_an_update_is_gone,
);

const MANY: usize = 64;

/// An action and its arguments.
type Call = (&'static str, Value);

/// Makes the calls at the same time, each other one through each other sidecar, and gives the
/// answers in the order of the calls.
async fn at_once(clients: &[Arc<Client>; 2], calls: Vec<Call>) -> Vec<Value> {
    let start = Arc::new(Barrier::new(calls.len()));
    let mut tasks = JoinSet::new();
    for (number, (action, arguments)) in calls.into_iter().enumerate() {
        let (client, start) = (Arc::clone(&clients[number % 2]), Arc::clone(&start));
        tasks.spawn(async move {
            start.wait().await;
            (number, client.invoke(action, arguments).await)
        });
    }
    let mut answers: Vec<(usize, Value)> = tasks.join_all().await;
    answers.sort_by_key(|(number, _)| *number);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// `ok` or the error code.
fn outcome(answer: &Value) -> &str {
    if answer["ok"] == true { "ok" } else { answer["error_code"].as_str().unwrap() }
}

fn count(answers: &[Value]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(outcome(answer)).or_default() += 1;
    }
    counts
}

/// Exactly one has won, all others have lost in this way; gives the number of the winner.
fn one_wins(kind: Kind, answers: &[Value], loss: &str) -> usize {
    let mut counts = count(answers);
    // On MariaDB a deadlock is a loss too.
    let conflicts = match kind {
        Kind::MariaDb => counts.remove("internal_conflict").unwrap_or(0),
        Kind::Sqlite | Kind::Postgres => 0,
    };
    assert_eq!(counts, [("ok", 1), (loss, answers.len() - 1 - conflicts)].into(), "{kind:?}");
    answers.iter().position(|answer| outcome(answer) == "ok").unwrap()
}

fn clients(pair: &Pair) -> [Arc<Client>; 2] {
    pair.clients().map(Arc::new)
}

async fn one_of_many_creations_of_an_email_address_succeeds(kind: Kind) {
    let pair = Pair::start(kind);
    let clients = clients(&pair);
    for round in 1..=3 {
        let address = email_address();
        // Each with a hash of its own, so that it shows whose row is there.
        let create = |number: usize| {
            let mut arguments = new_user(&address);
            arguments["password_hash"] = json!(base64(format!("planted hash {number}")));
            ("create_user", arguments)
        };
        let answers = at_once(&clients, (0..MANY).map(create).collect()).await;
        let winner = one_wins(kind, &answers, "email_address_already_used");
        let user = &answers[winner]["values"]["user"];
        assert_eq!(user["password_hash"], create(winner).1["password_hash"]);
        for client in &clients {
            assert_eq!(&client.get_user(user).await, user);
            let arguments = json!({ "email_address": address });
            let found = client.values("get_user_by_email_address", arguments).await;
            assert_eq!(&found["user"], user);
        }
        assert_eq!(pair.database.dump().await.lines().count(), round);
    }
}

async fn creations_of_different_users_all_succeed(kind: Kind) {
    let pair = Pair::start(kind);
    let clients = clients(&pair);
    let addresses: Vec<String> = (0..MANY).map(|_| email_address()).collect();
    let calls = addresses.iter().map(|address| ("create_user", new_user(address))).collect();
    let answers = at_once(&clients, calls).await;
    assert_eq!(count(&answers), [("ok", MANY)].into());
    for (answer, address) in answers.iter().zip(&addresses) {
        let user = &answer["values"]["user"];
        assert_eq!(user["email_address"], json!(address));
        assert_eq!(&clients[0].get_user(user).await, user);
        assert_eq!(&clients[1].get_user(user).await, user);
    }
    assert_eq!(pair.database.dump().await.lines().count(), MANY);
}

async fn one_of_many_updates_of_an_email_address_succeeds(kind: Kind) {
    one_of_many_compare_and_sets_succeeds(kind, "email_address_counter", |id, counter, _| {
        (
            "update_user_email_address",
            json!({
                "user_id": id,
                "email_address": email_address(),
                "user_email_address_counter": counter,
            }),
        )
    })
    .await;
}

async fn one_of_many_updates_of_a_password_hash_succeeds(kind: Kind) {
    one_of_many_compare_and_sets_succeeds(kind, "password_hash_counter", |id, counter, number| {
        (
            "update_user_password_hash",
            json!({
                "user_id": id,
                "password_hash": base64(format!("planted hash {number}")),
                "password_hash_algorithm_id": format!("algorithm {number}"),
                "password_salt": base64(format!("planted salt {number}")),
                "user_password_hash_counter": counter,
            }),
        )
    })
    .await;
}

async fn one_of_many_increments_of_a_sessions_counter_succeeds(kind: Kind) {
    one_of_many_compare_and_sets_succeeds(kind, "sessions_counter", |id, counter, _| {
        (
            "increment_user_sessions_counter",
            json!({ "user_id": id, "user_sessions_counter": counter }),
        )
    })
    .await;
}

async fn one_of_many_compare_and_sets_succeeds(
    kind: Kind,
    counter: &str,
    call: impl Fn(&Value, i32, usize) -> Call,
) {
    let pair = Pair::start(kind);
    let clients = clients(&pair);
    let mut expected = clients[0].create_user(&email_address()).await;
    let id = expected["id"].clone();
    for round in 0..3 {
        let calls: Vec<Call> = (0..MANY).map(|number| call(&id, round, number)).collect();
        let answers = at_once(&clients, calls.clone()).await;
        let winner = one_wins(kind, &answers, "user_not_found");
        // The whole of what the winner sent is there, and nothing of the others.
        for (member, value) in calls[winner].1.as_object().unwrap() {
            if expected.get(member).is_some() {
                expected[member] = value.clone();
            }
        }
        expected[counter] = json!(round + 1);
        for client in &clients {
            assert_eq!(client.get_user(&expected).await, expected, "{kind:?} round {round}");
        }
    }
}

async fn one_of_many_deletions_succeeds(kind: Kind) {
    let pair = Pair::start(kind);
    let clients = clients(&pair);
    for _ in 0..3 {
        let user = clients[0].create_user(&email_address()).await;
        let delete = ("delete_user", json!({ "user_id": user["id"] }));
        let answers = at_once(&clients, vec![delete; MANY]).await;
        one_wins(kind, &answers, "user_not_found");
        assert_eq!(pair.database.dump().await, "");
    }
}

fn set_email_address(user: &Value, address: &Value) -> Call {
    let arguments = json!({
        "user_id": user["id"], "email_address": address, "user_email_address_counter": 0,
    });
    ("update_user_email_address", arguments)
}

/// Pairs of users, both callers of a pair next to each other.
async fn pairs_of_users(client: &Client, pairs: usize) -> Vec<[Value; 2]> {
    let mut users = Vec::new();
    for _ in 0..pairs {
        users.push([
            client.create_user(&email_address()).await,
            client.create_user(&email_address()).await,
        ]);
    }
    users
}

async fn of_two_users_who_want_an_email_address_one_gets_it(kind: Kind) {
    let pair = Pair::start(kind);
    let clients = clients(&pair);
    let users = pairs_of_users(&clients[0], MANY / 2).await;
    let wanted: Vec<Value> = users.iter().map(|_| json!(email_address())).collect();
    let calls = users
        .iter()
        .zip(&wanted)
        .flat_map(|(users, address)| users.each_ref().map(|user| set_email_address(user, address)))
        .collect();
    let answers = at_once(&clients, calls).await;
    for ((users, address), answers) in users.iter().zip(&wanted).zip(answers.chunks(2)) {
        let winner = one_wins(kind, answers, "email_address_already_used");
        let mut expected = users.clone();
        expected[winner]["email_address"] = address.clone();
        expected[winner]["email_address_counter"] = json!(1);
        for client in &clients {
            for (user, expected) in users.iter().zip(&expected) {
                assert_eq!(&client.get_user(user).await, expected);
            }
            let arguments = json!({ "email_address": address });
            let found = client.values("get_user_by_email_address", arguments).await;
            assert_eq!(found["user"], expected[winner]);
        }
    }
}

/// In no order could either have the other's address: both are taken at every moment.
async fn two_users_who_want_each_others_email_address_keep_their_own(kind: Kind) {
    let pair = Pair::start(kind);
    let clients = clients(&pair);
    let users = pairs_of_users(&clients[0], 8).await;
    let before = pair.database.dump().await;
    let calls = users
        .iter()
        .flat_map(|[one, other]| {
            [
                set_email_address(one, &other["email_address"]),
                set_email_address(other, &one["email_address"]),
            ]
        })
        .collect();
    let answers = at_once(&clients, calls).await;
    for answer in &answers {
        match outcome(answer) {
            "email_address_already_used" => {}
            // Each waits for the other's row: a deadlock, which PostgreSQL and MariaDB find.
            "internal_conflict" => assert_ne!(kind, Kind::Sqlite),
            other => panic!("{kind:?}: {other}"),
        }
    }
    assert_eq!(pair.database.dump().await, before);
}

async fn a_user_deleted_during_an_update_is_gone(kind: Kind) {
    let pair = Pair::start(kind);
    let clients = clients(&pair);
    type Update = fn(&Value, &Value) -> Call;
    let updates: [Update; 3] = [
        |user, address| set_email_address(user, address),
        |user, _| {
            (
                "update_user_password_hash",
                json!({
                    "user_id": user["id"],
                    "password_hash": base64("another planted hash"),
                    "password_hash_algorithm_id": "another",
                    "password_salt": base64("another planted salt"),
                    "user_password_hash_counter": 0,
                }),
            )
        },
        |user, _| {
            (
                "increment_user_sessions_counter",
                json!({ "user_id": user["id"], "user_sessions_counter": 0 }),
            )
        },
    ];
    for update in updates {
        let mut users = Vec::new();
        for _ in 0..MANY / 2 {
            let user = clients[0].create_user(&email_address()).await;
            users.push((user, json!(email_address())));
        }
        let calls = users
            .iter()
            .enumerate()
            .flat_map(|(number, (user, address))| {
                let delete = ("delete_user", json!({ "user_id": user["id"] }));
                // Now this one, now that one first.
                if number % 2 == 0 {
                    [update(user, address), delete]
                } else {
                    [delete, update(user, address)]
                }
            })
            .collect();
        let answers = at_once(&clients, calls).await;
        for ((number, (user, address)), answers) in users.iter().enumerate().zip(answers.chunks(2))
        {
            let (updated, deleted) = match number % 2 {
                0 => (outcome(&answers[0]), outcome(&answers[1])),
                _ => (outcome(&answers[1]), outcome(&answers[0])),
            };
            let conflicts = kind == Kind::MariaDb;
            assert!(
                matches!(updated, "ok" | "user_not_found")
                    || conflicts && updated == "internal_conflict",
                "{kind:?}: {updated}"
            );
            if conflicts && deleted == "internal_conflict" {
                // Nothing was deleted; then nothing kept the update from finding the user.
                assert_ne!(updated, "user_not_found");
                clients[0].values("delete_user", json!({ "user_id": user["id"] })).await;
            } else {
                assert_eq!(deleted, "ok", "{kind:?}");
            }
            for client in &clients {
                for (action, arguments) in [
                    ("get_user", json!({ "user_id": user["id"] })),
                    (
                        "get_user_by_email_address",
                        json!({ "email_address": user["email_address"] }),
                    ),
                    ("get_user_by_email_address", json!({ "email_address": address })),
                ] {
                    assert_eq!(client.error_code(action, arguments).await, "user_not_found");
                }
            }
        }
        assert_eq!(pair.database.dump().await, "");
    }
}
