//! File descriptors, of which each connection takes one.
//!
//! Where they run out, a listener accepts nothing and a database file cannot be opened: the limit
//! on connections has to come first.

use rlimit::Resource;
use tracing::warn;

/// What is kept for everything but callers: the store, the log, probes, files that are read again.
const RESERVED: u64 = 128;

/// Raises the soft limit on descriptors to the hard one, and says how many connections fit beside so
/// many to the database: at most `wanted`.
pub(crate) fn connections_that_fit(wanted: usize, db_connections: u32) -> usize {
    let limit = match rlimit::getrlimit(Resource::NOFILE) {
        Ok((soft, hard)) if rlimit::setrlimit(Resource::NOFILE, hard, hard).is_ok() => {
            soft.max(hard)
        }
        Ok((soft, _)) => soft,
        Err(_) => return wanted,
    };
    let reserved = (RESERVED + u64::from(db_connections)).min(limit / 2);
    let fit = usize::try_from(limit - reserved).unwrap_or(usize::MAX).max(1);
    if fit < wanted {
        warn!(
            descriptors = limit,
            max_connections = fit,
            "the limit on open files (ulimit -n) is too low for --max-connections, which is lowered"
        );
    }
    wanted.min(fit)
}
