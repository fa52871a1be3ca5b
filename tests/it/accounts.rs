//! Accounts: everyone owns their own, and nobody else's.

mod canaries;
mod matrix;
mod origins;
mod people;
mod recorder;
mod registries;
mod replays;
mod sessions;
mod streams;
