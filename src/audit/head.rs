//! The end of the chain, sealed with the vault's key and written in the same commit as the entries. A chain whose end was cut off no
//! longer has the entry that its head names; who has the store alone can neither write another head nor change this one.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::{Entry, decode};
use crate::store::{Store, StoreError};
use crate::vault::Vault;

/// What the head is sealed for.
const PURPOSE: &str = "dockwright/audit-head/v1";

/// The number and the hash of an entry, and with it of all before. Written as `SEQ:HASH`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub seq: u64,
    pub hash: String,
}

impl Head {
    pub(super) fn of(entry: &Entry) -> Self {
        Self { seq: entry.seq, hash: entry.hash.clone() }
    }

    pub(super) fn seal(&self, vault: &Vault) -> String {
        STANDARD.encode(vault.seal(PURPOSE, self.to_string().as_bytes()))
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl FromStr for Head {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (seq, hash) = text.split_once(':').ok_or("must be SEQ:HASH")?;
        let seq = seq.parse().ok().filter(|seq| *seq > 0).ok_or("SEQ must be a number from 1")?;
        if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err("HASH must be 64 hexadecimal digits in lower case");
        }
        Ok(Self { seq, hash: hash.to_owned() })
    }
}

/// What is found where the head is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// Nothing: rightly so only before the first entry.
    Nothing,
    /// Something that no key of this service has sealed.
    Forged,
    Head(Head),
}

impl Kept {
    pub(super) async fn read(store: &Store, vault: &Vault) -> Result<Self, StoreError> {
        Ok(store.audit_head().await?.map_or(Self::Nothing, |text| open(vault, &text).map_or(Self::Forged, Self::Head)))
    }
}

fn open(vault: &Vault, text: &str) -> Option<Head> {
    let plain = vault.open(PURPOSE, &STANDARD.decode(text).ok()?).ok()?;
    std::str::from_utf8(plain.expose_secret()).ok()?.parse().ok()
}

/// Why the chain in the store is not the one whose head is kept, if it is not.
pub(super) async fn fault(store: &Store, vault: &Vault) -> Result<Option<String>, StoreError> {
    // The head first: entries that come meanwhile only make the chain longer.
    match Kept::read(store, vault).await? {
        Kept::Head(head) => {
            let entry = store.audit(Some(head.seq.saturating_add(1)), 1).await?;
            let found = entry.first().map(|(seq, json)| decode(*seq, json)).transpose()?.map(|entry| Head::of(&entry));
            Ok((found.as_ref() != Some(&head)).then(|| format!("the kept head {head} is not in the chain")))
        }
        Kept::Forged => Ok(Some("the kept head is forged".into())),
        Kept::Nothing => {
            let begun = !store.audit(None, 1).await?.is_empty();
            // Another process may have begun the chain in between.
            let gone = begun && Kept::read(store, vault).await? == Kept::Nothing;
            Ok(gone.then(|| "no head is kept".into()))
        }
    }
}

/// Seals the head with the newest key, if it is sealed with another one.
///
/// # Errors
/// When the store cannot be asked.
pub async fn reseal(store: &Store, vault: &Vault) -> Result<bool, StoreError> {
    let Some(text) = store.audit_head().await? else { return Ok(false) };
    let current = STANDARD.decode(&text).is_ok_and(|sealed| vault.is_current(&sealed));
    match open(vault, &text).filter(|_| !current) {
        // Somebody who appended meanwhile has sealed it anew.
        Some(head) => store.audit_append(head.seq, &[], &head.seal(vault)).await,
        None => Ok(false),
    }
}
