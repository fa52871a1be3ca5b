//! Contexts in pieces: manifests, and blobs that are sent once.

mod built;
mod collecting;
mod command;
mod digests;
mod hostile;
mod large;
mod owners;
mod pieces;
