//! A folder in pieces: the service is told what it holds, and gets of it what it has not.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use bytes::Bytes;
use reqwest::Body;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use zstd::stream::write::Encoder;

use super::again::{Patience, again, heard};
use super::hashes::Hashes;
use super::listing::{Base, Listing};
use super::upload::{self, BLOCK, CHUNK, CHUNKS, Sent};
use crate::cli::context::{Local, Tree};
use crate::client::{Client, Declared, Refused};
use crate::context::archive::{Entry, EntryKind};
use crate::context::stream::TarWriter;

/// Fast enough for any network.
const LEVEL: i32 = 1;

/// A folder, and what names each of its pieces.
pub(super) struct Pieces {
    tree: Arc<Tree>,
    listing: Listing,
    /// What this service was told last of the folder.
    base: Base,
    blobs: Blobs,
}

impl Pieces {
    /// # Errors
    /// What cannot be read here.
    pub(super) async fn of(tree: &Arc<Tree>, service: &str) -> anyhow::Result<Self> {
        let (tree, service) = (Arc::clone(tree), service.to_owned());
        let listed = tokio::task::spawn_blocking(move || {
            let (listing, blobs) = list(&tree.root, &tree.entries)?;
            let base = Base::of(&tree.root, &service);
            anyhow::Ok(Self { tree, listing, base, blobs })
        });
        listed.await?
    }

    /// Sends what the service has not; the manifest that names it all. `None` where the service knows no pieces.
    ///
    /// # Errors
    /// What cannot be read here, and what the service says.
    pub(super) async fn send(&self, client: &Client, patience: &Patience, sent: &Sent) -> anyhow::Result<Option<String>> {
        let declared =
            again(patience, |error| sent.failed_once(error), async || heard(sent, patience.answer, self.declare(client)).await);
        let declared = declared.await?;
        sent.read_on(false);
        let Some(mut declared) = declared else { return Ok(None) };
        self.base.remember(&declared.id, &self.listing);
        while !declared.missing.is_empty() {
            declared = self.blobs(client, patience, sent, declared).await?;
        }
        Ok(Some(declared.id))
    }

    /// Tells what has changed since the last time, or everything where that is not enough.
    async fn declare(&self, client: &Client) -> anyhow::Result<Option<Declared>> {
        if let Some((id, changes)) = self.listing.since(&self.base)?
            && let Some(declared) = client.declare_changes(id, changes).await?
        {
            return Ok(Some(declared));
        }
        client.declare(self.listing.whole()?).await
    }

    /// One round of what is missing; after a connection that broke off, of what is missing then.
    async fn blobs(&self, client: &Client, patience: &Patience, sent: &Sent, declared: Declared) -> anyhow::Result<Declared> {
        let mut known = Some(declared.clone());
        again(
            patience,
            |error| sent.failed_once(error),
            async || {
                let declared = match known.take() {
                    Some(declared) => declared,
                    None => look_again(client, &declared.id).await?,
                };
                let missing = declared.missing.iter().map(|hash| self.blobs.get(hash).map(|at| (hash.clone(), *at)));
                let missing: Option<Vec<(String, usize)>> = missing.collect();
                let missing = missing.context("the service asks for what was not offered")?;
                sent.expect(sent.bytes() + declared.missing_bytes + BLOCK * missing.len() as u64);
                let answer = client.send_blobs(&declared.id, tar(&self.tree, missing, sent));
                heard(sent, patience.answer, answer).await.map_err(|error| sent.fault().unwrap_or_else(|| changed(error)))
            },
        )
        .await
    }
}

async fn look_again(client: &Client, id: &str) -> anyhow::Result<Declared> {
    let now = client.call(reqwest::Method::GET, &format!("/api/v1/contexts/{id}"), None).await?;
    serde_json::from_value(now).context("the service's answer tells of no manifest")
}

/// What the service says of a blob that is not what its name says.
fn changed(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<Refused>().filter(|refused| refused.code.starts_with("blob_")) {
        Some(refused) => {
            let told = format!("a file changed while it was sent: {}", refused.detail);
            error.context(told)
        }
        None => error,
    }
}

/// By the hash of each blob, an entry that has it.
type Blobs = HashMap<String, usize>;

fn list(root: &Path, entries: &[Local]) -> anyhow::Result<(Listing, Blobs)> {
    let hashes = Hashes::of(root);
    let all = hashes.all(entries)?;
    let listing = Listing::of(entries, &all)?;
    let mut blobs = Blobs::new();
    for (at, (_, sum)) in all.iter().enumerate().filter_map(|(at, hashed)| Some((at, hashed.as_ref()?))) {
        blobs.entry(hex::encode(sum)).or_insert(at);
    }
    hashes.remember(entries, &all, SystemTime::now());
    Ok((listing, blobs))
}

/// Blobs as a tar in zstd, made while it is sent.
fn tar(tree: &Arc<Tree>, missing: Vec<(String, usize)>, sent: &Sent) -> Body {
    let (plain, chunks) = mpsc::channel(CHUNKS);
    let (packed, body) = mpsc::channel(CHUNKS);
    let tree = Arc::clone(tree);
    tokio::task::spawn_blocking(move || {
        let mut writer = TarWriter::new(plain);
        if let Err(error) = write(&mut writer, &tree.entries, &missing) {
            writer.fail(error);
        }
    });
    let sent = sent.clone();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = pack(chunks, &packed, &sent) {
            sent.fail(&error);
            // Nobody is left to be told when the connection is gone.
            let _ = packed.blocking_send(Err(error));
        }
    });
    Body::wrap_stream(ReceiverStream::new(body))
}

fn write(writer: &mut TarWriter, entries: &[Local], missing: &[(String, usize)]) -> io::Result<()> {
    for (hash, at) in missing {
        let local = &entries[*at];
        let EntryKind::File { size } = local.entry.kind else { continue };
        let mut file = local.open().map_err(|error| upload::told(&local.entry.path, error, "cannot be read"))?;
        let entry = Entry { path: hash.clone(), kind: EntryKind::File { size }, mode: 0o644, mtime: 0 };
        let written = writer.entry(&entry, &mut file);
        written.map_err(|error| upload::told(&local.entry.path, error, "changed while it was sent"))?;
    }
    writer.finish()
}

fn pack(mut chunks: mpsc::Receiver<io::Result<Bytes>>, packed: &mpsc::Sender<io::Result<Bytes>>, sent: &Sent) -> io::Result<()> {
    let mut encoder = Encoder::new(Vec::new(), LEVEL)?;
    let give = |bytes: Vec<u8>| packed.blocking_send(Ok(bytes.into())).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe));
    while let Some(chunk) = chunks.blocking_recv() {
        let chunk = chunk?;
        encoder.write_all(&chunk)?;
        if encoder.get_ref().len() >= CHUNK {
            give(std::mem::take(encoder.get_mut()))?;
        }
        sent.count(chunk.len());
    }
    give(encoder.finish()?)
}
