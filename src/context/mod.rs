//! Uploads: received, checked, kept on disk, and handed to the engine as a stream.
//!
//! An upload is never unpacked on our disk. It is stored as it came, its entries are checked by reading it once, and a build
//! reads it again as a stream of tar entries with `.dockerignore` applied.

pub mod archive;
pub mod dockerfile;
pub mod ignore;
pub mod storage;
