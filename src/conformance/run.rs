//! One run: the cases one after the other, and behind each the deletion of what it has made.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::sync::watch;

use super::{
    case::{Case, Check, Level, NotPassed, Outcome},
    cases,
    cleanup::LeftBehind,
    selection::Selection,
    subject::{Made, Silence, Subject},
};
use crate::{store::remote, tls::ClientMaterial};

/// How the store is reached.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// Where it listens.
    pub url: remote::Url,
    /// TLS towards it; needed if the URL says `grpcs`.
    pub tls: Option<Arc<ClientMaterial>>,
    /// How long each call may take, 10 s unless set: its `grpc-timeout`.
    pub timeout: Duration,
}

impl Config {
    /// How long a call may take where nobody says otherwise.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

    /// Without TLS, with the default timeout.
    pub fn new(url: remote::Url) -> Self {
        Self { url, tls: None, timeout: Self::DEFAULT_TIMEOUT }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("url", &self.url)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Nothing could be checked: no call was ever answered. The text says why.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct NotReached(String);

/// What came of one case.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CaseResult {
    /// The case.
    pub case: &'static Case,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took, cleaning up included.
    pub took: Duration,
}

/// What came of a run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// The URL of the store.
    pub store: String,
    /// In every email address of the run, and in no other.
    pub mark: String,
    /// One for each case, those that did not run included.
    pub results: Vec<CaseResult>,
    /// The cases and groups that were skipped by name. Other cases whose outcome is
    /// [`Outcome::Skipped`] were not among those to run.
    pub skipped: Vec<String>,
    /// Users of the run who may still be there, each once.
    pub left_behind: Vec<LeftBehind>,
    /// Whether the run was stopped before its end.
    pub stopped: bool,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// Whether every MUST that ran passed, the run came to its end, and no user is left behind.
    /// Skipped cases do not count: [`Report::is_complete`] tells whether there were any.
    pub fn conforms(&self) -> bool {
        let broken = |result: &CaseResult| {
            result.case.level == Level::Must
                && matches!(result.outcome, Outcome::Failed(_) | Outcome::NotRun(_))
        };
        !self.stopped && self.left_behind.is_empty() && !self.results.iter().any(broken)
    }

    /// Whether every MUST was checked that can be: only then is a run that conforms a proof.
    pub fn is_complete(&self) -> bool {
        !self.results.iter().any(|result| {
            result.case.level == Level::Must
                && matches!(result.outcome, Outcome::Skipped | Outcome::NotRun(_))
        })
    }
}

/// What a run tells while it goes on.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The store was reached. From now on there may be users with this mark in their email
    /// addresses.
    Reached(&'a str),
    /// A case begins: its number of so many that run.
    Started {
        /// The case.
        case: &'static Case,
        /// From 1.
        number: usize,
        /// How many cases of the selection can be checked.
        of: usize,
    },
    /// It has ended.
    Ended(&'a CaseResult),
}

/// Runs the cases of a selection.
///
/// # Errors
///
/// If the store could not be reached: nothing was done to it.
pub async fn run(config: &Config, selection: &Selection) -> Result<Report, NotReached> {
    run_until(config, selection, std::future::pending(), |_| {}).await
}

/// The same, telling how it goes on, and until `stop` resolves: calls in hand are finished then,
/// and what was made is deleted, before it returns.
///
/// # Errors
///
/// If the store could not be reached: nothing was done to it.
pub async fn run_until(
    config: &Config,
    selection: &Selection,
    stop: impl Future<Output = ()>,
    mut tell: impl FnMut(Event<'_>),
) -> Result<Report, NotReached> {
    let began = Instant::now();
    // The sender may go: the material does not change.
    let tls = config.tls.clone().map(|material| watch::channel(material).1);
    let remote = remote::Config { url: config.url.clone(), tls, store_timeout: config.timeout };
    let mark = mark().map_err(|error| NotReached(format!("no random bytes: {error}")))?;
    let store =
        Subject::connect(&remote, mark.clone()).map_err(|error| NotReached(error.to_string()))?;
    let mut stop = std::pin::pin!(stop);
    tokio::select! {
        probed = store.probe() => match probed {
            Ok(()) => {}
            Err(Silence::NotReached(mut reason)) => {
                if config.url.is_tls() && reason.contains("InvalidContentType") {
                    reason.push_str(" (does the store speak TLS? grpc:// is without)");
                }
                return Err(NotReached(reason));
            }
            Err(Silence::Unanswered) => return Ok(not_begun(config, selection, mark, SILENT, began)),
        },
        () = &mut stop => return Ok(not_begun(config, selection, mark, STOPPED, began)),
    }
    tell(Event::Reached(&mark));
    let mut run = Run {
        made: Made::default(),
        left_behind: Vec::new(),
        ended: None,
        number: 0,
        of: cases().filter(|case| selection.takes(case) && is_checkable(case)).count(),
        store,
    };
    let mut results = Vec::new();
    for case in cases() {
        let result = run.case(case, selection, stop.as_mut(), &mut tell).await;
        tell(Event::Ended(&result));
        results.push(result);
    }
    run.look_again().await;
    Ok(Report {
        store: config.url.to_string(),
        mark,
        results,
        skipped: selection.skipped().to_vec(),
        left_behind: run.left_behind,
        stopped: run.ended == Some(STOPPED),
        took: began.elapsed(),
    })
}

const STOPPED: &str = "the run was stopped";
const SILENT: &str = "the store does not answer";

fn is_checkable(case: &Case) -> bool {
    case.why_not_checkable().is_none()
}

/// 16 characters in every email address of a run, in lower case, with 80 bits of chance.
fn mark() -> Result<String, getrandom::Error> {
    const ALPHABET: &[u8; 32] = b"abcdefghjkmnopqrstuvwxyz23456789";
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    Ok(random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
}

/// The report of a run that ended before it began.
fn not_begun(
    config: &Config,
    selection: &Selection,
    mark: String,
    why: &'static str,
    began: Instant,
) -> Report {
    let results = cases().map(|case| CaseResult {
        case,
        outcome: match case.why_not_checkable() {
            _ if !selection.takes(case) => Outcome::Skipped,
            Some(why) => Outcome::NotCheckable(why),
            None => Outcome::NotRun(why),
        },
        took: Duration::ZERO,
    });
    Report {
        store: config.url.to_string(),
        mark,
        results: results.collect(),
        skipped: selection.skipped().to_vec(),
        left_behind: Vec::new(),
        stopped: why == STOPPED,
        took: began.elapsed(),
    }
}

struct Run {
    store: Subject,
    /// What all cases have made.
    made: Made,
    left_behind: Vec<LeftBehind>,
    /// Why no more cases run.
    ended: Option<&'static str>,
    number: usize,
    of: usize,
}

impl Run {
    async fn case(
        &mut self,
        case: &'static Case,
        selection: &Selection,
        mut stop: impl Future<Output = ()> + Unpin,
        tell: &mut impl FnMut(Event<'_>),
    ) -> CaseResult {
        let began = Instant::now();
        let outcome = match case.check {
            _ if !selection.takes(case) => Outcome::Skipped,
            Check::NotCheckable(why) => Outcome::NotCheckable(why),
            Check::Run(check) => {
                self.number += 1;
                if let Some(why) = self.ended {
                    Outcome::NotRun(why)
                } else {
                    tell(Event::Started { case, number: self.number, of: self.of });
                    // It is never broken off: a call that is may still make a user.
                    let mut checking = check(self.store.clone());
                    let checked = tokio::select! {
                        biased;
                        () = &mut stop => {
                            self.store.stop();
                            self.ended = Some(STOPPED);
                            checking.await
                        }
                        checked = &mut checking => checked,
                    };
                    let outcome = match checked {
                        Ok(()) => Outcome::Passed,
                        Err(NotPassed::NotPresent(what)) => Outcome::NotPresent(what),
                        // The stop is what it failed by.
                        Err(NotPassed::Failed(_)) if self.ended.is_some() => {
                            Outcome::NotRun(STOPPED)
                        }
                        Err(NotPassed::Failed(failure)) => Outcome::Failed(failure),
                    };
                    self.clean_up().await;
                    outcome
                }
            }
        };
        CaseResult { case, outcome, took: began.elapsed() }
    }

    async fn clean_up(&mut self) {
        let silent = self.store.is_silent();
        let made = self.store.take_made();
        self.made.extend(made.clone());
        for left in self.store.clean_up(made).await {
            // A store that gives an ID twice has its user left behind once.
            if !self.left_behind.iter().any(|known| known.user == left.user) {
                self.left_behind.push(left);
            }
        }
        if (silent || self.store.is_silent()) && self.ended.is_none() {
            // One call may be lost, by a store that is started anew for one.
            let mut answered = self.store.probe().await;
            if answered.is_err() {
                tokio::time::sleep(Duration::from_secs(1)).await;
                answered = self.store.probe().await;
            }
            if answered.is_err() {
                self.ended = Some(SILENT);
            }
        }
    }

    /// Deletes whoever of the run has come to be there meanwhile, or could not be deleted before:
    /// calls that were given up end late, replicas lag, and an answer may be lost.
    async fn look_again(&mut self) {
        // What one call did not get, these will not.
        if !self.store.is_silent() {
            self.left_behind = self.store.clean_up(std::mem::take(&mut self.made)).await;
        }
    }
}
