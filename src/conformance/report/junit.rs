//! The report as JUnit's XML. A SHOULD that fails is `skipped` there, with what failed in its text:
//! nothing is broken by it.

use std::fmt::Write as _;

use super::{CLEANED_UP, CaseResult, Report, Standing, Why, left_text, members, standing};

/// One `testsuite`, in which each case is a `testcase`, and the deletion of the run's users one
/// more.
pub fn junit(report: &Report) -> String {
    let mut cases = String::new();
    let (mut failures, mut errors, mut skipped) = (0, 0, 0);
    for result in &report.results {
        let body = match standing(result) {
            Standing::Good => String::new(),
            Standing::Bad(Why::Failed(failure)) => {
                failures += 1;
                element("failure", &failure.came_back, &failure_text(result, failure))
            }
            Standing::Bad(Why::NotRun(why)) => {
                errors += 1;
                element("error", &format!("not run: {why}"), "")
            }
            Standing::Tolerated(why) => {
                skipped += 1;
                match why {
                    Why::Failed(failure) => {
                        let message =
                            format!("failed, which is only a SHOULD: {}", failure.came_back);
                        element("skipped", &message, "")
                            + &format!(
                                "<system-out>{}</system-out>",
                                escaped(&failure_text(result, failure))
                            )
                    }
                    Why::NotRun(why) => element("skipped", &format!("not run: {why}"), ""),
                }
            }
            Standing::Skipped(why) => {
                skipped += 1;
                element("skipped", &why, "")
            }
        };
        push_case(&mut cases, result.case.id, result.took.as_secs_f64(), &body);
    }
    let body = if report.left_behind.is_empty() {
        String::new()
    } else {
        failures += 1;
        element("failure", "users of the run may still be there", &left_text(report))
    };
    push_case(&mut cases, CLEANED_UP, 0.0, &body);
    let tests = report.results.len() + 1;
    let name = escaped(&format!("conformance of {}", report.store));
    let counts = format!(
        "name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\" time=\"{:.3}\"",
        report.took.as_secs_f64()
    );
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite {counts}>\n{cases}</testsuite>\n</testsuites>\n"
    )
}

fn failure_text(result: &CaseResult, failure: &super::Failure) -> String {
    let lines = members(result, failure).map(|(name, value)| format!("{name}: {value}"));
    lines.join("\n")
}

fn push_case(cases: &mut String, id: &str, seconds: f64, body: &str) {
    let group = id.split('.').next().unwrap_or(id);
    // Writing to a string cannot fail.
    let _ = writeln!(
        cases,
        "<testcase classname=\"conformance.{group}\" name=\"{id}\" time=\"{seconds:.3}\">{body}</testcase>"
    );
}

fn element(name: &str, message: &str, text: &str) -> String {
    format!("<{name} message=\"{}\">{}</{name}>", escaped(message), escaped(text))
}

/// Text for an element or an attribute; what XML 1.0 cannot hold is U+FFFD.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\n' | '\t' => escaped.push(character),
            '\0'..=' ' if character != ' ' => escaped.push('\u{fffd}'),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push(character),
        }
    }
    escaped
}
