//! `migrate`: the schema of the bundled store.

use std::process::ExitCode;

use anyhow::anyhow;
use clap::{Args, Subcommand};

use super::{
    Failure, block_on,
    options::{Database, Log, StoreUrl},
    print_line,
};
use crate::{
    action::DEFAULT_STORE_TIMEOUT,
    store::sql::{MigrationState, MigrationStatus, SqlStore, Url},
};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    direction: Direction,
}

#[derive(Debug, Subcommand)]
enum Direction {
    /// Applies what is pending; any number may run at once.
    Up(Target),
    /// Takes the newest migration back, with the data that it holds.
    Down {
        #[command(flatten)]
        target: Target,
        /// Yes, delete the users
        #[arg(long)]
        destroy_data: bool,
    },
    /// Says what is applied and what is pending, and changes nothing.
    Status(Target),
}

#[derive(Debug, Args)]
struct Target {
    #[command(flatten)]
    store: StoreUrl,
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    log: Log,
}

pub(super) fn run(options: Options) -> Result<ExitCode, Failure> {
    match options.direction {
        Direction::Up(target) => with_store(&target, Missing::Create, async |store| {
            let applied = store.migrate_up().await.map_err(Failure::failed)?;
            if applied.is_empty() {
                print_line("nothing to apply: the schema is up to date")?;
            }
            for migration in applied {
                print_line(&format!("applied {migration}"))?;
            }
            Ok(())
        }),
        Direction::Down { destroy_data: false, .. } => Err(Failure::Usage(anyhow!(
            "migrate down deletes the users: say --destroy-data if that is what you want"
        ))),
        Direction::Down { target, destroy_data: true } => {
            with_store(&target, Missing::Refuse, async |store| {
                match store.migrate_down().await.map_err(Failure::failed)? {
                    Some(migration) => print_line(&format!("took back {migration}"))?,
                    None => print_line("nothing to take back: the schema is empty")?,
                }
                Ok(())
            })
        }
        Direction::Status(target) => with_store(&target, Missing::Refuse, async |store| {
            for MigrationStatus { name, state } in
                store.migration_status().await.map_err(Failure::failed)?
            {
                print_line(&format!("{name}: {}", describe(state)))?;
            }
            Ok(())
        }),
    }
}

fn describe(state: MigrationState) -> &'static str {
    match state {
        MigrationState::Applied => "applied",
        MigrationState::Pending => "pending",
        MigrationState::Newer => "applied by a newer release",
    }
}

/// What to do about an SQLite file that is not there.
enum Missing {
    Create,
    Refuse,
}

fn with_store(
    target: &Target,
    missing: Missing,
    work: impl AsyncFnOnce(&SqlStore) -> Result<(), Failure>,
) -> Result<ExitCode, Failure> {
    target.log.start();
    let url = target.store.resolve_bundled().map_err(Failure::Usage)?;
    url.check_files().map_err(Failure::usage)?;
    if let (Url::Sqlite(path), Missing::Refuse) = (&url, missing)
        && !path.exists()
    {
        return Err(Failure::Failed(anyhow!("there is no file {}", path.display())));
    }
    block_on(async {
        let store = SqlStore::open(&url, &target.database.config()).map_err(Failure::failed)?;
        let result = work(&store).await;
        store.close(DEFAULT_STORE_TIMEOUT).await;
        result.map(|()| ExitCode::SUCCESS)
    })
}
