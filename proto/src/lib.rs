//! The messages that TiKV and PD speak, and the table of their RPCs.
//!
//! One module per protobuf package, generated from the `.proto` files of this crate: a
//! wire-compatible subset of the schema, in its spelling, of what a client needs. There is no
//! service code and no I/O here. [`rpc`] says which calls exist, what they take and answer, and
//! which of them may travel in a `BatchCommands` stream.
//!
//! # Shapes
//!
//! - Every `bytes` field is a [`bytes::Bytes`]: decoded from a `Bytes`, it is a slice of the
//!   received frame and copies nothing.
//! - In `kvrpcpb`, `errorpb`, `pdpb`, `coprocessor` and `tikvpb` a singular sub-message is
//!   `Option<Box<_>>`, so that an answer without errors or details is a few words long. The
//!   exceptions are the small and the ever-present ones: epochs, peers, key ranges, timestamps,
//!   PD headers, the region or store that PD was asked for, and the time and scan details within
//!   execution details. The generator holds that list.
//! - Elsewhere, in lists, in maps and in oneofs, sub-messages are inline.
//! - Unknown fields are skipped, and are not kept.
//!
//! ```
//! use anatase_proto::{kvrpcpb, prost::Message};
//! use bytes::Bytes;
//!
//! let request = kvrpcpb::RawGetRequest { key: Bytes::from_static(b"k"), ..Default::default() };
//! let wire = Bytes::from(request.encode_to_vec());
//! assert_eq!(kvrpcpb::RawGetRequest::decode(wire)?, request);
//! # Ok::<(), prost::DecodeError>(())
//! ```

#![forbid(unsafe_code)]

pub use prost;

pub mod rpc;

/// A module per package. `include!` rather than `#[path]`, so that rustfmt leaves the generator's
/// output alone.
macro_rules! packages {
    ($($(#[$doc:meta])* $module:ident = $file:literal;)*) => {$(
        $(#[$doc])*
        #[allow(
            missing_docs,
            unreachable_pub,
            clippy::all,
            rustdoc::all,
        )]
        pub mod $module {
            include!(concat!("generated/", $file));
        }
    )*};
}

packages! {
    /// Identities of API v3, present so that they are recognised and refused.
    apipb = "apipb.rs";
    /// Pushed-down computation; its payload is opaque here.
    coprocessor = "coprocessor.rs";
    /// One edge of the wait-for graph.
    deadlock = "deadlock.rs";
    /// The one debug call that a client offers.
    debugpb = "debugpb.rs";
    /// Region errors.
    errorpb = "errorpb.rs";
    /// The standard gRPC health check (package `grpc.health.v1`).
    health = "grpc.health.v1.rs";
    /// Keyspaces.
    keyspacepb = "keyspacepb.rs";
    /// Requests and responses of transactions and of the raw API.
    kvrpcpb = "kvrpcpb.rs";
    /// PD's metadata store.
    meta_storagepb = "meta_storagepb.rs";
    /// Regions, peers and stores.
    metapb = "metapb.rs";
    /// Massively parallel processing, answered by TiFlash only.
    mpp = "mpp.rs";
    /// The placement driver.
    pdpb = "pdpb.rs";
    /// Resource groups and their token buckets.
    resource_manager = "resource_manager.rs";
    /// The `BatchCommands` stream.
    tikvpb = "tikvpb.rs";
    /// Parents of a trace.
    tracepb = "tracepb.rs";
    /// The timestamp service when it runs apart from PD.
    tsopb = "tsopb.rs";
}
