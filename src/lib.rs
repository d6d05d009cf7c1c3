//! A user server for Faroe.
pub mod action;
pub mod authz;
pub mod tls;
pub mod proto;
pub mod store;
