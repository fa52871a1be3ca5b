//! Apps, runs and containers, with the real engine.

mod basics;
mod built;
mod faults;
mod history;
mod images;
mod lives;
mod many;
mod owners;
mod places;
mod quotas;
mod refused;
mod rights;
mod said;
mod streams;
