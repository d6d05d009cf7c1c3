//! The real program, started by the tests and talked to over real mutual TLS, with real databases
//! and real gRPC peers behind it.

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and nobody else calls it"
)]

mod harness;

mod actions;
mod attacks;
mod broken_stores;
mod busy_pools;
mod certificates;
mod clock;
mod concurrency;
mod conflicts;
mod conformance;
mod counters;
mod database_tls;
mod descriptors;
mod durability;
mod examples;
mod faroe;
mod faults;
mod grpc_tls;
mod interop;
mod limits;
mod linearizability;
mod migrations;
mod observing;
mod outages;
mod pod;
mod program;
mod properties;
mod reload;
mod responses;
mod shared_work;
mod sqlite_file;
mod stopping;
mod systemd;
mod telemetry;
mod wrong_requests;
