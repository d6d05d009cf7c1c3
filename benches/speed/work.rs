//! The invocations of each action, on users that are there.

use std::sync::{
    Arc,
    atomic::{AtomicI32, AtomicU64, Ordering},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    slice::Work,
    users::{self, HASH, SALT},
    wire::Invocation,
};

pub const ACTIONS: [&str; 7] = [
    "get_user",
    "get_user_by_email_address",
    "create_user",
    "update_user_email_address",
    "update_user_password_hash",
    "increment_user_sessions_counter",
    "delete_user",
];

/// The connections that update at once at the most: each has a user of its own.
const CONNECTIONS: usize = 256;

/// The users from this number on are there to be deleted.
pub const DELETABLE: u64 = 1 << 41;

/// What is known of the users of one database, whoever serves it.
pub struct Population {
    /// How many there are, from number 0.
    pub users: u64,
    turn: AtomicU64,
    created: AtomicU64,
    deleted: AtomicU64,
    /// The counters of the users that are updated: email address, password hash, sessions.
    counters: [[AtomicI32; CONNECTIONS]; 3],
}

impl Population {
    pub fn new(users: u64) -> Arc<Self> {
        Arc::new(Self {
            users,
            turn: AtomicU64::new(0),
            created: AtomicU64::new(0),
            deleted: AtomicU64::new(DELETABLE),
            counters: [const { [const { AtomicI32::new(0) }; CONNECTIONS] }; 3],
        })
    }

    /// The invocations of an action.
    pub fn work(self: &Arc<Self>, action: &'static str) -> Work {
        let population = Arc::clone(self);
        Arc::new(move |connection| population.invocation(action, connection))
    }

    fn invocation(&self, action: &str, connection: usize) -> Invocation {
        let updated = || users::id(connection.try_into().unwrap());
        match action {
            "get_user" => {
                let id = users::id(self.any());
                invocation(action, json!({ "user_id": id }), Some(id))
            }
            "get_user_by_email_address" => {
                // The addresses of the first users are those that change.
                let changing = CONNECTIONS as u64;
                let address = users::email_address(changing + self.any() % (self.users - changing));
                invocation(action, json!({ "email_address": address }), Some(address))
            }
            "create_user" => {
                let number = self.created.fetch_add(1, Ordering::Relaxed);
                let address = format!("new-{number:012x}@example.com");
                let arguments = password(json!({ "email_address": address }));
                invocation(action, arguments, Some(address))
            }
            "update_user_email_address" => {
                let counter = self.next(0, connection);
                let arguments = json!({
                    "user_id": updated(),
                    "email_address": format!("moved-{connection}-{counter}@example.com"),
                    "user_email_address_counter": counter,
                });
                invocation(action, arguments, None)
            }
            "update_user_password_hash" => {
                let counter = self.next(1, connection);
                let arguments = password(json!({
                    "user_id": updated(),
                    "user_password_hash_counter": counter,
                }));
                invocation(action, arguments, None)
            }
            "increment_user_sessions_counter" => {
                let counter = self.next(2, connection);
                let arguments = json!({ "user_id": updated(), "user_sessions_counter": counter });
                invocation(action, arguments, None)
            }
            "delete_user" => {
                let id = users::id(self.deleted.fetch_add(1, Ordering::Relaxed));
                invocation(action, json!({ "user_id": id }), None)
            }
            _ => panic!("no action {action}"),
        }
    }

    /// Any user, the same ones in each run: `SplitMix64`.
    fn any(&self) -> u64 {
        let turn = self.turn.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (turn ^ (turn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % self.users
    }

    fn next(&self, counter: usize, connection: usize) -> i32 {
        self.counters[counter][connection].fetch_add(1, Ordering::Relaxed)
    }
}

/// The same for a server whose answer is always user 0.
pub fn answered_alike(work: Work) -> Work {
    Arc::new(move |connection| Invocation { user: Some(users::id(0)), ..work(connection) })
}

fn invocation(action: &str, arguments: Value, user: Option<String>) -> Invocation {
    Invocation { body: json!({ "action": action, "arguments": arguments }).to_string(), user }
}

fn password(mut arguments: Value) -> Value {
    arguments["password_hash"] = STANDARD.encode([0xa5; HASH]).into();
    arguments["password_hash_algorithm_id"] = users::ALGORITHM.into();
    arguments["password_salt"] = STANDARD.encode([0x5a; SALT]).into();
    arguments
}
