//! What the tests stand on: certificates, the program, clients, databases, gRPC stores.

pub mod answering;
pub mod certs;
pub mod client;
pub mod database;
pub mod disk;
pub mod go;
pub mod held_store;
pub mod http2;
pub mod load;
pub mod metrics;
pub mod network;
pub mod process;
pub mod stores;

use std::sync::atomic::{AtomicU64, Ordering};

/// Stands in every email address, hash, salt and password of these tests: no line of any log may
/// have it.
pub const PLANTED: &str = "planted";

/// An email address that no other test uses.
pub fn email_address() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("user-{}-{number}@{PLANTED}.example", std::process::id())
}

/// A test for each database of what holds for all of them: `async fn behaviour(kind: Kind)`.
macro_rules! on_every_database {
    ($($behaviour:ident),* $(,)?) => {$(
        mod $behaviour {
            use $crate::harness::database::Kind;

            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                super::$behaviour(Kind::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                super::$behaviour(Kind::Postgres).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn mariadb() {
                super::$behaviour(Kind::MariaDb).await;
            }
        }
    )*};
}
pub(crate) use on_every_database;

/// Bytes as the wire has them.
pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
