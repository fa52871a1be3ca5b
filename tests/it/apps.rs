//! Apps, runs and containers, with the real engine.

mod basics;
mod history;
mod places;
