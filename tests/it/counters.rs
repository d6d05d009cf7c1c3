//! The counters from end to end of their range, and the SQL with which operators move them.
//! `faroe-endpoint`, sections 2 and 3.

use serde_json::{Value, json};

use crate::harness::{
    PLANTED, base64,
    database::{COLUMNS, Database, Kind},
    email_address, on_every_database,
    stores::{Running, StoreKind},
};

on_every_database!(
    a_matching_counter_goes_up_by_one_and_nothing_else_moves,
    a_counter_at_its_end_is_an_internal_error_and_changes_nothing,
    a_counter_that_does_not_match_changes_nothing,
    the_database_refuses_a_counter_out_of_range,
    a_counter_out_of_range_never_leaves_the_sidecar,
    operators_change_users_by_sql,
);

const MAX: i32 = i32::MAX;

/// The three actions that compare and set.
#[derive(Debug, Clone, Copy)]
enum CompareAndSet {
    EmailAddress,
    PasswordHash,
    Sessions,
}

impl CompareAndSet {
    const ALL: [Self; 3] = [Self::EmailAddress, Self::PasswordHash, Self::Sessions];

    const fn action(self) -> &'static str {
        match self {
            Self::EmailAddress => "update_user_email_address",
            Self::PasswordHash => "update_user_password_hash",
            Self::Sessions => "increment_user_sessions_counter",
        }
    }

    const fn counter(self) -> &'static str {
        match self {
            Self::EmailAddress => "email_address_counter",
            Self::PasswordHash => "password_hash_counter",
            Self::Sessions => "sessions_counter",
        }
    }

    /// The members that the action sets.
    fn changes(self) -> Value {
        match self {
            Self::EmailAddress => json!({ "email_address": email_address() }),
            Self::PasswordHash => json!({
                "password_hash": base64("another planted hash"),
                "password_hash_algorithm_id": "another planted algorithm",
                "password_salt": base64("another planted salt"),
            }),
            Self::Sessions => json!({}),
        }
    }

    fn arguments(self, id: &Value, changes: &Value, counter: i32) -> Value {
        let mut arguments = changes.clone();
        arguments["user_id"] = id.clone();
        arguments[format!("user_{}", self.counter())] = json!(counter);
        arguments
    }
}

const COUNTERS: [&str; 4] =
    ["email_address_counter", "password_hash_counter", "disabled_counter", "sessions_counter"];

/// A user whose counters all differ and who was last changed long ago, so that every change shows.
async fn user(running: &Running) -> Value {
    let user = running.client().create_user(&email_address()).await;
    let sets: Vec<String> =
        COUNTERS.iter().zip(101..).map(|(counter, n)| format!("{counter} = {n}")).collect();
    let sets = format!("{}, updated_at = '2001-01-01 00:00:00'", sets.join(", "));
    set(&running.database, &user["id"], &sets).await;
    user
}

async fn set(database: &Database, id: &Value, sets: &str) {
    let id = id.as_str().unwrap();
    let sql = format!("UPDATE users SET {sets} WHERE id = '{id}'");
    assert_eq!(database.execute(&sql).await, 1, "{sql}");
}

/// The row of a user in a dump, and the other rows.
fn row(dump: &str, number: usize) -> (Vec<String>, Vec<String>) {
    let mut others: Vec<String> = dump.lines().map(str::to_owned).collect();
    let row = others.remove(number);
    (row.split('|').map(str::to_owned).collect(), others)
}

async fn a_matching_counter_goes_up_by_one_and_nothing_else_moves(kind: Kind) {
    let running = StoreKind::Bundled(kind).start(&[]);
    let client = running.client();
    // IDs go up with time: the one in the middle is in line 1 of a dump.
    user(&running).await;
    let id = user(&running).await["id"].clone();
    user(&running).await;

    for cas in CompareAndSet::ALL {
        for counter in [0, 1, MAX - 1] {
            let sets = format!("{} = {counter}, updated_at = '2001-01-01 00:00:00'", cas.counter());
            set(&running.database, &id, &sets).await;
            let mut expected = client.get_user(&json!({ "id": id })).await;
            let before = running.database.dump().await;

            let changes = cas.changes();
            let values = client.values(cas.action(), cas.arguments(&id, &changes, counter)).await;
            assert_eq!(values, json!({}));

            for (member, value) in changes.as_object().unwrap() {
                expected[member] = value.clone();
            }
            expected[cas.counter()] = json!(counter + 1);
            assert_eq!(client.get_user(&json!({ "id": id })).await, expected);

            // The table says so too, times included.
            let (before, others_before) = row(&before, 1);
            let (after, others_after) = row(&running.database.dump().await, 1);
            assert_eq!(others_before, others_after, "{cas:?} {counter}: another user");
            let changed: Vec<&str> = COLUMNS
                .into_iter()
                .zip(before.iter().zip(&after))
                .filter_map(|(column, (before, after))| (before != after).then_some(column))
                .collect();
            let mut expected: Vec<&str> = match (cas, counter) {
                // The hash is a new one the first time only.
                (CompareAndSet::PasswordHash, 1..) => vec![],
                _ => changes.as_object().unwrap().keys().map(String::as_str).collect(),
            };
            expected.extend([cas.counter(), "updated_at"]);
            expected.sort_by_key(|name| COLUMNS.iter().position(|column| column == name));
            assert_eq!(changed, expected, "{cas:?} {counter}");
        }
    }
}

async fn a_counter_at_its_end_is_an_internal_error_and_changes_nothing(kind: Kind) {
    let running = StoreKind::Bundled(kind).start(&[]);
    let client = running.client();
    let taken = user(&running).await["email_address"].clone();
    let user = user(&running).await;
    let id = &user["id"];
    for cas in CompareAndSet::ALL {
        set(&running.database, id, &format!("{} = {MAX}", cas.counter())).await;
        let before = running.database.dump().await;
        let mut attempts = vec![cas.changes()];
        if matches!(cas, CompareAndSet::EmailAddress) {
            attempts.push(json!({ "email_address": user["email_address"] }));
            attempts.push(json!({ "email_address": taken }));
        }
        for changes in attempts {
            let arguments = cas.arguments(id, &changes, MAX);
            let code = client.error_code(cas.action(), arguments).await;
            assert_eq!(code, "internal_error", "{cas:?}");
            assert_eq!(running.database.dump().await, before, "{cas:?}");
        }
        // The user is as good as before: reads go on, and so do the other two.
        assert_eq!(client.get_user(&user).await[cas.counter()], json!(MAX));
        // Nobody's counter is at its end where there is nobody.
        let arguments = cas.arguments(&json!("nobody"), &cas.changes(), MAX);
        assert_eq!(client.error_code(cas.action(), arguments).await, "user_not_found", "{cas:?}");
    }
}

async fn a_counter_that_does_not_match_changes_nothing(kind: Kind) {
    let running = StoreKind::Bundled(kind).start(&[]);
    let client = running.client();
    let taken = user(&running).await["email_address"].clone();
    let user = user(&running).await;
    let id = &user["id"];
    for cas in CompareAndSet::ALL {
        for counter in [0, 1, 1000, MAX - 1, MAX] {
            set(&running.database, id, &format!("{} = {counter}", cas.counter())).await;
            let before = running.database.dump().await;
            let wrong = [
                counter.wrapping_sub(1),
                counter.wrapping_add(1),
                -1,
                i32::MIN,
                0,
                MAX,
                counter ^ 0x4000_0000,
                !counter,
                // The values of the user's other counters.
                101,
                102,
                103,
                104,
            ];
            for seen in wrong.into_iter().filter(|seen| *seen != counter) {
                let mut attempts = vec![cas.changes()];
                if matches!(cas, CompareAndSet::EmailAddress) {
                    // That the address is taken must not show.
                    attempts.push(json!({ "email_address": taken }));
                }
                for changes in attempts {
                    let arguments = cas.arguments(id, &changes, seen);
                    let code = client.error_code(cas.action(), arguments).await;
                    assert_eq!(code, "user_not_found", "{cas:?}: {counter}, seen {seen}");
                }
            }
            assert_eq!(running.database.dump().await, before, "{cas:?}: {counter}");
        }
    }
}

async fn the_database_refuses_a_counter_out_of_range(kind: Kind) {
    let running = StoreKind::Bundled(kind).start(&[]);
    let user = user(&running).await;
    let id = user["id"].as_str().unwrap();
    let before = running.database.dump().await;
    for counter in COUNTERS {
        for value in ["-1", "-2147483648", "2147483648", "9223372036854775807", "NULL"] {
            let sql = format!("UPDATE users SET {counter} = {value} WHERE id = '{id}'");
            assert!(running.database.try_execute(&sql).await.is_err(), "{sql}");
        }
        let sql = format!("UPDATE users SET {counter} = 2147483647 WHERE id = '{id}'");
        running.database.execute(&sql).await;
        let sql = format!("UPDATE users SET {counter} = {counter} + 1 WHERE id = '{id}'");
        assert!(running.database.try_execute(&sql).await.is_err(), "{sql}");
        let restored = 101 + COUNTERS.iter().position(|name| *name == counter).unwrap();
        set(&running.database, &user["id"], &format!("{counter} = {restored}")).await;
    }
    assert_eq!(running.database.dump().await, before);
}

/// Who takes the checks away can write what they like; Faroe would still wrap the one and fail on
/// the other.
async fn a_counter_out_of_range_never_leaves_the_sidecar(kind: Kind) {
    for value in [-1, i64::from(i32::MIN), i64::from(MAX) + 1, 1 << 32] {
        let running = StoreKind::Bundled(kind).start(&[]);
        let client = running.client();
        let user = user(&running).await;
        let id = user["id"].as_str().unwrap();
        let lift = match kind {
            Kind::Sqlite => "PRAGMA ignore_check_constraints = ON",
            Kind::Postgres => {
                "ALTER TABLE users DROP CONSTRAINT users_sessions_counter_check,
                 ALTER COLUMN sessions_counter TYPE BIGINT"
            }
            Kind::MariaDb => {
                "SET check_constraint_checks = OFF;
                 ALTER TABLE users MODIFY sessions_counter BIGINT NOT NULL"
            }
        };
        let sql = format!("{lift}; UPDATE users SET sessions_counter = {value} WHERE id = '{id}'");
        running.database.execute(&sql).await;
        let before = running.database.dump().await;

        for (action, arguments) in [
            ("get_user", json!({ "user_id": id })),
            ("get_user_by_email_address", json!({ "email_address": user["email_address"] })),
        ] {
            let code = client.error_code(action, arguments).await;
            assert_eq!(code, "internal_error", "{action} {value}");
        }
        assert_eq!(running.database.dump().await, before, "{value}");
    }
}

async fn operators_change_users_by_sql(kind: Kind) {
    let running = StoreKind::Bundled(kind).start(&[]);
    let client = running.client();
    let bystander = user(&running).await;
    let bystander = client.get_user(&bystander).await;
    let user = user(&running).await;
    let address = user["email_address"].as_str().unwrap();
    let mut expected = client.get_user(&user).await;

    // To disable, once: the second time there is nothing to do, and the counter stays.
    let disable = format!(
        "UPDATE users SET disabled = TRUE, disabled_counter = disabled_counter + 1, \
         updated_at = CURRENT_TIMESTAMP WHERE email_address = '{address}' AND NOT disabled"
    );
    let before = running.database.dump().await;
    assert_eq!(running.database.execute(&disable).await, 1);
    expected["disabled"] = json!(true);
    expected["disabled_counter"] = json!(104);
    assert_eq!(client.get_user(&user).await, expected);
    assert_eq!(running.database.execute(&disable).await, 0);
    assert_eq!(client.get_user(&user).await, expected);
    let updated_at = |dump: &str| row(dump, 1).0.pop().unwrap();
    assert_ne!(updated_at(&running.database.dump().await), updated_at(&before));

    // To enable.
    let enable = format!(
        "UPDATE users SET disabled = FALSE, disabled_counter = disabled_counter + 1, \
         updated_at = CURRENT_TIMESTAMP WHERE email_address = '{address}' AND disabled"
    );
    assert_eq!(running.database.execute(&enable).await, 1);
    expected["disabled"] = json!(false);
    expected["disabled_counter"] = json!(105);
    assert_eq!(client.get_user(&user).await, expected);
    assert_eq!(running.database.execute(&enable).await, 0);
    assert_eq!(client.get_user(&user).await, expected);

    // To rename.
    let name = format!("Zo\u{eb} \u{1f600} {PLANTED}");
    let rename = format!(
        "UPDATE users SET display_name = '{name}', updated_at = CURRENT_TIMESTAMP \
         WHERE email_address = '{address}'"
    );
    assert_eq!(running.database.execute(&rename).await, 1);
    expected["display_name"] = json!(name);
    assert_eq!(client.get_user(&user).await, expected);

    // To sign out everywhere: who saw the counter before has lost.
    let sign_out = format!(
        "UPDATE users SET sessions_counter = sessions_counter + 1, \
         updated_at = CURRENT_TIMESTAMP WHERE email_address = '{address}'"
    );
    assert_eq!(running.database.execute(&sign_out).await, 1);
    let seen = expected["sessions_counter"].as_i64().unwrap();
    expected["sessions_counter"] = json!(seen + 1);
    assert_eq!(client.get_user(&user).await, expected);
    let arguments = json!({ "user_id": user["id"], "user_sessions_counter": seen });
    let code = client.error_code("increment_user_sessions_counter", arguments).await;
    assert_eq!(code, "user_not_found");
    let found = json!({ "email_address": address });
    assert_eq!(client.values("get_user_by_email_address", found).await["user"], expected);

    // To look up, byte for byte.
    for (wanted, ids) in [
        (address.to_owned(), vec![user["id"].as_str().unwrap().to_owned()]),
        (address.to_uppercase(), vec![]),
        (format!("{address} "), vec![]),
    ] {
        let sql = format!("SELECT id FROM users WHERE email_address = '{wanted}'");
        assert_eq!(running.database.texts(&sql).await, ids, "{wanted:?}");
        let sql = format!("SELECT display_name FROM users WHERE email_address = '{wanted}'");
        assert_eq!(running.database.texts(&sql).await.len(), ids.len(), "{wanted:?}");
    }
    assert_eq!(client.get_user(&bystander).await, bystander);
}
