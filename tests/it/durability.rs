//! What was acknowledged is there, whatever happens to the process.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};

use crate::harness::{
    client::new_user,
    email_address,
    process::{Pki, Sidecar, SqliteFile},
};

const CLIENTS: usize = 8;
const WRITES: usize = 1_000;

/// What one client knows of its users: the value that each acknowledged write left behind.
#[derive(Default)]
struct Acknowledged {
    users: Vec<(Value, i64)>,
    deleted: Vec<Value>,
    /// Writes to users whose deletion was not answered: they may be there or not.
    uncertain: i64,
    created: usize,
}

/// SIGKILL while writes come in, after a thousand of them were acknowledged: all of those are
/// there, and the file is sound.
#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_write_is_lost_by_a_kill() {
    let file = SqliteFile::new();
    let pki = Arc::new(Pki::new());
    let mut sidecar = Sidecar::start_with(Arc::clone(&pki), &file.url(), &[]);
    sidecar.wait_until_ready();
    let count = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let client = sidecar.client();
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut acknowledged = Acknowledged::default();
                // Ends with the first write that nobody answers any more.
                while write_once(&client, &mut acknowledged).await {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                acknowledged
            })
        })
        .collect();
    while count.load(Ordering::Relaxed) < WRITES {
        tokio::task::yield_now().await;
    }
    sidecar.process.kill();
    let mut results = Vec::new();
    for client in clients {
        results.push(client.await.unwrap());
    }

    let sidecar = Sidecar::start_with(pki, &file.url(), &[]);
    sidecar.wait_until_ready();
    let client = sidecar.client();
    let mut checked = 0;
    for Acknowledged { users, deleted, uncertain, .. } in results {
        checked += uncertain;
        for (user, sessions_counter) in users {
            let found = client.get_user(&user).await;
            assert_eq!(found["email_address"], user["email_address"]);
            assert_eq!(found["password_hash"], user["password_hash"]);
            // The write that was under way at the end may have come through.
            let counter = found["sessions_counter"].as_i64().unwrap();
            assert!((sessions_counter..=sessions_counter + 1).contains(&counter), "{found}");
            checked += 1 + sessions_counter;
        }
        for id in deleted {
            let code = client.error_code("get_user", json!({ "user_id": id })).await;
            assert_eq!(code, "user_not_found");
            // Its creation, three times signed out, its deletion.
            checked += 5;
        }
    }
    let acknowledged = i64::try_from(count.load(Ordering::Relaxed)).unwrap();
    assert_eq!(checked, acknowledged, "each of them is accounted for");
}

/// Creates a user, signs it out, or deletes it, in turn. Whether the write was acknowledged.
async fn write_once(
    client: &crate::harness::client::Client,
    acknowledged: &mut Acknowledged,
) -> bool {
    let post = async |action: &str, arguments: Value| {
        let body = json!({ "action": action, "arguments": arguments }).to_string();
        let answer = client.try_post(body).await.ok()?.json();
        assert_eq!(answer["ok"], true, "{answer}");
        Some(answer)
    };
    match acknowledged.users.last_mut() {
        Some((user, counter)) if *counter < 3 => {
            let arguments = json!({ "user_id": user["id"], "user_sessions_counter": *counter });
            let answered = post("increment_user_sessions_counter", arguments).await.is_some();
            *counter += i64::from(answered);
            answered
        }
        // Every fifth is deleted.
        Some((user, counter)) if acknowledged.created % 5 == 4 => {
            acknowledged.created += 1;
            let (id, writes) = (user["id"].clone(), 1 + *counter);
            acknowledged.users.pop();
            let answered = post("delete_user", json!({ "user_id": id })).await.is_some();
            if answered {
                acknowledged.deleted.push(id);
            } else {
                acknowledged.uncertain += writes;
            }
            answered
        }
        _ => match post("create_user", new_user(&email_address())).await {
            Some(answer) => {
                acknowledged.users.push((answer["values"]["user"].clone(), 0));
                acknowledged.created += 1;
                true
            }
            None => false,
        },
    }
}
