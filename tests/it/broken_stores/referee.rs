//! Who meets whom, and who comes first: a race that luck decides would show a mistake today and
//! hide it tomorrow.
//!
//! The test says which case runs; the store asks here before it does what depends on the order.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

/// How long a call waits at the most for one that is sure to come. If it does not, the store goes
/// on, and does not fail as it should.
const PATIENCE: Duration = Duration::from_secs(30);

/// In the email addresses that several callers want at once.
const WANTED: &str = "-wanted@";

#[derive(Default)]
struct State {
    case: &'static str,
    /// How often something has happened in this case.
    times: HashMap<String, usize>,
    /// What callers have raced for in this case, in order.
    races: Vec<String>,
}

#[derive(Clone, Default)]
pub struct Referee(Arc<watch::Sender<State>>);

/// A call, as far as it matters in a race.
pub enum Call<'a> {
    Create { email_address: &'a str },
    Update { id: &'a str, email_address: Option<&'a str> },
    Delete { id: &'a str },
}

impl Referee {
    /// From now on this case runs.
    pub fn begin(&self, case: &'static str) {
        self.0.send_replace(State { case, ..State::default() });
    }

    pub fn is_case(&self, case: &str) -> bool {
        self.0.borrow().case == case
    }

    /// What a call races for, if it does: the calls that others make for it come at the same time.
    pub fn race(&self, call: &Call<'_>) -> Option<String> {
        let case = self.0.borrow().case;
        let name = case.strip_prefix("race.")?;
        match (name, call) {
            ("creates-of-different-addresses", Call::Create { .. }) => Some(name.to_owned()),
            (
                "creates-of-one-address"
                | "two-users-one-address"
                | "create-and-update-for-one-address",
                Call::Create { email_address }
                | Call::Update { email_address: Some(email_address), .. },
            ) => email_address.contains(WANTED).then(|| (*email_address).to_owned()),
            (
                "updates-of-one-email-address"
                | "updates-of-one-password-hash"
                | "increments-of-one-sessions-counter"
                | "different-updates-of-one-user",
                Call::Update { id, .. },
            )
            | ("deletes-of-one-user", Call::Delete { id }) => Some((*id).to_owned()),
            (_, Call::Update { id, .. } | Call::Delete { id })
                if name.starts_with("delete-and-") =>
            {
                Some((*id).to_owned())
            }
            _ => None,
        }
    }

    /// Lets the calls of a race through in an order: those of the first connection last, in the
    /// next round first, and so on. So each of two has been first.
    pub async fn turn(&self, race: Option<String>, first_connection: bool) -> Option<Turn> {
        let race = race?;
        let mut first_comes_last = true;
        self.0.send_modify(|state| {
            let round = state.races.iter().position(|known| *known == race).unwrap_or_else(|| {
                state.races.push(race.clone());
                state.races.len() - 1
            });
            first_comes_last = round % 2 == 0;
        });
        let over = |first: bool| format!("over {first} {race}");
        if first_connection == first_comes_last {
            self.wait_for(&over(!first_connection), 1).await;
        }
        Some(Turn { referee: self.clone(), over: over(first_connection) })
    }

    /// Something has happened.
    pub fn happened(&self, what: &str) {
        self.0.send_modify(|state| *state.times.entry(what.to_owned()).or_default() += 1);
    }

    /// Waits until something has happened so often.
    pub async fn wait_for(&self, what: &str, times: usize) {
        let mut state = self.0.subscribe();
        let happened =
            state.wait_for(|state| state.times.get(what).is_some_and(|count| *count >= times));
        // After a wait in vain the case passes that should fail, which is how the test tells.
        let _ = timeout(PATIENCE, happened).await;
    }

    /// Waits until so many are here.
    pub async fn meet(&self, place: &str, callers: usize) {
        self.happened(place);
        self.wait_for(place, callers).await;
    }

    /// Whether a case runs in which more calls come at once than some stores can take.
    pub fn is_crowd(&self) -> bool {
        let case = self.0.borrow().case;
        case.starts_with("race.") && case.contains("s-of-") && !case.contains("different-updates")
    }

    /// Waits for another caller who wants the same email address, if there is one.
    pub async fn meet_for(&self, address: &str) {
        if address.contains(WANTED) {
            self.meet(address, 2).await;
        }
    }

    /// Waits for other updates of the same user, if there are any.
    pub async fn meet_for_update(&self, id: &str) {
        let case = self.0.borrow().case;
        match case {
            "race.different-updates-of-one-user" => self.meet(id, 3).await,
            _ if self.is_crowd() => self.meet(id, 2).await,
            _ => {}
        }
    }

    /// Waits for another deletion of the same user, if there is one.
    pub async fn meet_for_delete(&self, id: &str) {
        if self.is_case("race.deletes-of-one-user") {
            self.meet(id, 2).await;
        }
    }

    /// Lets the deletion of a user go before, if there is one.
    pub async fn let_delete(&self, id: &str) {
        if self.is_delete_and_update() {
            self.happened(&format!("looked {id}"));
            self.wait_for(&format!("deleted {id}"), 1).await;
        }
    }

    /// Waits for an update of the same user, if there is one, to have had its look.
    pub async fn wait_for_update(&self, id: &str) {
        if self.is_delete_and_update() {
            self.wait_for(&format!("looked {id}"), 1).await;
        }
    }

    fn is_delete_and_update(&self) -> bool {
        self.0.borrow().case.starts_with("race.delete-and-")
    }
}

/// A call whose turn it is, until it is dropped.
pub struct Turn {
    referee: Referee,
    over: String,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.referee.happened(&self.over);
    }
}
