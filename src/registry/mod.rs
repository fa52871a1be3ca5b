//! Publishing: from an image on the engine to a tag at a registry.
//!
//! ```text
//! publisher         may we push? → borrow the local name → push, watched → read the tag back → give the name back
//! borrowed          the engine's local name of a destination, for the time of one push
//! progress          what the engine's words tell of a push
//! client            the few questions that are asked of a registry directly (OCI distribution specification)
//! admission         what a registry asked for, and what the engine is therefore given
//! bases             what the images that a Dockerfile names stand for now
//! allowance         how many pulls a registry still allows
//! put_back          a tag is made to name again what it named before
//! exact             whether a registry shows an image that is named by its digest
//! challenge         what a registry wants to be asked with (RFC 9110 §11, Docker's token authentication)
//! token             the token of a registry that wants one (the same)
//! endpoint          where a registry's host name leads, and which ones are spoken to without TLS verification
//! reach             where registries may be
//! host_credentials  the host's own `docker login`, for one registry
//! ```

mod admission;
mod allowance;
mod bases;
mod borrowed;
mod challenge;
mod client;
mod endpoint;
mod exact;
pub mod host_credentials;
mod progress;
mod publisher;
mod put_back;
mod reach;
mod refusal;
mod token;

pub use admission::Admission;
pub use bases::bases;
pub use client::{Manifest, Refusal, RegistryClient, RemoteDelete, Timeouts};
pub use progress::Progress;
pub use publisher::{Publisher, PushPolicy, Settled};
