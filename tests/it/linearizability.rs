//! Ten thousand operations of many clients on two sidecars over one database: there is an order of
//! them, true to the clock, in which one caller after the other would have got the same answers.
//! That is what Faroe builds on: a counter has one winner, a read sees every acknowledged write,
//! and who is there is never "not found". `faroe-endpoint`, sections 3 and 4.
//!
//! The search for that order is Wing and Gong's, with Lowe's memory of where it has been.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt::{self, Write as _},
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{base64, client::Client, database::Kind, on_every_database, stores::Pair};

on_every_database!(ten_thousand_operations_are_linearizable);

const OPERATIONS: usize = 10_000;
const CLIENTS: usize = 32;
/// Clients that share what they have read, as the requests of one Faroe server do.
const CLIENTS_OF_A_SERVER: usize = 8;
/// Groups of users who share a few email addresses among themselves and none with other groups, so
/// that the history of each group stands for itself.
const GROUPS: usize = 250;
/// Groups that all clients work on at a time: few, so that they get in each other's way.
const GROUPS_AT_A_TIME: usize = 10;
const ADDRESSES: usize = 3;

/// A user, as far as actions can change one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct User {
    id: String,
    email_address: String,
    /// Stands for hash, algorithm and salt, which are set together.
    password: u32,
    email_address_counter: i32,
    password_hash_counter: i32,
    disabled_counter: i32,
    sessions_counter: i32,
}

/// The users of a group by ID: the state of the model.
type Users = BTreeMap<String, User>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Call {
    Create { email_address: String, password: u32 },
    Get { id: String },
    GetByEmailAddress { email_address: String },
    UpdateEmailAddress { id: String, email_address: String, counter: i32 },
    UpdatePasswordHash { id: String, password: u32, counter: i32 },
    IncrementSessionsCounter { id: String, counter: i32 },
    Delete { id: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    User(User),
    Done,
    AlreadyUsed,
    NotFound,
    /// Nothing was changed, for whatever reason.
    Conflict,
}

/// A call with its answer, and when both were, from the start of the run.
#[derive(Debug, Clone)]
struct Operation {
    client: usize,
    sidecar: usize,
    invoked: Duration,
    responded: Duration,
    call: Call,
    outcome: Outcome,
}

/// What one caller after the other would see: the users after the call, if the outcome is the one
/// that the call must have.
fn step(users: &Users, call: &Call, outcome: &Outcome) -> Option<Users> {
    if *outcome == Outcome::Conflict {
        return Some(users.clone());
    }
    let owner = |address: &str| users.values().find(|user| user.email_address == address);
    let found = |user: Option<&User>| user.cloned().map_or(Outcome::NotFound, Outcome::User);
    let mut after = users.clone();
    let expected = match call {
        Call::Create { email_address, .. } if owner(email_address).is_some() => {
            Outcome::AlreadyUsed
        }
        Call::Create { email_address, password } => {
            // The ID is for the store to choose.
            let Outcome::User(User { id, .. }) = outcome else { return None };
            let user = User {
                id: id.clone(),
                email_address: email_address.clone(),
                password: *password,
                email_address_counter: 0,
                password_hash_counter: 0,
                disabled_counter: 0,
                sessions_counter: 0,
            };
            if after.insert(id.clone(), user.clone()).is_some() {
                return None;
            }
            Outcome::User(user)
        }
        Call::Get { id } => found(users.get(id)),
        Call::GetByEmailAddress { email_address } => found(owner(email_address)),
        Call::UpdateEmailAddress { id, email_address, counter } => match after.get_mut(id) {
            Some(user) if user.email_address_counter == *counter => match owner(email_address) {
                Some(owner) if owner.id != *id => Outcome::AlreadyUsed,
                _ => {
                    user.email_address.clone_from(email_address);
                    user.email_address_counter += 1;
                    Outcome::Done
                }
            },
            _ => Outcome::NotFound,
        },
        Call::UpdatePasswordHash { id, password, counter } => match after.get_mut(id) {
            Some(user) if user.password_hash_counter == *counter => {
                user.password = *password;
                user.password_hash_counter += 1;
                Outcome::Done
            }
            _ => Outcome::NotFound,
        },
        Call::IncrementSessionsCounter { id, counter } => match after.get_mut(id) {
            Some(user) if user.sessions_counter == *counter => {
                user.sessions_counter += 1;
                Outcome::Done
            }
            _ => Outcome::NotFound,
        },
        Call::Delete { id } => match after.remove(id) {
            Some(_) => Outcome::Done,
            None => Outcome::NotFound,
        },
    };
    (expected == *outcome).then_some(after)
}

/// Whether the operations can be put into an order in which each has its outcome, and none stands
/// before one that had ended when it began.
fn is_linearizable(history: &[Operation]) -> bool {
    // The one that ended first is the likeliest to be next: it comes off the stack first.
    let mut by_response: Vec<usize> = (0..history.len()).collect();
    by_response.sort_by_key(|&number| std::cmp::Reverse(history[number].responded));
    let mut seen: HashSet<(Vec<u64>, Users)> = HashSet::new();
    let mut stack = vec![(vec![0_u64; history.len().div_ceil(64)], Users::new())];
    while let Some((done, users)) = stack.pop() {
        let is_left = |number: usize| done[number / 64] >> (number % 64) & 1 == 0;
        let left = || by_response.iter().copied().filter(|&number| is_left(number));
        let Some(first_end) = left().map(|number| history[number].responded).min() else {
            return true;
        };
        let mut next = Vec::new();
        for number in left().filter(|&number| history[number].invoked <= first_end) {
            let operation = &history[number];
            let Some(after) = step(&users, &operation.call, &operation.outcome) else { continue };
            let mut done = done.clone();
            done[number / 64] |= 1 << (number % 64);
            if after == users {
                // It may come now and changes nothing, so no order is lost if it does.
                next = vec![(done, after)];
                break;
            }
            next.push((done, after));
        }
        stack.extend(next.into_iter().filter(|place| seen.insert(place.clone())));
    }
    false
}

/// A part of a history that is not linearizable, as small as it is easily made, and not
/// linearizable either.
fn shrunk(mut history: Vec<Operation>) -> Vec<Operation> {
    history.sort_by_key(|operation| operation.invoked);
    // What began after all the rest had ended comes after it in every order, and may be cut off.
    let mut end = Duration::ZERO;
    for number in 0..history.len() {
        if history[number].invoked > end && !is_linearizable(&history[..number]) {
            history.truncate(number);
            break;
        }
        end = end.max(history[number].responded);
    }
    // What changed nothing may be left out of every order.
    let changes_nothing = |operation: &Operation| match operation.call {
        Call::Get { .. } | Call::GetByEmailAddress { .. } => true,
        _ => !matches!(operation.outcome, Outcome::Done | Outcome::User(_)),
    };
    for number in (0..history.len()).rev() {
        if changes_nothing(&history[number]) {
            let operation = history.remove(number);
            if is_linearizable(&history) {
                history.insert(number, operation);
            }
        }
    }
    history
}

/// Panics with a readable part of the history, if it is not linearizable.
fn check(history: &[Operation], caption: &str) {
    if is_linearizable(history) {
        return;
    }
    let mut text = String::new();
    for operation in shrunk(history.to_vec()) {
        let _ = writeln!(text, "{operation}");
    }
    panic!("{caption}: no order of these operations gives these outcomes:\n{text}");
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, sidecar, invoked, responded, call, outcome } = self;
        let millis = |instant: &Duration| instant.as_secs_f64() * 1000.0;
        write!(
            f,
            "{:>10.3} to {:>10.3} ms, client {client:>2}, sidecar {sidecar}: {call:?} -> {outcome:?}",
            millis(invoked),
            millis(responded),
        )
    }
}

/// Marsaglia's xorshift64*: small, and repeatable from its seed.
struct Random(u64);

impl Random {
    fn new(seed: u64, client: usize) -> Self {
        // An odd multiplier keeps the clients apart, and the state must not be 0.
        let client = (client as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self((seed ^ client).max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }
}

/// What all clients of a run have in common.
struct Run {
    seed: u64,
    start: Instant,
    next_operation: AtomicUsize,
    next_password: AtomicU32,
}

/// What the clients of a server last read of the users of each group.
type Known = Arc<Mutex<HashMap<usize, Users>>>;

/// A client: it calls on what was read, which may be old.
struct Caller {
    number: usize,
    random: Random,
    clients: [Client; 2],
    run: Arc<Run>,
    known: Known,
}

impl Caller {
    async fn work(mut self) -> Vec<(usize, Operation)> {
        let mut history = Vec::new();
        loop {
            let operation = self.run.next_operation.fetch_add(1, Ordering::Relaxed);
            if operation >= OPERATIONS {
                return history;
            }
            let turn = operation / (OPERATIONS / (GROUPS / GROUPS_AT_A_TIME));
            let group = turn * GROUPS_AT_A_TIME + self.random.below(GROUPS_AT_A_TIME);
            let call = self.choose(group);
            let sidecar = self.random.below(2);
            let invoked = self.run.start.elapsed();
            let outcome = self.invoke(sidecar, &call).await;
            let responded = self.run.start.elapsed();
            self.learn(group, &call, &outcome);
            let client = self.number;
            history.push((group, Operation { client, sidecar, invoked, responded, call, outcome }));
        }
    }

    fn choose(&mut self, group: usize) -> Call {
        let address = format!("group-{group}-{}@planted.example", self.random.below(ADDRESSES));
        let users = self.known.lock().unwrap().get(&group).cloned().unwrap_or_default();
        let user = match users.len() {
            0 => None,
            length => users.values().nth(self.random.below(length)),
        };
        let Some(user) = user else {
            return match self.random.below(2) {
                0 => Call::Create { email_address: address, password: self.password() },
                _ => Call::GetByEmailAddress { email_address: address },
            };
        };
        // Mostly what was read, which others may have made old; sometimes certainly not that.
        let difference = match self.random.below(8) {
            0 => -1,
            1 => 1,
            _ => 0,
        };
        let id = user.id.clone();
        match self.random.below(100) {
            0..25 => Call::Get { id },
            25..42 => Call::GetByEmailAddress { email_address: address },
            42..56 => Call::UpdateEmailAddress {
                id,
                email_address: address,
                counter: user.email_address_counter + difference,
            },
            56..70 => Call::UpdatePasswordHash {
                id,
                password: self.password(),
                counter: user.password_hash_counter + difference,
            },
            70..84 => {
                Call::IncrementSessionsCounter { id, counter: user.sessions_counter + difference }
            }
            84..93 => Call::Create { email_address: address, password: self.password() },
            _ => Call::Delete { id },
        }
    }

    /// A password that nobody has set yet.
    fn password(&self) -> u32 {
        self.run.next_password.fetch_add(1, Ordering::Relaxed)
    }

    fn learn(&mut self, group: usize, call: &Call, outcome: &Outcome) {
        let mut known = self.known.lock().unwrap();
        let users = known.entry(group).or_default();
        match (call, outcome) {
            (_, Outcome::User(user)) => {
                users.insert(user.id.clone(), user.clone());
            }
            // Now and then an ID is kept that is of no use any more.
            (Call::Get { id }, Outcome::NotFound) | (Call::Delete { id }, _)
                if self.random.below(4) > 0 =>
            {
                users.remove(id);
            }
            _ => {}
        }
    }

    async fn invoke(&self, sidecar: usize, call: &Call) -> Outcome {
        let (action, arguments) = wire(call);
        let body = json!({ "action": action, "arguments": arguments }).to_string();
        let reply = self.clients[sidecar].post(body).await;
        let seed = self.run.seed;
        assert_eq!(reply.status, StatusCode::OK, "seed {seed}: {call:?}: {}", reply.text());
        let answer = reply.json();
        match answer["error_code"].as_str() {
            None => match answer["values"].get("user") {
                Some(user) => Outcome::User(User::of_json(user)),
                None => Outcome::Done,
            },
            Some("email_address_already_used") => Outcome::AlreadyUsed,
            Some("user_not_found") => Outcome::NotFound,
            Some("internal_conflict") => Outcome::Conflict,
            Some(code) => panic!("seed {seed}: {call:?}: {code}"),
        }
    }
}

impl User {
    fn of_json(user: &Value) -> Self {
        let text = |member: &str| user[member].as_str().unwrap().to_owned();
        let bytes =
            |member: &str| String::from_utf8(STANDARD.decode(text(member)).unwrap()).unwrap();
        let counter = |member: &str| i32::try_from(user[member].as_i64().unwrap()).unwrap();
        let hash = bytes("password_hash");
        let password = hash.strip_prefix("planted hash ").unwrap();
        // Half of one write and half of another is nobody's password.
        assert_eq!(bytes("password_salt"), format!("planted salt {password}"));
        assert_eq!(text("password_hash_algorithm_id"), format!("algorithm {password}"));
        assert_eq!(user["disabled"], json!(false));
        assert_eq!(user["display_name"], json!(""));
        Self {
            id: text("id"),
            email_address: text("email_address"),
            password: password.parse().unwrap(),
            email_address_counter: counter("email_address_counter"),
            password_hash_counter: counter("password_hash_counter"),
            disabled_counter: counter("disabled_counter"),
            sessions_counter: counter("sessions_counter"),
        }
    }
}

/// The action and its arguments.
fn wire(call: &Call) -> (&'static str, Value) {
    let with_password = |mut arguments: Value, password: u32| {
        arguments["password_hash"] = json!(base64(format!("planted hash {password}")));
        arguments["password_hash_algorithm_id"] = json!(format!("algorithm {password}"));
        arguments["password_salt"] = json!(base64(format!("planted salt {password}")));
        arguments
    };
    match call {
        Call::Create { email_address, password } => {
            ("create_user", with_password(json!({ "email_address": email_address }), *password))
        }
        Call::Get { id } => ("get_user", json!({ "user_id": id })),
        Call::GetByEmailAddress { email_address } => {
            ("get_user_by_email_address", json!({ "email_address": email_address }))
        }
        Call::UpdateEmailAddress { id, email_address, counter } => (
            "update_user_email_address",
            json!({
                "user_id": id,
                "email_address": email_address,
                "user_email_address_counter": counter,
            }),
        ),
        Call::UpdatePasswordHash { id, password, counter } => (
            "update_user_password_hash",
            with_password(
                json!({ "user_id": id, "user_password_hash_counter": counter }),
                *password,
            ),
        ),
        Call::IncrementSessionsCounter { id, counter } => (
            "increment_user_sessions_counter",
            json!({ "user_id": id, "user_sessions_counter": counter }),
        ),
        Call::Delete { id } => ("delete_user", json!({ "user_id": id })),
    }
}

async fn ten_thousand_operations_are_linearizable(kind: Kind) {
    let seed = RandomState::new().hash_one(0);
    let pair = Pair::start(kind);
    let run = Arc::new(Run {
        seed,
        start: Instant::now(),
        next_operation: AtomicUsize::new(0),
        next_password: AtomicU32::new(0),
    });
    let known: Vec<Known> = (0..CLIENTS / CLIENTS_OF_A_SERVER).map(|_| Known::default()).collect();
    let mut callers = JoinSet::new();
    for number in 0..CLIENTS {
        let caller = Caller {
            number,
            random: Random::new(seed, number),
            clients: pair.clients(),
            run: Arc::clone(&run),
            known: Arc::clone(&known[number / CLIENTS_OF_A_SERVER]),
        };
        callers.spawn(caller.work());
    }
    let mut histories: BTreeMap<usize, Vec<Operation>> = BTreeMap::new();
    for (group, operation) in callers.join_all().await.into_iter().flatten() {
        histories.entry(group).or_default().push(operation);
    }

    let caption = |group: &usize| format!("{kind:?}, seed {seed}, group {group}");
    let mut ids = BTreeSet::new();
    for (group, history) in &histories {
        check(history, &caption(group));
        // No ID is used again, in any group.
        for operation in history {
            if let (Call::Create { .. }, Outcome::User(user)) =
                (&operation.call, &operation.outcome)
            {
                assert!(ids.insert(user.id.clone()), "{}: {operation}", caption(group));
            }
        }
    }
    assert_it_was_worth_it(&histories, &format!("{kind:?}, seed {seed}"));
}

/// A run in which nothing happens, or one thing after the other, is linearizable too.
fn assert_it_was_worth_it(histories: &BTreeMap<usize, Vec<Operation>>, caption: &str) {
    let operations = || histories.values().flatten();
    assert_eq!(operations().count(), OPERATIONS, "{caption}");
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for operation in operations() {
        let outcome = match operation.outcome {
            Outcome::User(_) => "User".to_owned(),
            ref outcome => format!("{outcome:?}"),
        };
        *outcomes.entry(format!("{} {outcome}", wire(&operation.call).0)).or_default() += 1;
    }
    for expected in [
        "create_user User",
        "create_user AlreadyUsed",
        "get_user User",
        "get_user NotFound",
        "get_user_by_email_address User",
        "get_user_by_email_address NotFound",
        "update_user_email_address Done",
        "update_user_email_address AlreadyUsed",
        "update_user_email_address NotFound",
        "update_user_password_hash Done",
        "update_user_password_hash NotFound",
        "increment_user_sessions_counter Done",
        "increment_user_sessions_counter NotFound",
        "delete_user Done",
        "delete_user NotFound",
    ] {
        assert!(
            outcomes.get(expected).is_some_and(|count| *count >= 10),
            "{caption}: {outcomes:?}"
        );
    }
    let conflicts = operations().filter(|operation| operation.outcome == Outcome::Conflict);
    assert!(conflicts.count() < OPERATIONS / 20, "{caption}: {outcomes:?}");
    let overlapping = histories
        .values()
        .flat_map(|history| history.iter().map(move |operation| (history, operation)))
        .filter(|(history, operation)| {
            history.iter().any(|other| {
                other.client != operation.client
                    && other.invoked < operation.responded
                    && operation.invoked < other.responded
            })
        })
        .count();
    assert!(overlapping > OPERATIONS / 4, "{caption}: only {overlapping} were at the same time");
}

mod checker {
    use super::*;

    /// A history from what happened from when to when, in milliseconds.
    fn history(operations: Vec<(u64, u64, Call, Outcome)>) -> Vec<Operation> {
        operations
            .into_iter()
            .enumerate()
            .map(|(client, (invoked, responded, call, outcome))| Operation {
                client,
                sidecar: client % 2,
                invoked: Duration::from_millis(invoked),
                responded: Duration::from_millis(responded),
                call,
                outcome,
            })
            .collect()
    }

    fn user(email_address: &str, password: u32) -> User {
        User {
            id: "1".to_owned(),
            email_address: email_address.to_owned(),
            password,
            email_address_counter: 0,
            password_hash_counter: 0,
            disabled_counter: 0,
            sessions_counter: 0,
        }
    }

    fn create(email_address: &str) -> Call {
        Call::Create { email_address: email_address.to_owned(), password: 0 }
    }

    fn get() -> Call {
        Call::Get { id: "1".to_owned() }
    }

    fn increment(counter: i32) -> Call {
        Call::IncrementSessionsCounter { id: "1".to_owned(), counter }
    }

    fn set_password(password: u32, counter: i32) -> Call {
        Call::UpdatePasswordHash { id: "1".to_owned(), password, counter }
    }

    fn set_email_address(email_address: &str, counter: i32) -> Call {
        let email_address = email_address.to_owned();
        Call::UpdateEmailAddress { id: "1".to_owned(), email_address, counter }
    }

    fn delete() -> Call {
        Call::Delete { id: "1".to_owned() }
    }

    /// A user who is there from the first millisecond.
    fn after_creation(operations: Vec<(u64, u64, Call, Outcome)>) -> Vec<Operation> {
        let mut all = vec![(0, 1, create("a"), Outcome::User(user("a", 0)))];
        all.extend(operations);
        history(all)
    }

    #[test]
    fn accepts_one_call_after_the_other() {
        let signed_out = User { sessions_counter: 1, ..user("a", 0) };
        let moved =
            User { email_address_counter: 1, email_address: "b".into(), ..signed_out.clone() };
        let changed = User { password_hash_counter: 1, password: 7, ..moved.clone() };
        let by_address = |address: &str| Call::GetByEmailAddress { email_address: address.into() };
        assert!(is_linearizable(&after_creation(vec![
            (2, 3, get(), Outcome::User(user("a", 0))),
            (4, 5, increment(0), Outcome::Done),
            (6, 7, get(), Outcome::User(signed_out)),
            (8, 9, increment(0), Outcome::NotFound),
            (10, 11, set_email_address("b", 0), Outcome::Done),
            (12, 13, by_address("a"), Outcome::NotFound),
            (14, 15, by_address("b"), Outcome::User(moved)),
            (16, 17, set_password(7, 0), Outcome::Done),
            (18, 19, set_password(8, 0), Outcome::NotFound),
            (20, 21, get(), Outcome::User(changed)),
            (22, 23, create("b"), Outcome::AlreadyUsed),
            (24, 25, delete(), Outcome::Done),
            (26, 27, get(), Outcome::NotFound),
            (28, 29, create("b"), Outcome::User(User { id: "2".into(), ..user("b", 0) })),
            (30, 31, delete(), Outcome::NotFound),
        ])));
    }

    #[test]
    fn accepts_either_outcome_of_calls_at_the_same_time() {
        let signed_out = || Outcome::User(User { sessions_counter: 1, ..user("a", 0) });
        for (first, second) in [
            (Outcome::User(user("a", 0)), signed_out()),
            (Outcome::User(user("a", 0)), Outcome::User(user("a", 0))),
            (signed_out(), signed_out()),
        ] {
            assert!(is_linearizable(&after_creation(vec![
                (2, 20, increment(0), Outcome::Done),
                (3, 5, get(), first),
                (6, 8, get(), second),
                (9, 19, increment(0), Outcome::NotFound),
            ])));
        }
    }

    /// The order of the calls is not that of their beginnings, nor that of their ends.
    #[test]
    fn accepts_an_order_that_has_to_be_searched_for() {
        let signed_out = Outcome::User(User { sessions_counter: 3, ..user("a", 0) });
        assert!(is_linearizable(&after_creation(vec![
            (2, 20, increment(2), Outcome::Done),
            (3, 19, increment(1), Outcome::Done),
            (4, 21, increment(0), Outcome::Done),
            (5, 18, get(), signed_out),
            (6, 22, delete(), Outcome::Done),
            (7, 17, set_password(1, 0), Outcome::NotFound),
        ])));
    }

    #[test]
    fn accepts_a_conflict_and_expects_no_effect_of_it() {
        let conflict = (2, 3, increment(0), Outcome::Conflict);
        let unchanged = (4, 5, get(), Outcome::User(user("a", 0)));
        let changed = (4, 5, get(), Outcome::User(User { sessions_counter: 1, ..user("a", 0) }));
        assert!(is_linearizable(&after_creation(vec![conflict.clone(), unchanged])));
        assert!(!is_linearizable(&after_creation(vec![conflict, changed])));
    }

    #[test]
    fn rejects_a_lost_update() {
        // The second write was made of what was there before the first.
        assert!(!is_linearizable(&after_creation(vec![
            (2, 6, set_password(1, 0), Outcome::Done),
            (3, 7, increment(0), Outcome::Done),
            (8, 9, get(), Outcome::User(User { sessions_counter: 1, ..user("a", 0) })),
        ])));
    }

    #[test]
    fn rejects_a_stale_read() {
        assert!(!is_linearizable(&after_creation(vec![
            (2, 3, increment(0), Outcome::Done),
            (4, 5, get(), Outcome::User(user("a", 0))),
        ])));
        // Nor may a later read go back behind an earlier one.
        assert!(!is_linearizable(&after_creation(vec![
            (2, 20, increment(0), Outcome::Done),
            (3, 5, get(), Outcome::User(User { sessions_counter: 1, ..user("a", 0) })),
            (6, 8, get(), Outcome::User(user("a", 0))),
        ])));
    }

    #[test]
    fn rejects_a_double_winner() {
        assert!(!is_linearizable(&after_creation(vec![
            (2, 6, increment(0), Outcome::Done),
            (3, 7, increment(0), Outcome::Done),
        ])));
        assert!(!is_linearizable(&after_creation(vec![
            (2, 6, delete(), Outcome::Done),
            (3, 7, delete(), Outcome::Done),
        ])));
        let other = User { id: "2".into(), ..user("a", 0) };
        assert!(!is_linearizable(&history(vec![
            (0, 6, create("a"), Outcome::User(user("a", 0))),
            (1, 7, create("a"), Outcome::User(other)),
        ])));
    }

    #[test]
    fn rejects_a_false_not_found() {
        for call in [
            get(),
            Call::GetByEmailAddress { email_address: "a".to_owned() },
            increment(0),
            set_password(1, 0),
            set_email_address("b", 0),
            delete(),
        ] {
            let history = after_creation(vec![(2, 3, call, Outcome::NotFound)]);
            assert!(!is_linearizable(&history), "{history:?}");
        }
    }

    #[test]
    fn rejects_what_nobody_wrote() {
        for user in [
            user("b", 0),
            user("a", 1),
            User { id: "2".into(), ..user("a", 0) },
            User { disabled_counter: 1, ..user("a", 0) },
        ] {
            let history = after_creation(vec![(2, 3, get(), Outcome::User(user))]);
            assert!(!is_linearizable(&history), "{history:?}");
        }
        // A false "already used".
        let history = after_creation(vec![(2, 3, set_email_address("b", 0), Outcome::AlreadyUsed)]);
        assert!(!is_linearizable(&history));
    }

    #[test]
    fn a_failure_shows_little_more_than_what_is_wrong() {
        let read = |begin: u64| (begin, begin + 1, get(), Outcome::User(user("a", 0)));
        let shrunk = shrunk(after_creation(vec![
            read(2),
            read(4),
            (6, 7, increment(0), Outcome::Done),
            read(8),
            read(10),
            (12, 13, set_password(1, 0), Outcome::Done),
            (14, 15, delete(), Outcome::Done),
        ]));
        let begins: Vec<u128> =
            shrunk.iter().map(|operation| operation.invoked.as_millis()).collect();
        assert_eq!(begins, [0, 6, 8]);
    }
}
