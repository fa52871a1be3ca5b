//! Private keys that are forwarded to builds: read from OpenSSH's form, and served as an ssh agent that lives in memory.
//!
//! The form is taken apart here, because it is but lengths and bytes; what is computed with keys aws-lc-rs does.

mod agent;
mod key;
#[cfg(test)]
mod tests;
mod wire;

pub use agent::{Agent, Conversation, TooLong};
pub use key::{KeyFault, SigningKey};
