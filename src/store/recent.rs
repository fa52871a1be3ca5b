//! The builds that were lately read or changed, in memory, bounded by the length of their records.

use std::collections::HashMap;
use std::sync::Arc;

use super::Stored;
use crate::domain::BuildId;

/// JSON in one generation. There are two, and a record takes about twice its JSON in memory.
const GENERATION_BYTES: usize = 2 << 20;
/// What an entry takes beside its record.
const ENTRY_BYTES: usize = 128;

/// The right to enter a build that is being read from the file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

pub(super) enum Found {
    Here(Arc<Stored>),
    Absent(Ticket),
}

/// Two generations: when the young one is full, it becomes the old one, and what nobody asked for since the last time goes.
#[derive(Default)]
pub(super) struct Recent {
    young: HashMap<BuildId, Entry>,
    young_bytes: usize,
    old: HashMap<BuildId, Entry>,
    tickets: u64,
}

enum Entry {
    Here {
        stored: Arc<Stored>,
        weight: usize,
    },
    /// Somebody reads it from the file.
    Coming(Ticket),
}

impl Recent {
    pub(super) fn find(&mut self, id: BuildId) -> Found {
        if let Some(stored) = self.peek(id) {
            return Found::Here(stored);
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        // Of several that read the same build the last one enters it.
        self.put(id, Entry::Coming(ticket));
        Found::Absent(ticket)
    }

    /// A build that may have changed since.
    pub(super) fn peek(&mut self, id: BuildId) -> Option<Arc<Stored>> {
        if let Some(Entry::Here { stored, .. }) = self.young.get(&id) {
            return Some(Arc::clone(stored));
        }
        let Some(Entry::Here { stored, weight }) = self.old.remove(&id) else { return None };
        self.put(id, Entry::Here { stored: Arc::clone(&stored), weight });
        Some(stored)
    }

    /// Enters what was read with this ticket, if it is still valid; `None`: there is no such build.
    pub(super) fn fill(&mut self, id: BuildId, ticket: Ticket, read: Option<(Arc<Stored>, usize)>) {
        let valid = [&self.young, &self.old].iter().any(|g| matches!(g.get(&id), Some(Entry::Coming(own)) if *own == ticket));
        if !valid {
            return;
        }
        self.remove(id);
        if let Some((stored, weight)) = read {
            self.put(id, Entry::Here { stored, weight });
        }
    }

    pub(super) fn save(&mut self, stored: Arc<Stored>, weight: usize) {
        let id = stored.record.id;
        self.remove(id);
        self.put(id, Entry::Here { stored, weight });
    }

    pub(super) fn logged(&mut self, id: BuildId, last_seq: u64) {
        let here = [&mut self.young, &mut self.old].into_iter().find_map(|generation| match generation.get_mut(&id) {
            Some(Entry::Here { stored, .. }) => Some(stored),
            _ => None,
        });
        match here {
            Some(stored) => Arc::make_mut(stored).last_seq = last_seq,
            // Whoever reads it now may have come before this.
            None => self.remove(id),
        }
    }

    /// Out of both generations, tickets included.
    pub(super) fn remove(&mut self, id: BuildId) {
        if let Some(entry) = self.young.remove(&id) {
            self.young_bytes -= entry.bytes();
        }
        self.old.remove(&id);
    }

    fn put(&mut self, id: BuildId, entry: Entry) {
        self.young_bytes += entry.bytes();
        if let Some(former) = self.young.insert(id, entry) {
            self.young_bytes -= former.bytes();
        }
        if self.young_bytes > GENERATION_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        ENTRY_BYTES + if let Self::Here { weight, .. } = self { *weight } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{BuildRecord, Fence, Priority, Timestamp};

    fn stored(revision: u64) -> Arc<Stored> {
        let spec = serde_json::json!({
            "images": ["h:5000/a:1"], "dockerfile": "Dockerfile", "dockerfile_replaced": false, "build_args": {}, "labels": {},
            "target": null, "platform": null, "no_cache": false, "pull": false, "push": true, "network": "default",
            "memory_bytes": null, "milli_cpus": null, "timeout_ms": 1, "priority": Priority::default(), "username": null,
            "registry_host": null,
        });
        let context = serde_json::json!({"kind": "file", "bytes": 1, "files": 1, "sha256": ""});
        let record = BuildRecord::new(
            BuildId::new(),
            "ada".parse().expect("valid"),
            serde_json::from_value(spec).expect("a spec"),
            serde_json::from_value(context).expect("a context"),
            None,
            Timestamp::now(),
        );
        Arc::new(Stored { record, revision, last_seq: 1, fence: Fence(0), leased: false, order: 1 })
    }

    fn ticket(recent: &mut Recent, id: BuildId) -> Ticket {
        match recent.find(id) {
            Found::Absent(ticket) => ticket,
            Found::Here(_) => panic!("it must be absent"),
        }
    }

    #[test]
    fn what_was_read_before_a_change_is_not_entered_after_it() {
        let mut recent = Recent::default();
        let old = stored(1);
        let id = old.record.id;
        let new = Arc::new(Stored { revision: 2, ..Stored::clone(&old) });

        let before_a_change = ticket(&mut recent, id);
        recent.save(Arc::clone(&new), 1);
        recent.fill(id, before_a_change, Some((Arc::clone(&old), 1)));
        assert_eq!(recent.peek(id).map(|stored| stored.revision), Some(2));

        recent.remove(id);
        let before_a_line = ticket(&mut recent, id);
        recent.logged(id, 9);
        recent.fill(id, before_a_line, Some((Arc::clone(&old), 1)));
        assert!(recent.peek(id).is_none());

        let before_a_delete = ticket(&mut recent, id);
        recent.remove(id);
        recent.fill(id, before_a_delete, Some((old, 1)));
        assert!(recent.peek(id).is_none());

        let undisturbed = ticket(&mut recent, id);
        recent.fill(id, undisturbed, Some((new, 1)));
        recent.logged(id, 9);
        assert_eq!(recent.peek(id).map(|stored| stored.last_seq), Some(9));
    }

    #[test]
    fn memory_is_bounded_and_what_is_asked_for_stays() {
        let mut recent = Recent::default();
        let kept = stored(1);
        recent.save(Arc::clone(&kept), 1000);
        for _ in 0..10 * GENERATION_BYTES / (64 << 10) {
            recent.save(stored(1), 64 << 10);
            assert!(recent.peek(kept.record.id).is_some(), "asked for all the time");
        }
        let entries = recent.young.values().chain(recent.old.values());
        assert!(entries.map(Entry::bytes).sum::<usize>() <= 2 * GENERATION_BYTES + (65 << 10));
    }
}
