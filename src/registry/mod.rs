//! Publishing: from an image on the engine to a tag at a registry.
//!
//! ```text
//! publisher         may we push? → borrow the local name → push, watched → read the tag back → give the name back
//! borrowed          the engine's local name of a destination, for the time of one push
//! progress          what the engine's words tell of a push
//! client            the few questions that are asked of a registry directly (OCI distribution specification)
//! challenge         what a registry wants to be asked with (RFC 9110 §11, Docker's token authentication)
//! endpoint          where a registry's host name leads, and which ones are spoken to without TLS verification
//! host_credentials  the host's own `docker login`, for one registry
//! ```

mod borrowed;
mod challenge;
mod client;
mod endpoint;
pub mod host_credentials;
mod progress;
mod publisher;
mod refusal;

pub use client::{Manifest, Refusal, RegistryClient, RemoteDelete, Timeouts};
pub use publisher::{Publisher, PushPolicy, Settled};
