//! Uploads: received, checked, kept on disk, and handed to the engine as a stream.
//!
//! An upload is never unpacked on our disk. It is stored as it came ([`storage`]), its entries are checked by reading it
//! once ([`archive`]), and a build reads it again as a stream of tar entries with `.dockerignore` applied ([`stream`], [`ignore`]).
//! An upload may also come in pieces, of which those that are here already need not come again ([`blobs`]).
//! A git source is fetched and becomes such an upload ([`git`]).
//! [`dockerfile`] tells before all that whether an engine could read the Dockerfile.

pub mod archive;
pub mod blobs;
pub mod dockerfile;
mod fault;
pub mod git;
pub mod ignore;
pub mod storage;
pub mod stream;

pub use fault::{ContextError, ContextFault};
