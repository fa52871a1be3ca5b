use super::super::fault::{ContextFault, quoted};

/// What an archive may cost us (THREATS: context ≤ 1 GiB expanded and ≤ 100,000 entries, ratio ≤ 100).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Most bytes of all entries together, after decompression.
    pub expanded_bytes: u64,
    /// Most entries; a directory that is only named as a parent counts as one.
    pub entries: u64,
    /// How many times its stored size an archive may expand to.
    pub ratio: u64,
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self { expanded_bytes: 1 << 30, entries: 100_000, ratio: 100 }
    }
}

/// Small archives compress wonderfully and harm nobody: below this many bytes the ratio does not count.
const RATIO_COUNTS_FROM: u64 = 1 << 20;

/// Counts what an archive expands to, by the sizes it declares, before anything of that size is read.
pub(super) struct Meter {
    limits: ArchiveLimits,
    stored: u64,
    counted: u64,
}

impl Meter {
    pub(super) fn new(limits: &ArchiveLimits, stored: u64) -> Self {
        Self { limits: limits.clone(), stored, counted: 0 }
    }

    pub(super) fn count(&mut self, bytes: u64, name: &[u8]) -> Result<(), ContextFault> {
        self.counted = self.counted.saturating_add(bytes);
        let limits = &self.limits;
        if self.counted > limits.expanded_bytes {
            let (name, limit) = (quoted(name), limits.expanded_bytes);
            return Err(ContextFault::too_large(
                "expanded_too_large",
                format!("with the entry {name} the archive expands to more than the limit of {limit} bytes"),
            ));
        }
        if self.counted > RATIO_COUNTS_FROM && self.counted > self.stored.saturating_mul(limits.ratio) {
            let (name, ratio) = (quoted(name), limits.ratio);
            return Err(ContextFault::too_large(
                "compression_ratio",
                format!("with the entry {name} the archive expands to more than {ratio} times its size, which is the limit"),
            ));
        }
        Ok(())
    }

    /// Refuses a count of entries that is over the limit before they are read.
    pub(super) fn announce_entries(&self, entries: u64) -> Result<(), ContextFault> {
        if entries > self.limits.entries { Err(too_many_entries(self.limits.entries)) } else { Ok(()) }
    }
}

pub(in crate::context) fn too_many_entries(limit: u64) -> ContextFault {
    ContextFault::too_large("too_many_entries", format!("the archive has more than the limit of {limit} entries"))
}
