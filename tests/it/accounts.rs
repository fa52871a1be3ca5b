//! Accounts: everyone owns their own, and nobody else's.

mod audit;
pub mod canaries;
mod guessing;
mod keys;
mod matrix;
mod origins;
pub mod people;
mod recorder;
mod registries;
mod replays;
mod routes;
mod sessions;
mod streams;
mod tokens;
mod users;
