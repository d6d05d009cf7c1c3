//! What a database says of a conflict: transient ones are `internal_conflict`, violations of
//! another constraint than that of the email address are not `email_address_already_used`.

use std::sync::Arc;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection, PgConnection, SqliteConnection};

use crate::harness::{
    client::new_user, database::Kind, email_address, process::Sidecar, stores::StoreKind,
};

fn sign_out(user: &Value) -> Value {
    json!({ "user_id": user["id"], "user_sessions_counter": user["sessions_counter"] })
}

fn lock_row(user: &Value) -> AssertSqlSafe<String> {
    let id = user["id"].as_str().unwrap();
    AssertSqlSafe(format!("UPDATE users SET display_name = 'held' WHERE id = '{id}'"))
}

/// Another writer holds the file for longer than the busy timeout.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_sqlite_file_is_internal_conflict() {
    let running = StoreKind::Bundled(Kind::Sqlite).start(&["--store-timeout", "1s"]);
    let client = running.client();
    let user = client.create_user(&email_address()).await;
    let mut other = SqliteConnection::connect(&running.database.url).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let code = client.error_code("increment_user_sessions_counter", sign_out(&user)).await;
    assert_eq!(code, "internal_conflict");
    assert_eq!(client.get_user(&user).await, user, "reads go on, and nothing was changed");
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    client.values("increment_user_sessions_counter", sign_out(&user)).await;
}

/// A row that another transaction of MariaDB holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_wait_timeout_of_mariadb_is_internal_conflict() {
    let running = StoreKind::Bundled(Kind::MariaDb).start(&["--store-timeout", "3s"]);
    let client = running.client();
    let user = client.create_user(&email_address()).await;
    let mut other = MySqlConnection::connect(&running.database.url).await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut other).await.unwrap();
    sqlx::raw_sql(lock_row(&user)).execute(&mut other).await.unwrap();
    let code = client.error_code("increment_user_sessions_counter", sign_out(&user)).await;
    assert_eq!(code, "internal_conflict");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    assert_eq!(client.get_user(&user).await, user);
    client.values("increment_user_sessions_counter", sign_out(&user)).await;
}

/// The same of PostgreSQL.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_timeout_of_postgres_is_internal_conflict() {
    let running = StoreKind::Bundled(Kind::Postgres).start(&["--store-timeout", "2s"]);
    let client = running.client();
    let user = client.create_user(&email_address()).await;
    let mut other = PgConnection::connect(&running.database.url).await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut other).await.unwrap();
    sqlx::raw_sql(lock_row(&user)).execute(&mut other).await.unwrap();
    let code = client.error_code("increment_user_sessions_counter", sign_out(&user)).await;
    assert_eq!(code, "internal_conflict");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    assert_eq!(client.get_user(&user).await, user);
    client.values("increment_user_sessions_counter", sign_out(&user)).await;
}

/// Waits until a session of the sidecar waits for a lock.
async fn sidecar_waits(observer: &mut PgConnection) {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                   AND application_name = 'faroe-sidecar' AND datname = current_database()";
    loop {
        let count: i64 = sqlx::query_scalar(waiting).fetch_one(&mut *observer).await.unwrap();
        if count > 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// A row that was changed under a serializable statement.
#[tokio::test(flavor = "multi_thread")]
async fn a_serialization_failure_is_internal_conflict() {
    let database = Kind::Postgres.database();
    database.execute("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database()); END $$").await;
    let sidecar = Sidecar::ready(&database.url, &["--migrate"]);
    let client = Arc::new(sidecar.client());
    let user = client.create_user(&email_address()).await;
    let mut other = PgConnection::connect(&database.url).await.unwrap();
    let mut observer = PgConnection::connect(&database.url).await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut other).await.unwrap();
    sqlx::raw_sql(lock_row(&user)).execute(&mut other).await.unwrap();
    let call = tokio::spawn({
        let (client, arguments) = (Arc::clone(&client), sign_out(&user));
        async move { client.error_code("increment_user_sessions_counter", arguments).await }
    });
    sidecar_waits(&mut observer).await;
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    assert_eq!(call.await.unwrap(), "internal_conflict");
    assert_eq!(client.get_user(&user).await["sessions_counter"], 0);
}

/// The sidecar holds a row and waits for an email address; whoever has that waits for the row.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_is_internal_conflict() {
    let running = StoreKind::Bundled(Kind::Postgres).start(&[]);
    let client = Arc::new(running.client());
    let user = client.create_user(&email_address()).await;
    let wanted = email_address();
    let mut other = PgConnection::connect(&running.database.url).await.unwrap();
    let mut observer = PgConnection::connect(&running.database.url).await.unwrap();
    // The other side does not look for deadlocks, so that it is the sidecar that finds this one.
    sqlx::raw_sql("SET deadlock_timeout = '1min'").execute(&mut other).await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut other).await.unwrap();
    let insert = format!(
        "INSERT INTO users (id, email_address, password_hash, password_hash_algorithm_id, \
         password_salt) VALUES ('other', '{wanted}', '', '', '')"
    );
    sqlx::raw_sql(AssertSqlSafe(insert)).execute(&mut other).await.unwrap();
    let call = tokio::spawn({
        let client = Arc::clone(&client);
        let arguments = json!({
            "user_id": user["id"], "email_address": wanted, "user_email_address_counter": 0,
        });
        async move { client.error_code("update_user_email_address", arguments).await }
    });
    sidecar_waits(&mut observer).await;
    sqlx::raw_sql(lock_row(&user)).execute(&mut other).await.unwrap();
    assert_eq!(call.await.unwrap(), "internal_conflict");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    assert_eq!(client.get_user(&user).await, user);
}

/// A unique constraint that an operator has added is not that of the email address, whatever the
/// address says.
#[tokio::test(flavor = "multi_thread")]
async fn another_unique_constraint_is_not_a_taken_email_address() {
    for kind in Kind::ALL {
        let running = StoreKind::Bundled(kind).start(&[]);
        let column = match kind {
            // An index on this type needs a length there.
            Kind::MariaDb => "password_hash_algorithm_id(100)",
            _ => "password_hash_algorithm_id",
        };
        running.database.execute(&format!("CREATE UNIQUE INDEX added ON users ({column})")).await;
        let client = running.client();
        client.create_user(&email_address()).await;
        for address in [
            email_address(),
            format!("{}' for key 'users_email_address_key'", email_address()),
            format!("{} UNIQUE constraint failed: users.email_address", email_address()),
        ] {
            let code = client.error_code("create_user", new_user(&address)).await;
            assert_eq!(code, "internal_error", "{kind:?}");
        }
    }
}

/// Longer than a database can hold: an error, and never a shortened address.
#[tokio::test(flavor = "multi_thread")]
async fn an_email_address_that_does_not_fit_is_internal_error() {
    for kind in Kind::ALL {
        let running = StoreKind::Bundled(kind).start(&[]);
        let client = running.client();
        let before = running.database.dump().await;
        // No compression makes this one fit an index.
        let mut state = 1_u64;
        let noise: String = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'a' + u8::try_from((state >> 33) % 26).unwrap())
        })
        .take(5_000)
        .collect();
        let address = format!("{noise}@planted.example");
        if kind == Kind::Sqlite {
            assert_eq!(client.create_user(&address).await["email_address"], address);
            continue;
        }
        let code = client.error_code("create_user", new_user(&address)).await;
        assert_eq!(code, "internal_error", "{kind:?}");
        assert_eq!(running.database.dump().await, before);
        // 1,000 characters fit everywhere.
        let address = &address[address.len() - 1_000..];
        assert_eq!(client.create_user(address).await["email_address"], address);
    }
}
