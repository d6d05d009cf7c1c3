//! The report for people.

use std::fmt::Write as _;

use super::super::{Failure, Level, Outcome, Report, Result};

/// What failed, with what was sent, what came back and what to do; what did not run; the verdict
/// last.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    for result in &report.results {
        if let Outcome::Failed(failure) = &result.outcome {
            push_failure(&mut text, result, failure);
        }
    }
    push_list(&mut text, "Not present, which is no fault:", report, |outcome| match outcome {
        Outcome::NotPresent(what) => Some(what),
        _ => None,
    });
    push_list(&mut text, "Not checkable by calls, and owed all the same:", report, |outcome| {
        match outcome {
            Outcome::NotCheckable(why) => Some(why),
            _ => None,
        }
    });
    push_list(&mut text, "Not run:", report, |outcome| match outcome {
        Outcome::NotRun(why) => Some(why),
        _ => None,
    });
    push_list(&mut text, "Skipped:", report, |outcome| match outcome {
        Outcome::Skipped => Some("as you said"),
        _ => None,
    });
    if !report.left_behind.is_empty() {
        text.push_str("Users of this run that could not be deleted, and may still be there:\n");
        for left in &report.left_behind {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {}: {}", left.user, left.reason);
        }
        text.push('\n');
    }
    text.push_str(&verdict(report));
    text
}

fn push_failure(text: &mut String, result: &Result, failure: &Failure) {
    let case = result.case;
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "FAILED {} ({})\n  demanded:  {}\n  sent:      {}\n  came back: {}\n  due:       {}\n  contract:  {}\n  to fix:    {}\n\n",
        case.id,
        case.level,
        case.demand,
        failure.sent,
        failure.came_back,
        failure.expected,
        case.section,
        case.hint
    );
}

fn push_list<'a>(
    text: &mut String,
    title: &str,
    report: &'a Report,
    why: impl Fn(&'a Outcome) -> Option<&'a str>,
) {
    let listed: Vec<_> = report
        .results
        .iter()
        .filter_map(|result| why(&result.outcome).map(|why| (result.case.id, why)))
        .collect();
    if listed.is_empty() {
        return;
    }
    text.push_str(title);
    text.push('\n');
    for (id, why) in listed {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {id}: {why}");
    }
    text.push('\n');
}

/// The verdict: how many cases of which outcome, and what it means.
fn verdict(report: &Report) -> String {
    let count = |level, wanted: &str| {
        let of = |result: &&Result| result.case.level == level && result.outcome.as_str() == wanted;
        report.results.iter().filter(of).count()
    };
    let mut lines = String::new();
    for level in [Level::Must, Level::Should] {
        let outcomes = ["passed", "failed", "not run", "skipped", "not present", "not checkable"];
        let counts: Vec<String> = outcomes
            .into_iter()
            .map(|outcome| (count(level, outcome), outcome))
            .filter(|(number, outcome)| *number > 0 || matches!(*outcome, "passed" | "failed"))
            .map(|(number, outcome)| format!("{number} {outcome}"))
            .collect();
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{level:<6} {}", counts.join(", "));
    }
    let warnings = count(Level::Should, "failed");
    let _ = writeln!(
        lines,
        "{} {}{}{}, in {:.1} s.",
        report.store,
        if report.stopped {
            "was not checked to the end: the run was stopped"
        } else if report.conforms() {
            "conforms"
        } else {
            "does not conform"
        },
        if report.conforms() && warnings > 0 {
            ", but not to everything that it should"
        } else {
            ""
        },
        if report.conforms() && !report.is_complete() {
            " as far as it was checked, which is no proof: cases were skipped"
        } else {
            ""
        },
        report.took.as_secs_f64()
    );
    lines
}
