//! What happens when a part is away, hangs, or is told to stop.

mod parts;
mod registries;
mod stages;
