//! A real gRPC store that keeps its callers waiting for as long as a test wants, and counts them.

use std::net::SocketAddr;

use faroe_sidecar::proto::User;
use serde_json::json;
use tokio::{sync::watch, time::timeout};
use tonic::{Status, async_trait};

use super::{
    answering::{self, Answering},
    process::{PATIENCE, Sidecar},
};

/// The ID of the user whose calls are held; all others are answered at once.
pub const HELD: &str = "held";

/// The ID of a user whose password hash is as large as no real one, 2 MiB.
const LARGE: &str = "large";

/// A read that the store holds.
pub fn held_read() -> String {
    json!({ "action": "get_user", "arguments": { "user_id": HELD } }).to_string()
}

/// A write that the store holds.
pub fn held_write() -> String {
    json!({ "action": "delete_user", "arguments": { "user_id": HELD } }).to_string()
}

/// A read that it answers at once.
pub fn free_read() -> String {
    json!({ "action": "get_user", "arguments": { "user_id": "free" } }).to_string()
}

/// A read that it answers at once, with 2.7 MiB of JSON.
pub fn large_answer_read() -> String {
    json!({ "action": "get_user", "arguments": { "user_id": LARGE } }).to_string()
}

/// A write that it answers at once.
pub fn free_write() -> String {
    json!({ "action": "delete_user", "arguments": { "user_id": "free" } }).to_string()
}

/// The calls of a store.
#[derive(Debug, Default, Clone, Copy)]
pub struct Calls {
    /// How many there are now.
    pub in_hand: usize,
    /// How many there were at once at the most.
    pub most: usize,
    /// How many there have been.
    pub total: usize,
}

pub struct HeldStore {
    pub address: SocketAddr,
    state: State,
}

/// What the store and the test both hold.
#[derive(Clone)]
struct State {
    held: watch::Sender<bool>,
    calls: watch::Sender<Calls>,
}

impl HeldStore {
    pub async fn start() -> Self {
        let state = State { held: watch::Sender::new(true), calls: watch::Sender::default() };
        Self { address: answering::serve(state.clone()).await, state }
    }

    /// A sidecar in front of it, ready, that waits for it as long as it takes.
    pub async fn sidecar(&self, options: &[&str]) -> Sidecar {
        let options = [&["--store-timeout", "120s"], options].concat();
        Sidecar::ready(&format!("grpc://{}", self.address), &options)
    }

    pub fn calls(&self) -> Calls {
        *self.state.calls.borrow()
    }

    /// Waits until so many calls are in hand.
    pub async fn wait_for_calls_in_hand(&self, number: usize) {
        self.wait_for_calls(|calls| calls.in_hand == number).await;
    }

    /// Waits until the calls are as they are to be.
    pub async fn wait_for_calls(&self, expected: impl Fn(&Calls) -> bool) {
        let mut calls = self.state.calls.subscribe();
        let come = timeout(PATIENCE, calls.wait_for(expected)).await;
        assert!(come.is_ok(), "the calls never are as expected: {:?}", self.calls());
    }

    /// Answers what is held, and from now on everything at once.
    pub fn release(&self) {
        self.state.held.send_replace(false);
    }
}

#[async_trait]
impl Answering for State {
    async fn answer(&self, _: &'static str, id: &str) -> Result<Option<User>, Status> {
        let call = Call::begin(&self.calls);
        if id == HELD {
            let released = self.held.subscribe().wait_for(|held| !held).await.is_ok();
            assert!(released, "the store holds its own channel");
        }
        drop(call);
        let size = if id == LARGE { 2 << 20 } else { 0 };
        let password_hash = vec![0; size].into();
        Ok(Some(User { id: id.to_owned(), password_hash, ..User::default() }))
    }
}

/// A call, which ends with its answer or when the caller gives it up.
struct Call(watch::Sender<Calls>);

impl Call {
    fn begin(calls: &watch::Sender<Calls>) -> Self {
        calls.send_modify(|calls| {
            calls.in_hand += 1;
            calls.total += 1;
            calls.most = calls.most.max(calls.in_hand);
        });
        Self(calls.clone())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.send_modify(|calls| calls.in_hand -= 1);
    }
}
