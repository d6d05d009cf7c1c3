//! What the parts below cost by themselves, called from this program: a statement of each database's
//! driver, and a unary call of tonic.

use std::{
    cell::Cell,
    hint::black_box,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use faroe_sidecar::proto::{GetUserRequest, user_store_client::UserStoreClient};
use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection, PgConnection, Row as _};
use tokio::{sync::Mutex, task::JoinSet};
use tonic::transport::Endpoint;

use crate::{
    databases::{Populated, name},
    harness::database::Kind,
    record::{Job, Key, Measure},
    slice::{Meter, Slice, finish},
    stage::USERS,
    usage::Group,
    users::{ALGORITHM, HASH, SALT, email_address, id},
};

const COLUMNS: &str = "id, email_address, password_hash, password_hash_algorithm_id, \
                       password_salt, disabled, display_name, email_address_counter, \
                       password_hash_counter, disabled_counter, sessions_counter";

fn key(who: &'static str, store: &'static str, action: &'static str, connections: usize) -> Key {
    let (protocol, pacing) = ("none", "kept".to_owned());
    Key { who, store, action, protocol, connections, pacing, users: USERS }
}

/// One prepared statement again and again, by sqlx on a connection that it has for itself.
macro_rules! server_driver {
    ($connection:ident, $placeholder:literal, $process:literal, $url:expr, $users:expr) => {{
        let db = Rc::new(Mutex::new($connection::connect($url).await.unwrap()));
        let sql = format!("SELECT {COLUMNS} FROM users WHERE id = {}", $placeholder);
        let sql: Arc<str> = sql.into();
        Box::new(move |length| {
            let (db, sql) = (Rc::clone(&db), Arc::clone(&sql));
            Box::pin(async move {
                let mut db = db.lock().await;
                let mut slice = Slice::new();
                let meter = Meter::start(&Group::None, &Group::Named($process));
                let end = Instant::now() + length;
                for number in (0..$users).cycle().take_while(|_| Instant::now() < end) {
                    let start = Instant::now();
                    let query = sqlx::query(AssertSqlSafe(Arc::clone(&sql))).bind(id(number));
                    let row = query.fetch_one(&mut *db).await.unwrap();
                    let is_right = row.get_unchecked::<String, _>(0) == id(number);
                    slice.add(start.elapsed(), is_right);
                }
                meter.stop(&mut slice);
                slice.server = slice.client;
                slice
            })
        })
    }};
}
/// One statement after the other, on one connection.
pub async fn driver(populated: &Populated) -> Job {
    let kind = populated.database.kind;
    let url = &populated.database.url;
    let users = populated.population.users;
    let measure: Measure = match kind {
        Kind::Sqlite => {
            let db = sqlite(populated);
            Box::new(move |length| {
                let sql = format!("SELECT {COLUMNS} FROM users WHERE id = ?");
                let mut statement = db.prepare(&sql).unwrap();
                let slice = one_by_one(length, |number| {
                    let id = id(number % users);
                    let is_right = |row: &rusqlite::Row<'_>| {
                        for column in 1..11 {
                            black_box(row.get_ref(column)?);
                        }
                        Ok(row.get_ref(0)?.as_str()? == id)
                    };
                    statement.query_row([&id], is_right).unwrap()
                });
                Box::pin(async move { slice })
            })
        }
        Kind::Postgres => server_driver!(PgConnection, "$1", "postgres", url, users),
        Kind::MariaDb => server_driver!(MySqlConnection, "?", "mariadbd", url, users),
    };
    Job { key: key("driver", name(kind), "get_user", 1), measure }
}

/// SQLite with one commit a write: what a store does that gives each write a transaction.
pub fn commits(populated: &Populated) -> Job {
    let db = sqlite(populated);
    let numbers = Cell::new(COMMITTED);
    let measure: Measure = Box::new(move |length| {
        let mut statement = db.prepare(INSERT).unwrap();
        let slice = one_by_one(length, |_| {
            let number = numbers.replace(numbers.get() + 1);
            let (hash, salt) = ([0xa5_u8; HASH], [0x5a_u8; SALT]);
            let row = (id(number), email_address(number), &hash[..], ALGORITHM, &salt[..]);
            statement.execute(row).unwrap() == 1
        });
        Box::pin(async move { slice })
    });
    Job { key: key("driver, one commit a write", "SQLite", "create_user", 1), measure }
}

const INSERT: &str = "INSERT INTO users (id, email_address, password_hash, \
                      password_hash_algorithm_id, password_salt, display_name) \
                      VALUES (?, ?, ?, ?, ?, '')";

/// The number of the first user that is written so.
const COMMITTED: u64 = 1 << 42;

fn sqlite(populated: &Populated) -> rusqlite::Connection {
    let file = populated.database.url.strip_prefix("sqlite://").unwrap();
    let db = rusqlite::Connection::open(file).unwrap();
    db.pragma_update(None, "synchronous", "FULL").unwrap();
    db
}

fn one_by_one(length: Duration, mut statement: impl FnMut(u64) -> bool) -> Slice {
    let mut slice = Slice::new();
    let meter = Meter::start(&Group::None, &Group::None);
    let end = Instant::now() + length;
    let mut number = 0;
    while Instant::now() < end {
        let start = Instant::now();
        let is_right = statement(number);
        slice.add(start.elapsed(), is_right);
        number += 1;
    }
    meter.stop(&mut slice);
    slice.server = slice.client;
    slice
}

/// A bare tonic client that calls a gRPC store over a Unix socket, so many calls at once on one
/// connection. The processor time of the server is that of the client here.
pub async fn tonic(socket: &str, store: u32, at_once: usize) -> Job {
    let endpoint = Endpoint::try_from(format!("unix://{socket}")).unwrap();
    let client = UserStoreClient::new(endpoint.connect().await.unwrap());
    let measure: Measure = Box::new(move |length| {
        let client = client.clone();
        Box::pin(async move {
            let stop = Arc::new(AtomicBool::new(false));
            let meter = Meter::start(&Group::None, &Group::Process(store));
            let mut callers = JoinSet::new();
            for _ in 0..at_once {
                let (mut client, stop) = (client.clone(), Arc::clone(&stop));
                callers.spawn(async move {
                    let mut slice = Slice::new();
                    let action_invocation_id = "a".repeat(24);
                    while !stop.load(Ordering::Relaxed) {
                        let request = GetUserRequest {
                            user_id: id(0),
                            action_invocation_id: action_invocation_id.clone(),
                        };
                        let start = Instant::now();
                        let reply = client.get_user(request).await.unwrap();
                        slice.add(start.elapsed(), reply.into_inner().user.is_some());
                    }
                    slice
                });
            }
            let mut slice = finish(callers, &stop, meter, length).await;
            slice.server = slice.client;
            slice
        })
    });
    Job { key: key("bare tonic client", "gRPC, Unix socket", "get_user", at_once), measure }
}
