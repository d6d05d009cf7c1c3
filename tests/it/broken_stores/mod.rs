//! The conformance suite is itself tested: stores that are right pass all of it, and each store
//! with a mistake in it fails the cases that the mistake breaks, and no others. `user-store`,
//! `faroe-endpoint`.
//!
//! `cargo test --test it broken_stores -- --nocapture` prints each mistake with its cases.

mod faults;
mod guide;
mod referee;
mod serve;
mod store;
mod text;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use faroe_sidecar::{
    conformance::{self, Config, Event, Outcome, Report, Selection},
    proto::User,
};
use tokio::{runtime, sync::Semaphore, task::JoinSet};

use self::{
    faults::{Broken, Cases, Fault, RIGHT, broken},
    referee::Referee,
    serve::Served,
};

/// How many stores are checked at once: some only wait, part of the time.
const AT_ONCE: usize = 6;

/// How often each race is run again that a mistake loses.
const REPETITIONS: usize = 2;

/// What came of a run.
struct Checked {
    fault: Fault,
    report: Report,
    /// Who is in the store after it.
    users: Vec<User>,
}

/// Runs cases against a store that has this fault and no other.
async fn check(fault: Fault, selection: &Selection) -> Checked {
    let referee = Referee::default();
    let served = Served::start(fault, referee.clone()).await;
    let mut config = Config::new(served.url.parse().unwrap());
    // Time on a machine that has much to do.
    config.timeout = Duration::from_secs(60);
    let tell = |event: Event<'_>| {
        if let Event::Started { case, .. } = event {
            referee.begin(case.id);
        }
    };
    let run = conformance::run_until(&config, selection, std::future::pending(), tell);
    let report = run.await.unwrap();
    Checked { fault, report, users: served.store.users() }
}

/// The same for many faults, several at once, each on a thread of its own.
async fn check_all(faults: impl Iterator<Item = Fault>, selection: &Selection) -> Vec<Checked> {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut runs = JoinSet::new();
    for fault in faults {
        let place = Arc::clone(&room).acquire_owned().await.unwrap();
        let selection = selection.clone();
        runs.spawn_blocking(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let checked = runtime.block_on(check(fault, &selection));
            drop(place);
            checked
        });
    }
    runs.join_all().await
}

fn with(report: &Report, outcome: impl Fn(&Outcome) -> bool) -> BTreeSet<&'static str> {
    let results = report.results.iter().filter(|result| outcome(&result.outcome));
    results.map(|result| result.case.id).collect()
}

fn failed(report: &Report) -> BTreeSet<&'static str> {
    with(report, |outcome| matches!(outcome, Outcome::Failed(_) | Outcome::NotRun(_)))
}

/// The cases that a call can check.
fn checkable() -> BTreeSet<&'static str> {
    let cases = conformance::cases().filter(|case| case.why_not_checkable().is_none());
    cases.map(|case| case.id).collect()
}

/// The cases that are due to fail.
fn due(broken: &Broken) -> BTreeSet<&'static str> {
    let checkable = checkable();
    let cases = |patterns: &str| -> BTreeSet<&'static str> {
        let mut all = BTreeSet::new();
        for pattern in patterns.split_whitespace() {
            let is_meant = |id: &&str| match pattern.strip_prefix('*') {
                Some(name) => id.ends_with(name),
                None => *id == pattern,
            };
            let meant: Vec<_> = checkable.iter().copied().filter(is_meant).collect();
            assert!(!meant.is_empty(), "{:?}: no case {pattern}", broken.fault);
            all.extend(meant);
        }
        all
    };
    match broken.cases {
        Cases::Fails(ids) => cases(ids),
        Cases::PassesOnly(ids) => &checkable - &cases(ids),
    }
}

#[tokio::test]
async fn stores_that_are_right_each_in_its_own_way_pass() {
    let faults = RIGHT.iter().map(|(fault, _)| *fault);
    for Checked { fault, report, users } in check_all(faults, &Selection::all()).await {
        assert!(users.is_empty(), "{fault:?}: {} users are left behind", users.len());
        let text = conformance::report::text(&report);
        assert_eq!(failed(&report), BTreeSet::new(), "{fault:?}: {text}");
        assert!(report.conforms() && report.is_complete(), "{fault:?}: {text}");
        let not_present = with(&report, |outcome| matches!(outcome, Outcome::NotPresent(_)));
        let health = match fault {
            Fault::NoHealth | Fault::HealthIsElsewhere => BTreeSet::from(["protocol.health"]),
            _ => BTreeSet::new(),
        };
        assert_eq!(not_present, health, "{fault:?}");
        let not_checkable = with(&report, |outcome| matches!(outcome, Outcome::NotCheckable(_)));
        let known = BTreeSet::from([
            "lookup.shows-what-the-application-set",
            "lookup.outage-is-not-not-found",
            "email.empty",
            "counters.at-maximum",
            "counters.disabled",
            "consistency.writes-are-durable",
            "protocol.transient-conflict-is-aborted",
            "protocol.stops-at-the-deadline",
        ]);
        assert_eq!(not_checkable, known, "{fault:?}");
    }
}

#[tokio::test]
async fn a_store_with_a_mistake_fails_the_cases_that_the_mistake_breaks_and_no_others() {
    let reports = check_all(broken().map(|broken| broken.fault), &Selection::all()).await;
    let mut wrong = String::new();
    println!("| mistake | cases that fail |\n|---|---|");
    for broken in broken() {
        let checked = reports.iter().find(|checked| checked.fault == broken.fault).unwrap();
        wrong += &differences(broken, &checked.report, |_| true);
        wrong += &not_named(checked);
        println!("| {} | {} |", broken.mistake, broken.cases);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[tokio::test]
async fn a_race_that_a_store_loses_is_lost_each_time() {
    let only_races = |broken: &&Broken| due(broken).iter().all(|id| is_race(id));
    let races = Selection::new(vec!["race".to_owned()], Vec::new()).unwrap();
    let losers: Vec<&Broken> = broken().filter(only_races).collect();
    let faults = losers.iter().map(|broken| broken.fault).cycle();
    let mut wrong = String::new();
    for checked in check_all(faults.take(losers.len() * REPETITIONS), &races).await {
        let broken = losers.iter().find(|broken| broken.fault == checked.fault).unwrap();
        wrong += &differences(broken, &checked.report, is_race);
    }
    assert!(losers.len() >= 7 && wrong.is_empty(), "{wrong}");
}

#[test]
fn there_is_a_mistake_for_every_case() {
    let failed: BTreeSet<_> = broken().flat_map(due).collect();
    assert_eq!(failed, checkable(), "a case that no store fails is not known to be able to fail");
}

/// Whoever is in the store after a run is in its report; nobody stays without a word.
fn not_named(Checked { fault, report, users }: &Checked) -> String {
    // As far as the report shows a long email address.
    let beginning = |text: String| text[..text.floor_char_boundary(60)].to_owned();
    let named: BTreeSet<_> =
        report.left_behind.iter().map(|left| beginning(left.user.clone())).collect();
    let is_named = |user: &&User| {
        let (id, address) = (&user.id, &user.email_address);
        [format!("id {id:?}"), format!("email_address {address:?}")]
            .into_iter()
            .any(|known| named.contains(&beginning(known)))
    };
    let unnamed = users.iter().filter(|user| !is_named(user)).count();
    if unnamed == 0 && users.len() <= report.left_behind.len() {
        return String::new();
    }
    let left = report.left_behind.len();
    format!("{fault:?} has {} users, {unnamed} unnamed, and tells of {left}\n", users.len())
}

fn is_race(id: &str) -> bool {
    id.starts_with("race.")
}

/// In what a report is not as it should be, in the cases that it is about.
fn differences(broken: &Broken, report: &Report, about: impl Fn(&str) -> bool) -> String {
    let (failed, due) = (failed(report), due(broken));
    let ids = failed.symmetric_difference(&due).filter(|id| about(id));
    let text = ids.map(|id| {
        let does = if due.contains(id) { "does not fail" } else { "fails" };
        format!("{:?} {does} {id}\n", broken.fault)
    });
    text.collect()
}
