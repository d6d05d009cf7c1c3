//! Databases with many users in the table, made by their own SQL.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    harness::{
        database::{Database, Kind, Server},
        process::program,
    },
    users::{ALGORITHM, HASH, ID_PREFIX, SALT},
    work::{DELETABLE, Population},
};

/// The users that can be deleted in one run, in a database that has them.
const DELETABLE_USERS: u64 = 500_000;

/// A database with users in it.
pub struct Populated {
    pub database: Database,
    pub population: Arc<Population>,
}

/// The databases of a run, each made when it is first asked for. Their servers acknowledge what is
/// on the disk, as in production.
#[derive(Default)]
pub struct Databases {
    postgres: Option<Server>,
    mariadb: Option<Server>,
    made: HashMap<(&'static str, u64), Arc<Populated>>,
    /// Those with users to delete.
    deletable: HashSet<(&'static str, u64)>,
}

impl Databases {
    pub async fn with_users(&mut self, kind: Kind, users: u64) -> Arc<Populated> {
        let key = (name(kind), users);
        if let Some(made) = self.made.get(&key) {
            return Arc::clone(made);
        }
        eprintln!("  {} with {users} users", name(kind));
        let database = match kind {
            Kind::Sqlite => kind.database(),
            Kind::Postgres => self.postgres.get_or_insert_with(|| Server::private(kind)).database(),
            Kind::MariaDb => self.mariadb.get_or_insert_with(|| Server::private(kind)).database(),
        };
        let migrated = program(["migrate", "up", "--store", &database.url]).output().unwrap();
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        if kind == Kind::Sqlite {
            database.execute("PRAGMA journal_mode = OFF").await;
        }
        insert(&database, 0, users).await;
        let populated = Arc::new(Populated { database, population: Population::new(users) });
        self.made.insert(key, Arc::clone(&populated));
        populated
    }

    /// Inserts users that can be deleted, beside those that are there.
    pub async fn add_deletable(&mut self, kind: Kind, users: u64) {
        let populated = self.with_users(kind, users).await;
        if self.deletable.insert((name(kind), users)) {
            insert(&populated.database, DELETABLE, DELETABLE_USERS).await;
        }
    }
}

pub fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Sqlite => "SQLite",
        Kind::Postgres => "PostgreSQL",
        Kind::MariaDb => "MariaDB",
    }
}

/// Inserts the users of so many numbers from this one on, and has the database look at them.
async fn insert(database: &Database, from: u64, count: u64) {
    const COLUMNS: &str = "id, email_address, password_hash, password_hash_algorithm_id, \
                           password_salt, display_name";
    let to = from + count - 1;
    let sql = match database.kind {
        Kind::Sqlite => format!(
            "PRAGMA synchronous = OFF;
             PRAGMA cache_size = -500000;
             WITH RECURSIVE numbers (n) AS (
                 SELECT {from} UNION ALL SELECT n + 1 FROM numbers WHERE n < {to}
             )
             INSERT INTO users ({COLUMNS})
             SELECT printf('{ID_PREFIX}%012x', n), printf('user-%012x@example.com', n),
                 randomblob({HASH}), '{ALGORITHM}', randomblob({SALT}), ''
             FROM numbers;
             PRAGMA journal_mode = WAL"
        ),
        Kind::Postgres => format!(
            "SET synchronous_commit = off;
             INSERT INTO users ({COLUMNS})
             SELECT '{ID_PREFIX}' || lpad(to_hex(n), 12, '0'),
                 'user-' || lpad(to_hex(n), 12, '0') || '@example.com',
                 decode(md5(n::text) || md5(n::text), 'hex'), '{ALGORITHM}',
                 decode(md5(n::text), 'hex'), ''
             FROM generate_series({from}::bigint, {to}::bigint) AS numbers (n)"
        ),
        Kind::MariaDb => format!(
            "INSERT INTO users ({COLUMNS})
             SELECT CONCAT('{ID_PREFIX}', LPAD(LOWER(HEX(seq)), 12, '0')),
                 CONCAT('user-', LPAD(LOWER(HEX(seq)), 12, '0'), '@example.com'),
                 UNHEX(CONCAT(MD5(seq), MD5(seq))), '{ALGORITHM}', UNHEX(MD5(seq)), ''
             FROM seq_{from}_to_{to}"
        ),
    };
    database.execute(&sql).await;
    let settle = match database.kind {
        Kind::Sqlite => "PRAGMA wal_checkpoint(TRUNCATE)",
        Kind::Postgres => "VACUUM ANALYZE users",
        Kind::MariaDb => "ANALYZE TABLE users",
    };
    database.execute(settle).await;
}
