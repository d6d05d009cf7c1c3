//! The contract of a `UserStore` as cases that run against any store that is there.
//!
//! `user-store` and `faroe-endpoint`: each obligation is a [`Case`]. A run creates users of its own,
//! whose email addresses carry a random mark, touches no others, and deletes its own again, also
//! where a case fails or the run is stopped.
//!
//! In a test of one's own:
//!
//! ```no_run
//! use faroe_sidecar::conformance::{self, Config, Selection};
//!
//! # async fn test() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::new("grpc://127.0.0.1:50051".parse()?);
//! let report = conformance::run(&config, &Selection::all()).await?;
//! assert!(report.conforms(), "{}", conformance::report::text(&report));
//! # Ok(())
//! # }
//! ```

mod answer;
mod calls;
mod case;
mod cause;
mod cleanup;
mod create;
mod crowd;
mod delete;
mod describe;
mod email;
mod lookup;
mod protocol;
mod race;
mod race_reads;
pub mod report;
mod run;
mod sections;
mod selection;
mod subject;
mod update;
mod update_email_address;
mod values;

pub use self::{
    case::{Case, Failure, Level, Outcome},
    cause::Cause,
    cleanup::LeftBehind,
    run::{CaseResult, Config, Event, NotReached, Report, run, run_until},
    selection::{Selection, UnknownCase},
};

/// All cases, in the order in which they run.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    [
        create::CASES,
        lookup::CASES,
        email::CASES,
        values::CASES,
        update_email_address::CASES,
        update::CASES,
        delete::CASES,
        protocol::CASES,
        race::CASES,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_case_has_an_id_of_its_own_and_says_what_it_demands_and_how_to_get_there() {
        let mut ids = HashSet::new();
        for case in cases() {
            assert!(ids.insert(case.id), "{} is there twice", case.id);
            let (group, name) = case.id.split_once('.').unwrap();
            for part in [group, name] {
                let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
                assert!(!part.is_empty() && part.bytes().all(plain), "{}", case.id);
            }
            assert!(case.demand.ends_with('.') && case.demand.len() > 20, "{}", case.id);
            assert!(case.hint.ends_with('.') && case.hint.len() > 10, "{}", case.id);
            assert!(
                case.section.starts_with("user-store, ")
                    || case.section.starts_with("faroe-endpoint, ")
            );
        }
    }
}
