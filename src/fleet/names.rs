//! Names that people can read out.

use rand::seq::IndexedRandom;

const QUALITIES: [&str; 48] = [
    "able", "amber", "bold", "brave", "bright", "brisk", "calm", "clear", "clever", "cool", "cosy", "crisp", "dapper", "eager",
    "early", "fair", "fast", "fine", "fond", "free", "fresh", "gentle", "glad", "golden", "good", "grand", "happy", "keen",
    "kind", "lively", "lucky", "mellow", "merry", "mild", "neat", "nimble", "noble", "plucky", "proud", "quick", "quiet",
    "sharp", "sunny", "swift", "tidy", "warm", "wise", "witty",
];
const THINGS: [&str; 48] = [
    "anchor", "badger", "beacon", "birch", "brook", "buoy", "cedar", "cliff", "cloud", "comet", "coral", "crane", "delta",
    "dolphin", "ember", "falcon", "ferry", "fjord", "gull", "harbor", "heron", "island", "jetty", "keel", "lagoon", "lantern",
    "maple", "mast", "meadow", "oak", "otter", "pebble", "pier", "plover", "puffin", "quay", "reef", "river", "rudder", "sail",
    "seal", "shore", "spruce", "tern", "tide", "wharf", "willow", "wren",
];

/// A new name for a container: `plucky-heron-3fa29c1b`. The number makes it one of four thousand millions.
#[must_use]
pub fn container_name() -> String {
    let mut rng = rand::rng();
    let pick = |words: &[&'static str], rng: &mut rand::rngs::ThreadRng| words.choose(rng).copied().unwrap_or("one");
    let (quality, thing) = (pick(&QUALITIES, &mut rng), pick(&THINGS, &mut rng));
    format!("{quality}-{thing}-{:08x}", rand::random::<u32>())
}
