//! A pool whose connections are all in use is no store that is away: calls get 503 in time, the log
//! says what to change, and the circuit stays closed. Where the server really is gone it opens.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;
use serde_json::json;
use sqlx::{Connection as _, MySqlConnection, PgConnection, SqliteConnection, raw_sql};
use tokio::task::block_in_place;

use crate::harness::{
    client::Client,
    database::{Database, Kind, Server, Stop},
    email_address,
    load::Load,
    metrics::Metrics,
    process::Sidecar,
    stores::{Running, StoreKind},
};

/// Many times the failures that open the circuit.
const CALLS: usize = 30;

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

/// So many writes at once: how many were not invoked.
async fn refused_writes(client: &Arc<Client>, user_id: &str) -> usize {
    let arguments = json!({ "user_id": user_id, "user_sessions_counter": 0 });
    let body = json!({ "action": "increment_user_sessions_counter", "arguments": arguments });
    let calls: Vec<_> = (0..CALLS)
        .map(|_| {
            let (client, body) = (Arc::clone(client), body.to_string());
            tokio::spawn(async move { client.post(body).await })
        })
        .collect();
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
    // Of the calls that wait for the lock fewer than open the circuit may wait beyond their time.
    let options = ["--db-max-connections", "2", "--store-timeout", "3s"];
    let Running { sidecar, database, .. } = &StoreKind::Bundled(kind).start(&options);
    let client = Arc::new(sidecar.client());
    let user = client.create_user(&email_address()).await;
    let user_id = user["id"].as_str().unwrap();

    let lock = Lock::of(database).await;
    let start = Instant::now();
    let refused = refused_writes(&client, user_id).await;
    assert!(refused >= CALLS - 6, "only {refused} had no turn");
    assert!(start.elapsed() > Duration::from_secs(2), "they waited for one");
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
    let counted = Metrics::of(sidecar).await.rejected(("requests", "store_not_reached"));
    assert_eq!(counted, refused as f64, "nobody was refused but those");
    let line = sidecar.process.wait_for_log("the store could not be reached");
    let why = if kind == Kind::Sqlite { "keeps the file locked" } else { "--db-max-connections" };
    assert!(line.contains("is busy: ") && line.contains(why), "{line}");
    let log = sidecar.process.log();
    assert!(!log.contains(AWAY), "{log}");
    assert!(!log.contains("no connection to the database"), "{log}");
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
    a_server_that_is_away_opens_the_circuit: postgres Postgres, mariadb MariaDb;
}
