//! A pool whose connections are all in use is no store that is away: calls have their turn in order
//! or get 503 in time, the log says what to change, the circuit stays closed and the sidecar ready.
//! Where the server really is gone it opens.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::StatusCode;
use serde_json::{Value, json};
use sqlx::{Connection as _, MySqlConnection, PgConnection, SqliteConnection, raw_sql};
use tokio::task::{JoinSet, block_in_place};

use crate::harness::{
    client::{Client, admin},
    database::{Database, Held, Kind, Server, Stop, password},
    email_address,
    load::Load,
    metrics::{Metrics, wait_for_metrics},
    network::Network,
    process::{Sidecar, run},
    stores::{Running, StoreKind},
};

/// Many times the failures that open the circuit.
const CALLS: usize = 30;

/// How long a store may be away until its sidecar is not ready, and a look at it more.
const GRACE: Duration = Duration::from_secs(12);

/// What the log says when it opens, and when it closes.
const AWAY: &str = "the store is away: calls fail at once";
const BACK: &str = "the store answers again";

/// Holds what every write needs, as a transaction of somebody else does.
enum Lock {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    MariaDb(MySqlConnection),
}

impl Lock {
    async fn of(database: &Database) -> Self {
        match database.kind {
            Kind::Sqlite => {
                let mut db = SqliteConnection::connect(&database.url).await.unwrap();
                raw_sql("BEGIN IMMEDIATE").execute(&mut db).await.unwrap();
                Self::Sqlite(db)
            }
            Kind::Postgres => {
                let mut db = PgConnection::connect(&database.url).await.unwrap();
                let lock = "BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE";
                raw_sql(lock).execute(&mut db).await.unwrap();
                Self::Postgres(db)
            }
            Kind::MariaDb => {
                let mut db = MySqlConnection::connect(&database.url).await.unwrap();
                raw_sql("LOCK TABLES users WRITE").execute(&mut db).await.unwrap();
                Self::MariaDb(db)
            }
        }
    }

    async fn release(self) {
        match self {
            Self::Sqlite(db) => db.close().await.unwrap(),
            Self::Postgres(db) => db.close().await.unwrap(),
            Self::MariaDb(db) => db.close().await.unwrap(),
        }
    }
}

/// One write, and so many at once when it is in hand: how many were not invoked.
async fn refused_writes(sidecar: &Sidecar, client: &Arc<Client>, user_id: &str) -> usize {
    let arguments = json!({ "user_id": user_id, "user_sessions_counter": 0 });
    let body = json!({ "action": "increment_user_sessions_counter", "arguments": arguments });
    let call = || {
        let (client, body) = (Arc::clone(client), body.to_string());
        tokio::spawn(async move { client.post(body).await })
    };
    let first = call();
    // On SQLite those that wait at the same moment have their turn together.
    wait_for_metrics(sidecar, "it is in hand", |metrics| metrics.in_flight_requests() == 1.0).await;
    let calls: Vec<_> = std::iter::once(first).chain((1..CALLS).map(|_| call())).collect();
    let mut refused = 0;
    for call in calls {
        let reply = call.await.unwrap();
        match reply.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                assert_eq!(reply.header("retry-after"), Some("1"));
                refused += 1;
            }
            StatusCode::OK => {
                let code = reply.json()["error_code"].clone();
                assert!(code == "internal_conflict" || code == "internal_error", "{code}");
            }
            status => panic!("{status}"),
        }
    }
    refused
}

/// The database works, and everything that the pool has waits for somebody else's lock.
async fn a_pool_that_is_busy_opens_no_circuit(kind: Kind) {
    // Of the calls that wait for the lock fewer than open the circuit may wait beyond their time. On
    // SQLite the others have to come within 1.6 s, or they have their turn after the first.
    let options = ["--db-max-connections", "2", "--store-timeout", "10s"];
    let Running { sidecar, database, .. } = &StoreKind::Bundled(kind).start(&options);
    let client = Arc::new(sidecar.client());
    let user = client.create_user(&email_address()).await;
    let user_id = user["id"].as_str().unwrap();

    let lock = Lock::of(database).await;
    let start = Instant::now();
    let refused = refused_writes(sidecar, &client, user_id).await;
    assert!(refused >= CALLS - 6, "only {refused} had no turn");
    assert!(start.elapsed() > Duration::from_secs(1), "they waited for one");
    lock.release().await;

    // As many at once as an open circuit would let through one by one.
    let reads = (0..CALLS).map(|_| {
        let (client, id) = (Arc::clone(&client), user["id"].clone());
        tokio::spawn(async move {
            let values = client.values("get_user", json!({ "user_id": id })).await;
            assert_eq!(values["user"]["id"], id);
        })
    });
    for read in reads.collect::<Vec<_>>() {
        read.await.unwrap();
    }
    let busy = (("requests", "store_busy"), refused as f64);
    Metrics::of(sidecar).await.assert_rejected(&[busy]);
    let line = sidecar.process.wait_for_log("the store could not be reached");
    let why = if kind == Kind::Sqlite { "keeps the file locked" } else { "--db-max-connections" };
    assert!(line.contains("is busy: ") && line.contains(why), "{line}");
    let log = sidecar.process.log();
    assert!(!log.contains(AWAY), "{log}");
    assert!(!log.contains("no connection to the database"), "{log}");
}

/// Longer than a store may be away: it is there, and its sidecar says so all the time.
async fn a_pool_that_is_busy_is_ready(kind: Kind) {
    let options = ["--db-max-connections", "1", "--store-timeout", "5s"];
    let Running { sidecar, database, .. } = &StoreKind::Bundled(kind).start(&options);
    let client = Arc::new(sidecar.client());
    let user = client.create_user(&email_address()).await;
    let lock = Lock::of(database).await;
    let body = json!({ "action": "get_user", "arguments": { "user_id": user["id"] } }).to_string();
    let ends = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let (client, body, ends) = (Arc::clone(&client), body.clone(), Arc::clone(&ends));
        callers.spawn(async move {
            while !ends.load(Ordering::Relaxed) {
                client.post(body.clone()).await;
            }
        });
    }
    sidecar.process.wait_for_log("is busy: ");
    let start = Instant::now();
    while start.elapsed() < GRACE {
        let metrics = Metrics::of(sidecar).await;
        assert_eq!(metrics.value("store_available"), 1.0, "after {:?}", start.elapsed());
        assert_eq!(admin(sidecar.admin, "/readyz").await.status, StatusCode::OK);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let log = sidecar.process.log();
    assert!(!log.contains("the store is not ready"), "{log}");
    ends.store(true, Ordering::Relaxed);
    lock.release().await;
    callers.join_all().await;
    assert_eq!(client.get_user(&user).await, user);
}

/// Calls that have waited for longer than one attempt to connect may take are served before those
/// that came later: in that order the one connection asks for them. Their answers may overtake one
/// another on their way.
async fn calls_are_served_in_order_of_arrival(kind: Kind) {
    const GROUP: usize = 8;
    let database = block_in_place(|| kind.database());
    let network = Network::to(Server::of(kind).address()).await;
    let options = ["--db-max-connections", "1", "--store-timeout", "30s", "--migrate"];
    let sidecar = block_in_place(|| Sidecar::ready(&network.redirect(&database.url), &options));
    let client = Arc::new(sidecar.client());
    let [in_hand, first, second] = [
        client.create_user(&email_address()).await,
        client.create_user(&email_address()).await,
        client.create_user(&email_address()).await,
    ];
    let lock = Lock::of(&database).await;
    network.take_sent();
    let mut calls = JoinSet::new();
    // The first has the connection, so that all others wait for it.
    for (user, count) in [(&in_hand, 1), (&first, GROUP), (&second, GROUP)] {
        for _ in 0..count {
            let (client, user) = (Arc::clone(&client), user.clone());
            calls.spawn(async move { assert_eq!(client.get_user(&user).await, user) });
        }
        let in_flight = calls.len() as f64;
        wait_for_metrics(&sidecar, "all wait", |metrics| metrics.in_flight_requests() == in_flight)
            .await;
        // The second group comes when the first has waited for most of an attempt, and waits for
        // most of one too.
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
    lock.release().await;
    while let Some(answered) = calls.join_next().await {
        answered.unwrap();
    }
    let sent = String::from_utf8_lossy(&network.take_sent()).into_owned();
    let [first, second] = [first, second].map(|user| user["id"].as_str().unwrap().to_owned());
    assert!(sent.rfind(&first).unwrap() < sent.find(&second).unwrap(), "{sent}");
}

/// Writes of one caller, without a pause: how many were acknowledged, and how many left open what
/// became of them.
async fn write_on(client: Arc<Client>, user_id: Value, ends: Arc<AtomicBool>) -> (i64, i64) {
    let (mut counter, mut acknowledged, mut open) = (0, 0, 0);
    while !ends.load(Ordering::Relaxed) {
        let arguments = json!({ "user_id": user_id, "user_sessions_counter": counter });
        let answer = client.invoke("increment_user_sessions_counter", arguments).await;
        match answer["error_code"].as_str() {
            None => {
                acknowledged += 1;
                counter += 1;
            }
            Some("internal_error") => {
                open += 1;
                let values = client.values("get_user", json!({ "user_id": user_id })).await;
                counter = values["user"]["sessions_counter"].as_i64().unwrap();
            }
            Some(code) => panic!("{code}"),
        }
    }
    (acknowledged, open)
}

/// Writes that never end share one connection: reads get it in between, and where it is lost the
/// write that is in hand may fail, and none that waits.
async fn writes_that_wait_keep_no_connection_from_reads_and_outlive_it(kind: Kind) {
    const WRITERS: usize = 100;
    const LOSSES: i64 = 3;
    let options = ["--db-max-connections", "1", "--store-timeout", "20s"];
    let Running { sidecar, database, .. } = &StoreKind::Bundled(kind).start(&options);
    let client = Arc::new(sidecar.client());
    let read = client.create_user(&email_address()).await;
    let ends = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let id = client.create_user(&email_address()).await["id"].clone();
        let write = write_on(Arc::clone(&client), id.clone(), Arc::clone(&ends));
        writers.push((id, tokio::spawn(write)));
    }
    for _ in 0..LOSSES {
        for _ in 0..10 {
            assert_eq!(client.get_user(&read).await, read);
        }
        database.end_connections().await;
    }
    assert_eq!(client.get_user(&read).await, read);
    ends.store(true, Ordering::Relaxed);
    let mut left_open = 0;
    for (id, writer) in writers {
        let (acknowledged, open) = writer.await.unwrap();
        assert!(acknowledged > 0, "each has its turn");
        let values = client.values("get_user", json!({ "user_id": id })).await;
        let counter = values["user"]["sessions_counter"].as_i64().unwrap();
        let may_be = acknowledged..=acknowledged + open;
        assert!(may_be.contains(&counter), "{counter} of {may_be:?}");
        left_open += open;
    }
    assert!(left_open <= LOSSES, "{left_open} writes failed by {LOSSES} losses");
}

/// A server that is gone, or hangs with its connections open, is no pool that is busy.
async fn a_server_that_is_away_opens_the_circuit(kind: Kind) {
    for hangs in [false, true] {
        let server = block_in_place(|| Server::private(kind));
        let database = server.database();
        let options = ["--db-max-connections", "1", "--store-timeout", "1s", "--migrate"];
        let sidecar = Sidecar::ready(&database.url, &options);
        let load = Load::start(&sidecar, 8);
        load.succeeds().await;
        block_in_place(|| if hangs { server.pause() } else { server.stop(Stop::Crash) });
        block_in_place(|| {
            sidecar.process.wait_for_log(AWAY);
            sidecar.process.wait_for_log("no connection to the database could be made in time");
        });
        block_in_place(|| if hangs { server.resume() } else { server.start() });
        load.succeeds().await;
        block_in_place(|| sidecar.process.wait_for_log(BACK));
        drop(load);
    }
}

/// A database, and a user of it that may have one connection at a time.
struct Narrow {
    database: Database,
    user: String,
    url: String,
}

impl Narrow {
    async fn new(kind: Kind) -> Self {
        let database = block_in_place(|| kind.database());
        assert!(run(["migrate", "up", "--store", &database.url]).status.success());
        let user = format!("narrow_{}", database.name());
        let url = database.url.replace("//faroe:", &format!("//{user}:"));
        let password = password();
        database
            .execute(&match kind {
                Kind::Postgres => format!(
                    "CREATE ROLE {user} LOGIN PASSWORD '{password}' CONNECTION LIMIT 1; \
                     GRANT ALL ON ALL TABLES IN SCHEMA public TO {user}"
                ),
                _ => format!(
                    "CREATE USER {user} IDENTIFIED BY '{password}' WITH MAX_USER_CONNECTIONS 1; \
                     GRANT ALL ON {}.* TO {user}",
                    database.name()
                ),
            })
            .await;
        Self { database, user, url }
    }

    /// Lets its user have so many connections from now on.
    async fn allow(&self, connections: u32) {
        let user = &self.user;
        self.database
            .execute(&match self.database.kind {
                Kind::Postgres => format!("ALTER ROLE {user} CONNECTION LIMIT {connections}"),
                _ => format!("ALTER USER {user} WITH MAX_USER_CONNECTIONS {connections}"),
            })
            .await;
    }

    /// Takes the place of the one connection that its user has.
    async fn displace(&self) -> Held {
        let user = &self.user;
        let connections = self
            .database
            .texts(&match self.database.kind {
                Kind::Postgres => {
                    format!("SELECT pid::text FROM pg_stat_activity WHERE usename = '{user}'")
                }
                _ => format!(
                    "SELECT CAST(id AS CHAR) FROM information_schema.processlist \
                     WHERE user = '{user}'"
                ),
            })
            .await;
        self.allow(2).await;
        let taken = self.database.hold_as(&self.url, "SELECT 1").await;
        self.allow(1).await;
        for id in connections {
            self.database
                .execute(&match self.database.kind {
                    Kind::Postgres => format!("SELECT pg_terminate_backend({id})"),
                    _ => format!("KILL {id}"),
                })
                .await;
        }
        taken
    }
}

/// The one connection that the server has for the sidecar is at work: nothing is wrong.
async fn a_server_without_another_connection_is_ready(kind: Kind) {
    let narrow = Narrow::new(kind).await;
    let options = ["--db-max-connections", "1", "--store-timeout", "60s"];
    let sidecar = block_in_place(|| Sidecar::ready(&narrow.url, &options));
    let client = sidecar.client();
    let user = client.create_user(&email_address()).await;
    let lock = Lock::of(&narrow.database).await;
    let call = tokio::spawn({
        let user = user.clone();
        async move { client.get_user(&user).await }
    });
    wait_for_metrics(&sidecar, "it is in hand", |metrics| metrics.in_flight_requests() == 1.0)
        .await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        let metrics = Metrics::of(&sidecar).await;
        assert_eq!(metrics.value("store_available"), 1.0, "after {:?}", start.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    lock.release().await;
    assert_eq!(call.await.unwrap(), user);
    let log = sidecar.process.log();
    assert!(!log.contains("the store is not ready"), "{log}");
}

/// Others have every connection that the server gives: no call can be made, and the sidecar says so;
/// but the server answers, so that it is not away.
async fn a_server_without_any_connection_is_not_ready(kind: Kind) {
    let narrow = Narrow::new(kind).await;
    let options = ["--db-max-connections", "1", "--store-timeout", "3s"];
    let sidecar = block_in_place(|| Sidecar::ready(&narrow.url, &options));
    let client = sidecar.client();
    let user = client.create_user(&email_address()).await;

    let taken = narrow.displace().await;
    // A look that was broken off with the connection may have given another reason first.
    let reason = "the database server has no connection left";
    let line = block_in_place(|| sidecar.process.wait_for_log(reason));
    assert!(line.contains("the store is not ready"), "{line}");
    wait_for_metrics(&sidecar, "it is missed", |metrics| metrics.value("store_available") == 0.0)
        .await;
    // More, one after another, than open the circuit.
    let body = json!({ "action": "get_user", "arguments": { "user_id": user["id"] } }).to_string();
    for _ in 0..6 {
        let reply = client.post(body.clone()).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    let metrics = Metrics::of(&sidecar).await;
    metrics.assert_rejected(&[(("requests", "store_busy"), 6.0)]);
    assert_eq!(metrics.value("store_available"), 0.0);
    let log = sidecar.process.log();
    assert!(!log.contains(AWAY), "{log}");

    let ready = "the store is ready";
    let times = log.matches(ready).count();
    drop(taken);
    block_in_place(|| sidecar.process.wait_for_log_lines(ready, times + 1));
    assert_eq!(client.get_user(&user).await, user);
}

macro_rules! on_databases {
    ($($behaviour:ident: $($name:ident $kind:ident),*;)*) => {$(
        mod $behaviour {
            use crate::harness::database::Kind;
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    super::$behaviour(Kind::$kind).await;
                }
            )*
        }
    )*};
}
on_databases! {
    a_pool_that_is_busy_opens_no_circuit: sqlite Sqlite, postgres Postgres, mariadb MariaDb;
    a_pool_that_is_busy_is_ready: postgres Postgres, mariadb MariaDb;
    calls_are_served_in_order_of_arrival: postgres Postgres, mariadb MariaDb;
    writes_that_wait_keep_no_connection_from_reads_and_outlive_it:
        postgres Postgres, mariadb MariaDb;
    a_server_that_is_away_opens_the_circuit: postgres Postgres, mariadb MariaDb;
    a_server_without_another_connection_is_ready: postgres Postgres, mariadb MariaDb;
    a_server_without_any_connection_is_not_ready: postgres Postgres, mariadb MariaDb;
}
