//! Dockwright takes a Dockerfile or a build context over HTTP, builds it with a Docker Engine, publishes the image to a
//! registry, and tells the truth about every stage while it does so.
//!
//! The folders follow a build's way: [`http`] → [`builds`] → [`context`] and [`store`] → [`worker`] → [`engine`] and
//! [`registry`]; [`janitor`] cleans up behind, [`wiring`] puts the parts together. `docs/architecture.md` is the map.

pub mod accounts;
pub mod apps;
pub mod audit;
pub mod auth;
pub mod builds;
pub mod cli;
pub mod client;
pub mod config;
pub mod context;
pub mod domain;
pub mod egress;
pub mod engine;
pub mod error;
pub mod fleet;
pub mod hooks;
pub mod http;
pub mod janitor;
pub mod registry;
pub mod shutdown;
pub mod store;
pub mod telemetry;
pub mod vault;
pub mod wiring;
pub mod worker;
