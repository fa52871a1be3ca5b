//! Who did what to which object, from where, when, with which proof: appended, never changed, each entry bound to all before it.
//!
//! An entry holds the SHA-256 of the one before and of itself, so that one that is changed, moved or taken out breaks
//! the chain ([`verify`]). One task of the process appends, all that waits at once; other processes of the same store
//! are met by comparing the last number.
//!
//! The end of the chain is kept beside it, sealed ([`head`]). Whoever appends first looks whether the chain still has that end, and
//! writes down when it has not ([`CUT`]), so that going on covers nothing up.

pub mod head;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot};

use crate::domain::{Proof, Timestamp};
use crate::error::Result;
use crate::store::{Store, StoreError};
use crate::vault::Vault;
pub use head::{Head, Kept};

/// Most entries that are appended in one commit, and that wait.
const BATCH: usize = 256;
const WAITING: usize = 8192;
/// How often an append is tried when other processes append too.
const TRIES: usize = 50;
/// The action of an entry that the service itself appends when the chain is not the one whose head it has kept.
pub const CUT: &str = "audit.cut";

/// Something that was done, or tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deed {
    pub at: Timestamp,
    /// The account; absent for a log-in that failed before it was known.
    pub actor: Option<String>,
    /// How the account has shown that it is the one.
    pub proof: Option<Proof>,
    /// Where it came from.
    pub address: String,
    /// `build.submit`, `user.change` …
    pub action: String,
    /// The object's path below `/api/v1/`.
    pub object: String,
    /// The answer's HTTP status.
    pub status: u16,
    pub request_id: String,
}

/// A deed with its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub seq: u64,
    #[serde(flatten)]
    pub deed: Deed,
    /// The hash of the entry before; 64 zeros for the first.
    pub prev: String,
    /// SHA-256 of `prev` and this entry, in hexadecimal.
    pub hash: String,
}

impl Entry {
    fn after(last: Option<&Self>, deed: Deed) -> Self {
        let (seq, prev) = last.map_or((1, "0".repeat(64)), |last| (last.seq + 1, last.hash.clone()));
        let mut entry = Self { seq, deed, prev, hash: String::new() };
        entry.hash = entry.computed();
        entry
    }

    /// What its hash must be.
    fn computed(&self) -> String {
        #[derive(Serialize)]
        struct Hashed<'a> {
            seq: u64,
            deed: &'a Deed,
        }
        let body = serde_json::to_vec(&Hashed { seq: self.seq, deed: &self.deed }).expect("serialises, because it is plain text");
        hex::encode(Sha256::new_with_prefix(self.prev.as_bytes()).chain_update(body).finalize())
    }
}

/// Where a chain is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {seq}: {why}")]
pub struct Broken {
    pub seq: u64,
    pub why: &'static str,
}

/// Checks that `entry` follows `last` untouched.
///
/// # Errors
/// [`Broken`], naming the first entry that does not fit.
pub fn verify(last: Option<&Entry>, entry: &Entry) -> Result<(), Broken> {
    let (seq, prev) = last.map_or_else(|| (1, "0".repeat(64)), |last| (last.seq + 1, last.hash.clone()));
    let broken = |why| Err(Broken { seq: entry.seq, why });
    if entry.seq != seq {
        return broken("is not the next one: an entry was taken out or put in");
    }
    if entry.prev != prev {
        return broken("does not name the hash of the entry before");
    }
    if entry.hash != entry.computed() {
        return broken("was changed: its hash does not fit");
    }
    if entry.deed.action == CUT {
        return broken("says that the service found the end before it cut off or changed");
    }
    Ok(())
}

/// A deed, or only somebody who wants to know that all before was written.
type Waiting = (Option<Deed>, Option<oneshot::Sender<()>>);

/// Takes deeds in. Clones share the task that appends; it ends with the last of them.
#[derive(Clone)]
pub struct Audit {
    sender: mpsc::Sender<Waiting>,
    store: Store,
    vault: Arc<Vault>,
}

impl Audit {
    /// Needs a Tokio runtime.
    #[must_use]
    pub fn start(store: Store, vault: Arc<Vault>) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(Appender { store: store.clone(), vault: Arc::clone(&vault), last: None }.run(receiver));
        Self { sender, store, vault }
    }

    /// Waits until the deed is durably written. When the store cannot take it, the service's own log has it.
    pub async fn record(&self, deed: Deed) {
        self.send(Some(deed)).await;
    }

    /// Takes the deed and answers before it is written, which is a moment later: for what leaves a durable record of its own. A crash in
    /// that moment loses the entry.
    pub async fn note(&self, deed: Deed) {
        // An appender that ended has said so in the service's own log.
        let _ = self.sender.send((Some(deed), None)).await;
    }

    /// Waits until everything taken so far is written.
    pub async fn flush(&self) {
        self.send(None).await;
    }

    async fn send(&self, deed: Option<Deed>) {
        let (written, wait) = oneshot::channel();
        if self.sender.send((deed, Some(written))).await.is_ok() {
            // An appender that ended has written, or logged, what it had.
            let _ = wait.await;
        }
    }

    /// Entries, newest first, below `before`; all that this process has taken in is among them.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn read(&self, before: Option<u64>, limit: usize) -> Result<Vec<Entry>> {
        self.flush().await;
        let entries = self.store.audit(before, limit).await?;
        Ok(entries.into_iter().map(|(seq, json)| decode(seq, &json)).collect::<Result<_, StoreError>>()?)
    }

    /// The head of the chain as it is kept, when all that this process has taken in is written.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn head(&self) -> Result<Kept> {
        self.flush().await;
        Ok(Kept::read(&self.store, &self.vault).await?)
    }
}

/// A row under another number than its own is shown with that number, so that the chain shows the break.
fn decode(seq: u64, json: &str) -> Result<Entry, StoreError> {
    let entry: Entry =
        serde_json::from_str(json).map_err(|e| StoreError::Internal(format!("entry {seq} of the audit does not parse: {e}")))?;
    Ok(Entry { seq, ..entry })
}

struct Appender {
    store: Store,
    vault: Arc<Vault>,
    last: Option<Entry>,
}

impl Appender {
    async fn run(mut self, mut receiver: mpsc::Receiver<Waiting>) {
        let mut waiting = Vec::with_capacity(BATCH);
        while receiver.recv_many(&mut waiting, BATCH).await > 0 {
            let (deeds, answers): (Vec<_>, Vec<_>) = waiting.drain(..).unzip();
            let deeds: Vec<Deed> = deeds.into_iter().flatten().collect();
            if let Err(error) = self.append(&deeds).await {
                self.last = None;
                for deed in &deeds {
                    let deed = serde_json::to_string(deed).expect("serialises, because it is plain text");
                    tracing::error!(%error, deed, "the audit could not be written");
                }
            }
            for answer in answers.into_iter().flatten() {
                // Whoever did it may have gone away.
                let _ = answer.send(());
            }
        }
    }

    async fn append(&mut self, deeds: &[Deed]) -> Result<(), StoreError> {
        if deeds.is_empty() {
            return Ok(());
        }
        for attempt in 0..TRIES {
            let mut cut = None;
            if self.last.is_none() {
                cut = head::fault(&self.store, &self.vault).await?.map(found_cut);
                let newest = self.store.audit(None, 1).await?;
                self.last = newest.first().map(|(seq, json)| decode(*seq, json)).transpose()?;
            }
            let mut entries: Vec<Entry> = Vec::with_capacity(deeds.len() + 1);
            for deed in cut.iter().chain(deeds) {
                let entry = Entry::after(entries.last().or(self.last.as_ref()), deed.clone());
                entries.push(entry);
            }
            let bodies: Vec<String> =
                entries.iter().map(|entry| serde_json::to_string(entry).expect("serialises, because it is plain text")).collect();
            let after = self.last.as_ref().map_or(0, |last| last.seq);
            let last = entries.pop();
            let head = last.as_ref().map(|last| Head::of(last).seal(&self.vault)).unwrap_or_default();
            if self.store.audit_append(after, &bodies, &head).await? {
                self.last = last;
                return Ok(());
            }
            // Another process was faster.
            self.last = None;
            tokio::time::sleep(Duration::from_millis(u64::from(rand::random::<u8>() % 8) * (attempt as u64 + 1))).await;
        }
        Err(StoreError::Unavailable("too many processes append to the audit at once".into()))
    }
}

fn found_cut(why: String) -> Deed {
    tracing::error!(why, "the audit was cut off or changed");
    Deed {
        at: Timestamp::now(),
        actor: None,
        proof: None,
        address: String::new(),
        action: CUT.into(),
        object: why,
        status: 500,
        request_id: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deed(action: &str) -> Deed {
        Deed {
            at: Timestamp::from_millis(5),
            actor: Some("ada".into()),
            proof: Some(Proof::Session),
            address: "127.0.0.1".into(),
            action: action.into(),
            object: "builds/1".into(),
            status: 202,
            request_id: "r".into(),
        }
    }

    fn broken(chain: &[Entry]) -> Option<u64> {
        let mut last = None;
        for entry in chain {
            if let Err(broken) = verify(last, entry) {
                return Some(broken.seq);
            }
            last = Some(entry);
        }
        None
    }

    #[test]
    fn what_is_changed_moved_or_taken_out_breaks_the_chain() {
        let mut chain: Vec<Entry> = Vec::new();
        for action in ["a", "b", "c", "d"] {
            let entry = Entry::after(chain.last(), deed(action));
            chain.push(entry);
        }
        assert_eq!(broken(&chain), None);
        let read: Vec<Entry> = chain
            .iter()
            .map(|entry| serde_json::from_str(&serde_json::to_string(entry).expect("serialises")).expect("parses"))
            .collect();
        assert_eq!(broken(&read), None, "also as it is stored");

        let mut changed = chain.clone();
        changed[1].deed.actor = Some("bob".into());
        assert_eq!(broken(&changed), Some(2));
        changed[1].hash = changed[1].computed();
        assert_eq!(broken(&changed), Some(3), "also with a hash made to fit");
        let mut less = chain.clone();
        less.remove(1);
        assert_eq!(broken(&less), Some(3));
        chain.swap(1, 2);
        assert!(broken(&chain).is_some());
    }
}
