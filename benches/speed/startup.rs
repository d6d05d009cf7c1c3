//! How soon the program is ready, how large it is, and what it holds while nobody calls.

use std::fs;

use crate::{
    daemon::Daemon,
    databases::Databases,
    figures::{median, settled},
    harness::{database::Kind, process::Pki},
    stage::{READY, USERS, sidecar},
};

#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Startup {
    /// From the start of the process to the store being ready, in milliseconds.
    pub ready_ms: f64,
    /// Resident memory without a request.
    pub idle_kib: u64,
    pub program_bytes: u64,
}

/// Of the sidecar on SQLite: the middle of so many starts.
pub async fn measure(pki: &Pki, databases: &mut Databases, starts: usize) -> Startup {
    let populated = databases.with_users(Kind::Sqlite, USERS).await;
    let mut times = Vec::new();
    let mut sizes = Vec::new();
    for _ in 0..starts {
        let mut daemon = Daemon::start(sidecar(pki, &populated.database.url));
        times.push(daemon.wait_for(READY).1);
        sizes.push(settled(daemon.id()).await);
    }
    Startup {
        ready_ms: median(&mut times).unwrap().as_secs_f64() * 1e3,
        idle_kib: median(&mut sizes).unwrap(),
        program_bytes: fs::metadata(env!("CARGO_BIN_EXE_faroe-sidecar")).unwrap().len(),
    }
}
