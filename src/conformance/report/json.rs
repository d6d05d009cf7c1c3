//! The report as one JSON object.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    super::{Case, Level, Outcome, Report, cases},
    common,
};

#[derive(Serialize)]
struct Document<'a> {
    store: &'a str,
    /// Whether every MUST that ran passed.
    conforms: bool,
    /// Whether every MUST ran that can be checked.
    complete: bool,
    stopped: bool,
    /// In every email address of the run.
    mark: &'a str,
    seconds: f64,
    counts: Counts,
    /// Causes that many failures share.
    common_causes: Vec<Common>,
    /// What was left out by name.
    skipped: &'a [String],
    cases: Vec<Entry<'a>>,
    left_behind: Vec<Left<'a>>,
}

#[derive(Serialize)]
struct Counts {
    must: BTreeMap<&'static str, usize>,
    should: BTreeMap<&'static str, usize>,
}

#[derive(Serialize)]
struct Common {
    cause: &'static str,
    failures: usize,
    to_fix: &'static str,
    start_with: &'static [&'static str],
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(flatten)]
    case: Listed,
    outcome: &'static str,
    /// Why it is neither passed nor failed, where there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Failed<'a>>,
    seconds: f64,
}

#[derive(Serialize)]
struct Listed {
    id: &'static str,
    level: &'static str,
    demand: &'static str,
    section: &'static str,
    hint: &'static str,
}

impl Listed {
    fn new(case: &Case) -> Self {
        Self {
            id: case.id,
            level: case.level.as_str(),
            demand: case.demand,
            section: case.section,
            hint: case.hint,
        }
    }
}

#[derive(Serialize)]
struct Failed<'a> {
    sent: &'a str,
    came_back: &'a str,
    expected: &'a str,
    /// The hint of the case, unless the answer tells more.
    to_fix: String,
}

#[derive(Serialize)]
struct Left<'a> {
    user: &'a str,
    reason: &'a str,
    /// Whether the user may well be gone: only the look-up was not answered clearly.
    unclear: bool,
}

/// `outcome` is one of these; the hyphens of the text for people are underscores.
const OUTCOMES: [&str; 6] =
    ["passed", "failed", "skipped", "not_present", "not_checkable", "not_run"];

fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed(_) => "failed",
        Outcome::Skipped => "skipped",
        Outcome::NotPresent(_) => "not_present",
        Outcome::NotCheckable(_) => "not_checkable",
        Outcome::NotRun(_) => "not_run",
    }
}

/// `store`, `conforms`, `complete`, `stopped`, `mark`, `seconds`, `counts` by level and outcome,
/// `common_causes` of many failures (`cause`, `failures`, `to_fix`, `start_with`), `skipped` by name,
/// `cases` with `id`, `level`, `demand`, `section`, `hint`, `outcome`, `seconds` and, where there
/// is one, `reason` or `failure` (`sent`, `came_back`, `expected`, `to_fix`), and `left_behind`
/// (`user`, `reason`, `unclear`).
pub fn json(report: &Report) -> String {
    let count = |level| {
        let count = |outcome: &&'static str| {
            let found = report
                .results
                .iter()
                .filter(|result| result.case.level == level && name(&result.outcome) == *outcome);
            (*outcome, found.count())
        };
        OUTCOMES.iter().map(count).collect()
    };
    let document = Document {
        store: &report.store,
        conforms: report.conforms(),
        complete: report.is_complete(),
        stopped: report.stopped,
        mark: &report.mark,
        seconds: report.took.as_secs_f64(),
        counts: Counts { must: count(Level::Must), should: count(Level::Should) },
        common_causes: common::causes(report)
            .into_iter()
            .map(|(cause, failures)| Common {
                cause: cause.as_str(),
                failures,
                to_fix: cause.fix(),
                start_with: cause.first(),
            })
            .collect(),
        skipped: &report.skipped,
        cases: report
            .results
            .iter()
            .map(|result| Entry {
                case: Listed::new(result.case),
                outcome: name(&result.outcome),
                reason: match &result.outcome {
                    Outcome::NotPresent(why)
                    | Outcome::NotCheckable(why)
                    | Outcome::NotRun(why) => Some(why),
                    Outcome::Passed | Outcome::Failed(_) | Outcome::Skipped => None,
                },
                failure: match &result.outcome {
                    Outcome::Failed(failure) => Some(Failed {
                        sent: &failure.sent,
                        came_back: &failure.came_back,
                        expected: &failure.expected,
                        to_fix: failure.fix(result.case),
                    }),
                    _ => None,
                },
                seconds: result.took.as_secs_f64(),
            })
            .collect(),
        left_behind: report
            .left_behind
            .iter()
            .map(|left| Left { user: &left.user, reason: &left.reason, unclear: left.unclear })
            .collect(),
    };
    pretty(&document)
}

#[derive(Serialize)]
struct ListEntry {
    #[serde(flatten)]
    case: Listed,
    /// Why no call can check it.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_checkable: Option<&'static str>,
}

/// The cases that a selection takes, as an array of `id`, `level`, `demand`, `section`, `hint` and,
/// where no call can check it, `not_checkable`, which says why.
pub fn list(takes: impl Fn(&Case) -> bool) -> String {
    let entry = |case: &'static Case| ListEntry {
        case: Listed::new(case),
        not_checkable: case.why_not_checkable(),
    };
    pretty(&cases().filter(|case| takes(case)).map(entry).collect::<Vec<_>>())
}

fn pretty(value: &impl Serialize) -> String {
    // Text, numbers and booleans under names: nothing in it can fail.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}
