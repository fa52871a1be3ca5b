//! Accounts: everyone owns their own, and nobody else's.

mod matrix;
mod people;
mod replays;
mod sessions;
mod streams;
