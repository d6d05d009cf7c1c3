//! The report for people.

use std::fmt::Write as _;

use super::{CaseResult, Failure, Level, Outcome, Report, common, members};

/// What the cases of races do not promise.
const ATOMICITY: &str = "  atomicity: races are tried, and only found where they happen\n";

/// What the first words of [`Case::section`](super::super::Case) are, for those who have the program
/// alone.
pub const SECTIONS: &str = "The contract: user-store is the comments of `faroe-sidecar proto`; faroe-endpoint is what a Faroe server relies on, and those comments say what of it a store owes.";

/// What failed, with what was sent, what came back and what to do; what did not run; the verdict
/// last.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    for line in common::cause_lines(report) {
        text.push_str(&line);
        text.push_str("\n\n");
    }
    for result in &report.results {
        if let Outcome::Failed(failure) = &result.outcome {
            push_failure(&mut text, result, failure);
        }
    }
    push_list(&mut text, "Not present, which is no fault:", "", report, |outcome| match outcome {
        Outcome::NotPresent(what) => Some(what),
        _ => None,
    });
    let owed = "Not checkable by calls, and owed all the same:";
    push_list(&mut text, owed, ATOMICITY, report, |outcome| match outcome {
        Outcome::NotCheckable(why) => Some(why),
        _ => None,
    });
    push_list(&mut text, "Not run:", "", report, |outcome| match outcome {
        Outcome::NotRun(why) => Some(why),
        _ => None,
    });
    push_skipped(&mut text, report);
    if report.results.iter().any(|result| matches!(result.outcome, Outcome::Failed(_))) {
        text.push_str(SECTIONS);
        text.push_str("\n\n");
    }
    for (heading, users) in common::left_behind(report) {
        text.push_str(&heading);
        text.push_str(if users.is_empty() { "\n" } else { ":\n" });
        for user in users {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {user}");
        }
        text.push('\n');
    }
    text.push_str(&verdict(report));
    text
}

/// How many cases were skipped, and what was left out by name.
fn push_skipped(text: &mut String, report: &Report) {
    let skipped = |result: &&CaseResult| matches!(result.outcome, Outcome::Skipped);
    let number = report.results.iter().filter(skipped).count();
    if number > 0 {
        let s = if number == 1 { "" } else { "s" };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "Skipped as told: {number} case{s}{}.\n", skipped_by_name(report));
    }
}

fn skipped_by_name(report: &Report) -> String {
    if report.skipped.is_empty() {
        return String::new();
    }
    format!(" (--skip {})", report.skipped.join(","))
}

fn push_failure(text: &mut String, result: &CaseResult, failure: &Failure) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "FAILED {} ({})", result.case.id, result.case.level);
    for (name, value) in members(result, failure) {
        let _ = writeln!(text, "  {:<10} {value}", format!("{name}:"));
    }
    text.push('\n');
}

fn push_list<'a>(
    text: &mut String,
    title: &str,
    footer: &str,
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
    text.push_str(footer);
    text.push('\n');
}

/// The verdict: how many cases of which outcome, and what it means.
fn verdict(report: &Report) -> String {
    let count = |level, wanted: &str| {
        let of =
            |result: &&CaseResult| result.case.level == level && result.outcome.as_str() == wanted;
        report.results.iter().filter(of).count()
    };
    // Writing to a string cannot fail.
    let mut lines = format!("{}.\n", common::count_line(report));
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
    let unseen = report.left_behind.len();
    if unseen > 0 {
        let s = if unseen == 1 { "" } else { "s" };
        // Writing to a string cannot fail.
        let _ = writeln!(
            lines,
            "{unseen} user{s} of this run could not be shown to be deleted, which by itself is reason not to conform."
        );
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
            format!(
                " as far as it was checked, which is no proof: cases were skipped{}",
                skipped_by_name(report)
            )
        } else {
            String::new()
        },
        report.took.as_secs_f64()
    );
    lines
}
