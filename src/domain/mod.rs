//! The vocabulary of the service: pure values and rules, no input or output.
//!
//! Everything else in the crate speaks in these types; `tests/architecture.rs` checks that this
//! folder depends on nothing of ours.

mod build;
mod credentials;
mod event;
mod id;
mod image;
pub mod limits;
pub mod quantity;
mod owner;
mod spec;
mod time;

pub use build::{
    AttemptStart, BuildError, BuildRecord, BuildState, BuilderKind, ContextInfo, ContextKind, Destination, DestinationState,
    ErrorKind, IllegalTransition, Lapse, LegacyUpload, MAX_CRASHES, Stage, StageName, StageState,
};
pub use credentials::{Credentials, REDACTED};
pub use event::{Event, EventBody, LogLine, LogStream};
pub use id::{BuildId, Digest, Fence, InvalidId, NodeId, WorkerId};
pub use image::{ImageRef, InvalidImageRef, LOCAL_HOST, local_tag};
pub use owner::{InvalidOwner, Owner, Role, Scope};
pub use spec::{BuildSpec, NetworkMode, Priority};
pub use time::Timestamp;
