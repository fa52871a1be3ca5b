//! Integration tests with the real engine, registries and Redis, which `scripts/services up` starts.

#![allow(clippy::cast_possible_truncation, reason = "the numbers of tests are small")]

mod bad_input;
mod builds;
mod context;
mod credentials;
mod engine;
mod faults;
mod identity;
mod load;
mod options;
mod processes;
mod reading;
mod registry;
mod store_contract;
mod store_model;
mod support;
