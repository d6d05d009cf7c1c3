//! A user server for [Faroe](https://faroe.dev): action invocations over mutual TLS, answered by
//! any gRPC `UserStore` or by the bundled SQL store.
//!
//! ```text
//!  Faroe ──HTTPS──▶ server ─▶ endpoint ─▶ action ─▶ UserStore ─┬─▶ store::remote ──gRPC──▶ any language
//!  server           (TLS,     (HTTP       (JSON ↔   (the trait └─▶ store::sql ──▶ SQLite, PostgreSQL,
//!                    drain)    rules)      typed)    of the .proto)               MySQL, MariaDB
//! ```
//!
//! Data goes one way through it and comes back the same way; each stage knows the next one only.
//!
//! | module | what it holds |
//! |---|---|
//! | [`action`] | an action invocation, from its JSON to a call of the store and back; no HTTP |
//! | [`endpoint`] | who may call, path, method, size, time, problem details |
//! | [`server`], [`drain`] | accepting, handshakes, serving, stopping |
//! | [`tls`], [`authz`] | PEM files to rustls configurations; certificates to names; who may call |
//! | [`store`] | a URL to a store: [`store::sql`] bundled, [`store::remote`] over gRPC |
//! | [`served`] | the bundled store as a gRPC server |
//! | [`conformance`] | whether any gRPC store keeps the contract |
//! | [`proto`] | the code generated from the contract |
//! | [`admin`], [`metrics`], [`readiness`], [`telemetry`], [`trace`], [`otlp`] | what operators see |
//! | [`systemd`] | what a service manager is told |
//! | [`app`] | configuration to bound listeners to serving to the end |
//! | [`cli`], [`dev`] | the commands |
//!
//! Programs with an HTTP server of their own use [`action::ActionServer`] alone.

mod accept;
pub mod action;
pub mod admin;
pub mod app;
pub mod authz;
pub mod cli;
pub mod conformance;
mod descriptors;
pub mod dev;
pub mod drain;
pub mod endpoint;
pub mod metrics;
pub mod otlp;
pub mod proto;
pub mod readiness;
pub mod served;
pub mod server;
pub mod store;
mod stream;
pub mod systemd;
pub mod telemetry;
pub mod tls;
pub mod trace;
mod watch;
