//! A folder in pieces: the service is told what it holds, and gets of it what it has not.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use bytes::Bytes;
use reqwest::Body;
use reqwest::multipart::Form;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use zstd::stream::write::Encoder;

use super::hashes::Hashes;
use super::upload::{self, BLOCK, CHUNK, CHUNKS, Sent};
use crate::cli::context::{Local, Tree};
use crate::client::{Client, Declared, Refused, Unreachable};
use crate::context::archive::{Entry, EntryKind, ManifestLine};
use crate::context::stream::TarWriter;

/// How often blobs are sent that did not all arrive; what did is not sent again.
const TRIES: usize = 3;
/// Fast enough for any network.
const LEVEL: i32 = 1;

/// Sends what the service has not, and adds to the form what names it all; the whole folder, where the service knows no pieces.
///
/// # Errors
/// What cannot be read here, and what the service says.
pub(super) async fn send(client: &Client, form: Form, tree: Tree, sent: &Sent) -> anyhow::Result<Form> {
    let (tree, lines, blobs) = tokio::task::spawn_blocking(move || {
        let (lines, blobs) = list(&tree.root, &tree.entries)?;
        anyhow::Ok((tree, lines, blobs))
    })
    .await??;
    let Some(mut declared) = client.declare(lines).await? else { return Ok(upload::folder(form, tree, sent)) };
    let entries = Arc::new(tree.entries);
    let mut tries = 1..TRIES;
    while !declared.missing.is_empty() {
        let missing = declared.missing.iter().map(|hash| blobs.get(hash).map(|at| (hash.clone(), *at)));
        let missing: Option<Vec<(String, usize)>> = missing.collect();
        let missing = missing.context("the service asks for what was not offered")?;
        sent.expect(sent.bytes() + declared.missing_bytes + BLOCK * missing.len() as u64);
        declared = match client.send_blobs(&declared.id, tar(&entries, missing, sent)).await {
            Ok(now) => now,
            Err(error) => look_again(client, declared, error, sent, tries.next().is_none()).await?,
        };
    }
    sent.is_all();
    Ok(form.text("manifest", declared.id))
}

/// After a connection that broke off: what is still missing.
async fn look_again(
    client: &Client,
    declared: Declared,
    error: anyhow::Error,
    sent: &Sent,
    last: bool,
) -> anyhow::Result<Declared> {
    if let Some(fault) = sent.fault() {
        return Err(fault);
    }
    if let Some(refused) = error.downcast_ref::<Refused>().filter(|refused| refused.code.starts_with("blob_")) {
        let told = format!("a file changed while it was sent: {}", refused.detail);
        return Err(error.context(told));
    }
    if last || error.downcast_ref::<Unreachable>().is_none() {
        return Err(error);
    }
    let path = format!("/api/v1/contexts/{}", declared.id);
    let now = client.call(reqwest::Method::GET, &path, None).await?;
    serde_json::from_value(now).context("the service's answer tells of no manifest")
}

/// By the hash of each blob, an entry that has it.
type Blobs = HashMap<String, usize>;

/// The manifest, in zstd.
fn list(root: &Path, entries: &[Local]) -> anyhow::Result<(Vec<u8>, Blobs)> {
    let hashes = Hashes::of(root);
    let all = hashes.all(entries)?;
    let (mut lines, mut blobs) = (Encoder::new(Vec::new(), zstd::DEFAULT_COMPRESSION_LEVEL)?, Blobs::new());
    for (at, (local, hashed)) in entries.iter().zip(&all).enumerate() {
        let sum = hashed.as_ref().map(|(_, sum)| sum);
        let line = ManifestLine::of(&local.entry, sum).context("a folder holds no hard links, because each is read as a file")?;
        serde_json::to_writer(&mut lines, &line)?;
        lines.write_all(b"\n")?;
        if let Some(sum) = sum {
            blobs.entry(hex::encode(sum)).or_insert(at);
        }
    }
    hashes.remember(entries, &all, SystemTime::now());
    Ok((lines.finish()?, blobs))
}

/// Blobs as a tar in zstd, made while it is sent.
fn tar(entries: &Arc<Vec<Local>>, missing: Vec<(String, usize)>, sent: &Sent) -> Body {
    let (plain, chunks) = mpsc::channel(CHUNKS);
    let (packed, body) = mpsc::channel(CHUNKS);
    let entries = Arc::clone(entries);
    tokio::task::spawn_blocking(move || {
        let mut writer = TarWriter::new(plain);
        if let Err(error) = write(&mut writer, &entries, &missing) {
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
