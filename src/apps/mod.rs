//! What can be done with apps, runs, containers, volumes, networks and images: the rules of who may do what, and with how much.

pub mod spec;
