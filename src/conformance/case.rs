//! A case of the suite: what it demands of a store, and what came of it.

use std::{fmt, pin::Pin};

use super::{cause::Cause, subject::Subject};

/// How much a store owes what a case demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// A store that fails it does not conform.
    Must,
    /// A store that fails it conforms, and is worse for it.
    Should,
}

impl Level {
    /// `MUST` or `SHOULD`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One obligation of a store.
#[derive(Debug)]
#[non_exhaustive]
pub struct Case {
    /// `GROUP.NAME`; it stays the same from release to release.
    pub id: &'static str,
    /// How much the store owes it.
    pub level: Level,
    /// What is demanded, in one sentence.
    pub demand: &'static str,
    /// Where the contract says so.
    pub section: &'static str,
    /// What usually is wrong where it fails, and what to do.
    pub hint: &'static str,
    pub(super) check: Check,
}

impl Case {
    pub(super) const fn must(
        id: &'static str,
        demand: &'static str,
        section: &'static str,
        hint: &'static str,
        run: Run,
    ) -> Self {
        Self { id, level: Level::Must, demand, section, hint, check: Check::Run(run) }
    }

    pub(super) const fn should(
        id: &'static str,
        demand: &'static str,
        section: &'static str,
        hint: &'static str,
        run: Run,
    ) -> Self {
        Self { id, level: Level::Should, demand, section, hint, check: Check::Run(run) }
    }

    /// An obligation that holds and that no call can show to be kept.
    pub(super) const fn not_checkable(
        level: Level,
        id: &'static str,
        demand: &'static str,
        section: &'static str,
        why: &'static str,
        hint: &'static str,
    ) -> Self {
        Self { id, level, demand, section, hint, check: Check::NotCheckable(why) }
    }

    /// What `id` has before its dot.
    pub fn group(&self) -> &'static str {
        self.id.split('.').next().unwrap_or(self.id)
    }

    /// Why no call can check it, if none can.
    pub const fn why_not_checkable(&self) -> Option<&'static str> {
        match self.check {
            Check::Run(_) => None,
            Check::NotCheckable(why) => Some(why),
        }
    }
}

#[derive(Debug)]
pub(super) enum Check {
    Run(Run),
    NotCheckable(&'static str),
}

/// The function of a case.
pub(super) type Run = fn(Subject) -> Pin<Box<dyn Future<Output = Checked> + Send>>;

/// What it finds.
pub(super) type Checked = Result<(), NotPassed>;

/// Why a case did not pass.
#[derive(Debug)]
pub(super) enum NotPassed {
    Failed(Failure),
    /// What is checked is optional, and the store does not have it.
    NotPresent(&'static str),
}

impl From<Failure> for NotPassed {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// How a store failed a case. The values in it are the suite's own inventions and what the store
/// answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The call that showed it.
    pub sent: String,
    /// What the store answered.
    pub came_back: String,
    /// What the contract says about this call.
    pub expected: String,
    /// Why it failed, where the answer itself tells.
    pub cause: Option<Cause>,
}

impl Failure {
    pub(super) fn new(
        sent: impl Into<String>,
        came_back: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        let (sent, came_back, expected) = (sent.into(), came_back.into(), expected.into());
        Self { sent, came_back, expected, cause: None }
    }

    /// The same with a cause, if there is one to tell.
    pub(super) fn because(self, cause: Option<Cause>) -> Self {
        Self { cause: cause.or(self.cause), ..self }
    }

    /// What to do about it: what the answer tells, else what is usual.
    pub fn fix(&self, case: &Case) -> String {
        self.cause.map_or_else(|| case.hint.to_owned(), |cause| cause.fix_of(case))
    }
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The store does what is demanded.
    Passed,
    /// It does not.
    Failed(Failure),
    /// Left out by the selection.
    Skipped,
    /// The store does not have what is checked, which is no fault; the text says what.
    NotPresent(&'static str),
    /// No call can check it; the text says why.
    NotCheckable(&'static str),
    /// The run ended before; the text says why.
    NotRun(&'static str),
}

impl Outcome {
    /// One word or two for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed(_) => "failed",
            Self::Skipped => "skipped",
            Self::NotPresent(_) => "not present",
            Self::NotCheckable(_) => "not checkable",
            Self::NotRun(_) => "not run",
        }
    }
}
