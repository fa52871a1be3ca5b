//! Apps, runs and containers, with the real engine.

mod basics;
mod built;
mod history;
mod images;
mod many;
mod owners;
mod places;
mod quotas;
mod refused;
mod said;
mod streams;
