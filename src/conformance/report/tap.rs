//! The report in the Test Anything Protocol, version 14. A SHOULD that fails is a `TODO` there: it
//! breaks nothing.

use std::fmt::Write as _;

use super::{CLEANED_UP, CaseResult, Report, Standing, Why, common, left_text, members, standing};

/// A test point for each case, and one more for the deletion of the run's users.
pub fn tap(report: &Report) -> String {
    let mut text = format!("TAP version 14\n1..{}\n", report.results.len() + 1);
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# {}; the last test point is {CLEANED_UP}", common::count_line(report));
    for cause in common::cause_lines(report) {
        let _ = writeln!(text, "# {}", line(&cause));
    }
    for (number, result) in (1..).zip(&report.results) {
        let id = result.case.id;
        // Writing to a string cannot fail.
        let _ = match standing(result) {
            Standing::Good => writeln!(text, "ok {number} - {id}"),
            Standing::Skipped(why) => writeln!(text, "ok {number} - {id} # SKIP {}", line(&why)),
            Standing::Bad(why) => {
                let _ = writeln!(text, "not ok {number} - {id}");
                push_why(&mut text, result, &why);
                Ok(())
            }
            Standing::Tolerated(why) => {
                let _ = writeln!(text, "not ok {number} - {id} # TODO only a SHOULD");
                push_why(&mut text, result, &why);
                Ok(())
            }
        };
    }
    let number = report.results.len() + 1;
    let not = if report.left_behind.is_empty() { "" } else { "not " };
    let _ = writeln!(text, "{not}ok {number} - {CLEANED_UP}");
    if !report.left_behind.is_empty() {
        push_block(&mut text, [("left behind", left_text(report))]);
    }
    text
}

fn push_why(text: &mut String, result: &CaseResult, why: &Why<'_>) {
    let level = ("level", result.case.level.to_string());
    match why {
        Why::Failed(failure) => {
            push_block(text, [level].into_iter().chain(members(result, failure)));
        }
        Why::NotRun(why) => push_block(text, [level, ("not run", (*why).to_owned())]),
    }
}

/// A block of YAML, whose strings are written as JSON's are.
fn push_block(text: &mut String, members: impl IntoIterator<Item = (&'static str, String)>) {
    text.push_str("  ---\n");
    for (name, value) in members {
        let _ = writeln!(text, "  {name}: {}", serde_json::Value::String(value));
    }
    text.push_str("  ...\n");
}

fn line(text: &str) -> String {
    text.replace(['\n', '#'], " ")
}
