//! Contexts in pieces: manifests, and blobs that are sent once.

mod built;
mod changes;
mod collecting;
mod command;
mod digests;
mod hostile;
mod large;
mod owners;
mod page;
pub mod pieces;
mod room;
