//! The code generated from `proto/faroe/userstore/v1/user_store.proto`: the store contract.
//!
//! [`user_store_server::UserStore`] is also the port inside the program: the bundled store and the
//! client of a remote store both implement it. The text of the contract is [`USER_STORE`].

mod redacted;

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "generated from the .proto, whose comments are its documentation"
)]
mod generated {
    tonic::include_proto!("faroe.userstore.v1");
}

pub use generated::*;

/// The `.proto` file itself, as `faroe-sidecar proto` prints it.
pub const USER_STORE: &str = include_str!("../../proto/faroe/userstore/v1/user_store.proto");

/// The encoded `FileDescriptorSet` of the contract, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/user_store_descriptors.bin"));
