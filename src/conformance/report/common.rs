//! What a report says of all cases together: causes that many failures share, and users who were
//! not seen to be gone.

use std::collections::BTreeMap;

use super::{Cause, LeftBehind, Outcome, Report};

/// From how many failures on a cause of theirs is told before all else.
const MANY: usize = 3;

/// How many users of a kind, and how many kinds of them, are named to people: JSON has all.
const NAMED: usize = 5;

/// The causes that many failures share, the most frequent one first, with how many those are.
pub(super) fn causes(report: &Report) -> Vec<(Cause, usize)> {
    let mut counts: BTreeMap<Cause, usize> = BTreeMap::new();
    for result in &report.results {
        if let Outcome::Failed(failure) = &result.outcome
            && let Some(cause) = failure.cause
        {
            *counts.entry(cause).or_default() += 1;
        }
    }
    let mut causes: Vec<_> = counts.into_iter().filter(|(_, count)| *count >= MANY).collect();
    causes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    causes
}

/// A line for each of these causes, and where to start.
pub(super) fn cause_lines(report: &Report) -> Vec<String> {
    let failed =
        report.results.iter().filter(|result| matches!(result.outcome, Outcome::Failed(_))).count();
    let line = |(cause, count): (Cause, usize)| {
        let start = match cause.first() {
            [] => "Start there.".to_owned(),
            first => format!("Start with --only {}.", first.join(",")),
        };
        let what = cause.as_str();
        format!("{count} of {failed} failures have one cause: {what}. {} {start}", cause.fix())
    };
    causes(report).into_iter().map(line).collect()
}

/// The users who were not seen to be gone, by what stood in the way: a heading, and the first of
/// them.
pub(super) fn left_behind(report: &Report) -> Vec<(String, Vec<String>)> {
    // In the order in which they came.
    let mut groups: Vec<Vec<&LeftBehind>> = Vec::new();
    for left in &report.left_behind {
        let alike = |group: &&mut Vec<&LeftBehind>| {
            group.iter().all(|of| (of.unclear, &of.reason) == (left.unclear, &left.reason))
        };
        match groups.iter_mut().find(alike) {
            Some(group) => group.push(left),
            None => groups.push(vec![left]),
        }
    }
    let mut lines: Vec<_> =
        groups.iter().take(NAMED).map(|group| group_lines(report, group)).collect();
    let others: usize = groups.iter().skip(NAMED).map(Vec::len).sum();
    if others > 0 {
        let heading = format!("And {others} more, for other reasons; --format json names all.");
        lines.push((heading, Vec::new()));
    }
    lines
}

fn group_lines(report: &Report, group: &[&LeftBehind]) -> (String, Vec<String>) {
    let (reason, unclear) = group.first().map_or(("", false), |left| (&left.reason, left.unclear));
    let what = if unclear {
        "Whether these users are gone could not be seen"
    } else {
        "Users of this run that may still be there, because they could not be deleted"
    };
    let number = group.len();
    let heading = format!(
        "{what} ({reason}): {number} of them; all have {} in their email address",
        report.mark
    );
    let mut users: Vec<String> = group.iter().take(NAMED).map(|left| left.user.clone()).collect();
    if number > NAMED {
        users.push(format!("and {} more, whom --format json names", number - NAMED));
    }
    (heading, users)
}

/// How many cases there are, and how many of them could not be tried or were not to be: the numbers
/// that a run counts to.
pub(super) fn count_line(report: &Report) -> String {
    let count = |of: fn(&Outcome) -> bool| {
        report.results.iter().filter(|result| of(&result.outcome)).count()
    };
    let ran = count(|outcome| {
        matches!(outcome, Outcome::Passed | Outcome::Failed(_) | Outcome::NotPresent(_))
    });
    let mut line = format!("{} cases: {ran} ran", report.results.len());
    for (number, what) in [
        (count(|outcome| matches!(outcome, Outcome::NotRun(_))), "not run"),
        (count(|outcome| matches!(outcome, Outcome::Skipped)), "skipped"),
        (count(|outcome| matches!(outcome, Outcome::NotCheckable(_))), "not checkable"),
    ] {
        if number > 0 {
            line.push_str(&format!(", {number} {what}"));
        }
    }
    line
}
