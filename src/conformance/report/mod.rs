//! A report, for people and for programs.

mod common;
mod json;
mod junit;
mod tap;
mod text;

use std::{borrow::Cow, str::FromStr};

use thiserror::Error;

pub use self::{
    json::{json, list as json_list},
    junit::junit,
    tap::tap,
    text::{SECTIONS, text},
};
use super::{CaseResult, Cause, Failure, LeftBehind, Level, Outcome, Report};

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One object, every case in it.
    Json,
    /// XML as JUnit writes it, which most CI systems show.
    Junit,
    /// The Test Anything Protocol, version 14.
    Tap,
}

/// A name of no format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("write text, json, junit or tap")]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "junit" => Ok(Self::Junit),
            "tap" => Ok(Self::Tap),
            _ => Err(UnknownFormat),
        }
    }
}

/// A report in a format, with a line break at its end.
pub fn write(report: &Report, format: Format) -> String {
    match format {
        Format::Text => text(report),
        Format::Json => json(report),
        Format::Junit => junit(report),
        Format::Tap => tap(report),
    }
}

/// What formats that know of tests alone make of a result. They are to say what the exit code
/// says: a SHOULD that fails breaks nothing.
enum Standing<'a> {
    Good,
    Bad(Why<'a>),
    /// Failed, and nothing is broken by it.
    Tolerated(Why<'a>),
    /// Not checked; with the reason.
    Skipped(Cow<'static, str>),
}

enum Why<'a> {
    Failed(&'a Failure),
    NotRun(&'static str),
}

fn standing(result: &CaseResult) -> Standing<'_> {
    let bad = |why| match result.case.level {
        Level::Must => Standing::Bad(why),
        Level::Should => Standing::Tolerated(why),
    };
    match &result.outcome {
        Outcome::Passed => Standing::Good,
        Outcome::Failed(failure) => bad(Why::Failed(failure)),
        Outcome::NotRun(why) => bad(Why::NotRun(why)),
        Outcome::Skipped => Standing::Skipped("skipped as told".into()),
        Outcome::NotPresent(what) => {
            Standing::Skipped(format!("not present, which is no fault: {what}").into())
        }
        Outcome::NotCheckable(why) => Standing::Skipped(format!("not checkable: {why}").into()),
    }
}

/// The members of a failure with their names, in the order in which they are read.
fn members(result: &CaseResult, failure: &Failure) -> [(&'static str, String); 6] {
    [
        ("demanded", result.case.demand.to_owned()),
        ("sent", failure.sent.clone()),
        ("came back", failure.came_back.clone()),
        ("due", failure.expected.clone()),
        ("contract", result.case.section.to_owned()),
        ("to fix", failure.fix(result.case)),
    ]
}

/// Who was not seen to be gone, a line for each reason.
fn left_text(report: &Report) -> String {
    let line = |(heading, users): (String, Vec<String>)| match users.is_empty() {
        true => heading,
        false => format!("{heading}: {}", users.join(", ")),
    };
    common::left_behind(report).into_iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What stands for "no user was left behind" beside the cases.
const CLEANED_UP: &str = "run.users-are-deleted";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::conformance::{Case, cases};

    fn case(id: &str) -> &'static Case {
        cases().find(|case| case.id == id).unwrap()
    }

    fn result(id: &str, outcome: Outcome) -> CaseResult {
        CaseResult { case: case(id), outcome, took: Duration::from_millis(1234) }
    }

    fn failure() -> Outcome {
        Outcome::Failed(Failure::new("Call { a: \"<&'\" }", "\u{1} ]]> # x\ny", "\"b\" \\ c"))
    }

    fn report(results: Vec<CaseResult>) -> Report {
        Report {
            store: "grpc://127.0.0.1:1".to_owned(),
            mark: "abc".to_owned(),
            results,
            skipped: Vec::new(),
            left_behind: Vec::new(),
            stopped: false,
            took: Duration::from_millis(2500),
        }
    }

    fn mixed() -> Report {
        report(vec![
            result("create.defaults", Outcome::Passed),
            result("create.returns-what-was-sent", failure()),
            result("email.1000-characters", failure()),
            result("delete.twice", Outcome::Skipped),
            result("protocol.health", Outcome::NotPresent("no such service")),
            result("counters.at-maximum", Outcome::NotCheckable("too many calls")),
        ])
    }

    fn left(report: &mut Report) {
        report.left_behind.push(LeftBehind {
            user: "id \"7\"".to_owned(),
            reason: "DeleteUser: INTERNAL \"<no>\"".to_owned(),
            unclear: false,
        });
    }

    #[test]
    fn the_verdict_is_that_of_the_musts_that_ran() {
        let passed = |id| result(id, Outcome::Passed);
        let all = report(vec![passed("create.defaults"), passed("email.1000-characters")]);
        assert!(all.conforms() && all.is_complete());
        let should =
            report(vec![passed("create.defaults"), result("email.1000-characters", failure())]);
        assert!(should.conforms() && should.is_complete());
        assert!(text(&should).contains("conforms, but not to everything that it should, in"));
        let must = report(vec![result("create.defaults", failure())]);
        assert!(!must.conforms());
        let skipped =
            report(vec![passed("create.defaults"), result("delete.twice", Outcome::Skipped)]);
        assert!(skipped.conforms() && !skipped.is_complete());
        assert!(text(&skipped).contains("no proof"), "{}", text(&skipped));
        let not_run = report(vec![result("delete.twice", Outcome::NotRun("away"))]);
        assert!(!not_run.conforms() && !not_run.is_complete());
        let mut behind = report(vec![passed("create.defaults")]);
        left(&mut behind);
        assert!(!behind.conforms());
        let mut stopped = report(vec![passed("create.defaults")]);
        stopped.stopped = true;
        assert!(!stopped.conforms());
    }

    #[test]
    fn people_are_told_what_failed_and_what_was_not_checked() {
        let mut report = mixed();
        left(&mut report);
        let text = text(&report);
        for part in [
            "FAILED create.returns-what-was-sent (MUST)\n",
            "FAILED email.1000-characters (SHOULD)\n",
            "  sent:      Call { a: \"<&'\" }\n",
            "  came back: ",
            "  due:       \"b\" \\ c\n",
            "  contract:  user-store, Messages\n",
            "  to fix:    ",
            "  protocol.health: no such service\n",
            "  counters.at-maximum: too many calls\n",
            "Skipped as told: 1 case.\n",
            "because they could not be deleted (DeleteUser: INTERNAL \"<no>\"): 1 of them; all have abc in their email address:\n  id \"7\"\n",
            "6 cases: 4 ran, 1 skipped, 1 not checkable.\n",
            "MUST   1 passed, 1 failed, 1 skipped, 1 not checkable\n",
            "SHOULD 0 passed, 1 failed, 1 not present\n",
            "grpc://127.0.0.1:1 does not conform, in 2.5 s.\n",
        ] {
            assert!(text.contains(part), "no {part:?} in:\n{text}");
        }
    }

    fn caused(id: &str, cause: Option<Cause>) -> CaseResult {
        let failure = Failure::new("Call", "no", "yes").because(cause);
        result(id, Outcome::Failed(failure))
    }

    #[test]
    fn a_cause_of_many_failures_is_told_before_them_and_one_of_few_is_not() {
        let absent = Some(Cause::AbsentIsOk);
        let mut results = vec![
            caused("delete.twice", absent),
            caused("delete.absent-user", absent),
            caused("create.defaults", Some(Cause::NoStatus)),
            caused("email.case", None),
        ];
        assert!(text(&report(results.clone())).starts_with("FAILED delete.twice"));
        results.push(caused("lookup.absent-id", absent));
        let report = report(results);
        let said = "3 of 5 failures have one cause: a user who is not there is answered OK without a user. ";
        for told in [text(&report), tap(&report).split("# ").nth(2).unwrap().to_owned()] {
            assert!(told.starts_with(said), "{told}");
        }
        let value: serde_json::Value = serde_json::from_str(&json(&report)).unwrap();
        assert_eq!(value["common_causes"].as_array().unwrap().len(), 1);
        assert_eq!(value["common_causes"][0]["failures"], 3);
        // Each failure has the fix of its own cause, and the case's hint without one.
        let hint = case("email.case").hint;
        assert_eq!(value["cases"][3]["failure"]["to_fix"], hint);
        assert!(text(&report).contains(&format!("  to fix:    {hint}\n")));
    }

    #[test]
    fn users_left_behind_are_grouped_and_json_names_all() {
        let mut report = report(vec![result("create.defaults", Outcome::Passed)]);
        for number in 0..20 {
            report.left_behind.push(LeftBehind {
                user: format!("id \"{number}\""),
                // Of one kind the even ones, of as many as there are the others.
                reason: if number % 2 == 0 { "one".to_owned() } else { format!("{number}") },
                unclear: number % 2 == 0,
            });
        }
        let text = text(&report);
        for part in [
            "could not be seen (one): 10 of them; all have abc in their email address:\n  id \"0\"\n",
            "  and 5 more, whom --format json names\n",
            "may still be there, because they could not be deleted (1): 1 of them;",
            "And 6 more, for other reasons; --format json names all.\n",
            "20 users of this run could not be shown to be deleted",
        ] {
            assert!(text.contains(part), "no {part:?} in:\n{text}");
        }
        let value: serde_json::Value = serde_json::from_str(&json(&report)).unwrap();
        assert_eq!(value["left_behind"].as_array().unwrap().len(), 20);
        assert_eq!(value["left_behind"][0]["unclear"], true);
    }

    #[test]
    fn json_has_every_case() {
        let mut report = mixed();
        left(&mut report);
        let value: serde_json::Value = serde_json::from_str(&json(&report)).unwrap();
        assert_eq!(value["conforms"], false);
        assert_eq!(value["complete"], false);
        assert_eq!(value["seconds"], 2.5);
        assert_eq!(value["cases"].as_array().unwrap().len(), 6);
        assert_eq!(value["cases"][0]["outcome"], "passed");
        assert_eq!(value["cases"][1]["id"], "create.returns-what-was-sent");
        assert_eq!(value["cases"][1]["level"], "MUST");
        assert_eq!(value["cases"][1]["failure"]["came_back"], "\u{1} ]]> # x\ny");
        assert_eq!(value["cases"][4]["reason"], "no such service");
        assert_eq!(value["counts"]["must"]["failed"], 1);
        assert_eq!(value["counts"]["should"]["not_run"], 0);
        assert_eq!(value["left_behind"][0]["user"], "id \"7\"");
    }

    #[test]
    fn junit_fails_where_the_store_does_not_conform_and_is_escaped() {
        let mut report = mixed();
        left(&mut report);
        let xml = junit(&report);
        assert!(xml.contains("tests=\"7\" failures=\"2\" errors=\"0\" skipped=\"4\""), "{xml}");
        assert!(xml.contains("Call { a: &quot;&lt;&amp;&apos;&quot; }"), "{xml}");
        assert!(xml.contains("\u{fffd} ]]&gt; # x\ny"), "{xml}");
        assert!(!xml.contains('\u{1}'));
        assert_eq!(xml.matches("<testcase").count(), 7);
        assert_eq!(xml.matches("<failure").count(), 2);
        assert_eq!(xml.matches("<skipped").count(), 4);
    }

    #[test]
    fn tap_says_todo_where_nothing_is_broken() {
        let tap = tap(&mixed());
        let lines: Vec<&str> = tap.lines().filter(|line| !line.starts_with([' ', '#'])).collect();
        assert_eq!(lines[..2], ["TAP version 14", "1..7"]);
        assert!(lines[2].starts_with("ok 1 - create.defaults"), "{tap}");
        assert!(lines[3].starts_with("not ok 2 - create.returns-what-was-sent"), "{tap}");
        assert!(!lines[3].contains("TODO"));
        assert!(lines[4].starts_with("not ok 3 - email.1000-characters # TODO"), "{tap}");
        assert!(lines[5].starts_with("ok 4 - delete.twice # SKIP"), "{tap}");
        assert!(lines[8].starts_with("ok 7 - run.users-are-deleted"), "{tap}");
        assert!(tap.contains("  came back: \"\\u0001 ]]> # x\\ny\"\n"), "{tap}");
    }
}
