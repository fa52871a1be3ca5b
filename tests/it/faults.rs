//! What happens when a part is away, hangs, or is told to stop.

pub mod parts;
mod registries;
mod same_image;
pub mod soak;
mod stages;
