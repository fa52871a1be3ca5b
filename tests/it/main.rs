//! Integration tests with the real engine, registries and Redis, which `scripts/services up` starts.

#![allow(clippy::disallowed_types, reason = "tests ask engine and stores directly what is true")]
#![allow(clippy::cast_possible_truncation, reason = "tests make small, known numbers")]

mod accounts;
mod apps;
mod bad_input;
mod builds;
mod cli;
mod context;
mod credentials;
mod engine;
mod faults;
mod fleet;
mod identity;
mod load;
mod options;
mod processes;
mod quota;
mod reading;
mod registry;
mod specs;
mod steps;
mod store_contract;
mod store_model;
mod support;
mod terminal;
mod uploads;
