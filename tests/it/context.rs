//! Uploads: what is refused, what passes, and what the engine gets of it.

mod archives;
mod dockerfiles;
mod hostile;
pub mod make;
mod storage;
mod streams;
