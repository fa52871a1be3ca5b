//! The containers of one node: known through one stream of events, and kept as their records say.
