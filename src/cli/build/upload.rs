//! The context on its way: read, packed and counted while it is sent, so that memory does not grow with it.

use std::io::{self, Read, stdin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use reqwest::Body;
use reqwest::multipart::{Form, Part};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::request::Request;
use crate::cli::context::{Local, Tree};
use crate::context::archive::{ARCHIVE_START, EntryKind, kind_of_start};
use crate::context::stream::TarWriter;
use crate::domain::limits::DOCKERFILE_BYTES;

/// Chunks that wait between the disk and the connection.
const CHUNKS: usize = 4;
const CHUNK: usize = 256 * 1024;
/// Of a tar: the header of an entry.
const BLOCK: u64 = 512;

/// How far the sending is.
#[derive(Clone)]
pub(super) struct Sent {
    /// Names this upload: the same one twice is one build.
    pub key: String,
    /// Bytes of the context, where they are known before.
    pub total: Option<u64>,
    counted: Arc<AtomicU64>,
    whole: Arc<AtomicBool>,
    fault: Arc<Mutex<Option<String>>>,
}

impl Sent {
    /// A form without a stream.
    pub(super) fn nothing() -> Self {
        let sent = Self::new(None);
        sent.whole.store(true, Ordering::Relaxed);
        sent
    }

    fn new(total: Option<u64>) -> Self {
        let key = uuid::Uuid::new_v4().to_string();
        Self { key, total, counted: Arc::default(), whole: Arc::default(), fault: Arc::default() }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.counted.load(Ordering::Relaxed)
    }

    /// Whether the service may have everything, and so may have accepted the build.
    pub(super) fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Relaxed)
    }

    /// What could not be read on this machine: the cause of a sending that failed.
    pub(super) fn fault(&self) -> Option<anyhow::Error> {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner).take();
        fault.map(|text| anyhow::anyhow!(text))
    }

    /// The stream, counted.
    fn watch(&self, chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
        let (sent, end) = (self.clone(), self.clone());
        let counted = chunks.inspect(move |chunk| match chunk {
            Ok(chunk) => drop(sent.counted.fetch_add(chunk.len() as u64, Ordering::Relaxed)),
            Err(error) => *sent.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string()),
        });
        let ended = futures::stream::poll_fn(move |_| {
            end.whole.store(true, Ordering::Relaxed);
            std::task::Poll::Ready(None)
        });
        Body::wrap_stream(counted.chain(ended))
    }
}

fn context(form: Form, body: Body) -> Form {
    form.part("context", Part::stream(body).file_name("context.tar"))
}

/// A folder, as a tar.
pub(super) fn folder(form: Form, tree: Tree) -> Request {
    // A little less than what travels: entries are filled up to whole blocks.
    let total = tree.bytes() + BLOCK * tree.entries.len() as u64;
    let sent = Sent::new(Some(total));
    let (sender, chunks) = mpsc::channel(CHUNKS);
    tokio::task::spawn_blocking(move || {
        let mut writer = TarWriter::new(sender);
        if let Err(error) = pack(&mut writer, &tree.entries) {
            writer.fail(error);
        }
    });
    let form = context(form, sent.watch(ReceiverStream::new(chunks)));
    Request { form, sent }
}

fn pack(writer: &mut TarWriter, entries: &[Local]) -> io::Result<()> {
    for local in entries {
        let path = &local.entry.path;
        let told = |error: io::Error, what: &str| match error.kind() {
            io::ErrorKind::BrokenPipe => error,
            kind => io::Error::new(kind, format!("{path}: {what}: {error}")),
        };
        if matches!(local.entry.kind, EntryKind::File { .. }) {
            let mut file = local.open().map_err(|error| told(error, "cannot be read"))?;
            writer.entry(&local.entry, &mut file).map_err(|error| told(error, "changed while it was sent"))?;
        } else {
            writer.entry(&local.entry, &mut io::empty())?;
        }
    }
    writer.finish()
}

/// A Dockerfile or an archive on standard input, told apart by how it begins.
pub(super) async fn standard_input(form: Form) -> anyhow::Result<Request> {
    let start = tokio::task::spawn_blocking(|| read_up_to(&mut stdin().lock(), ARCHIVE_START)).await??;
    if start.len() < ARCHIVE_START || kind_of_start(&start).is_none() {
        let more = usize::try_from(DOCKERFILE_BYTES).unwrap_or(usize::MAX);
        let rest = tokio::task::spawn_blocking(move || read_up_to(&mut stdin().lock(), more)).await??;
        let text = [start, rest].concat();
        if kind_of_start(&text).is_none() {
            return Ok(Request { form: form.part("file", Part::bytes(text).file_name("Dockerfile")), sent: Sent::nothing() });
        }
        let sent = Sent::new(None);
        let body = sent.watch(futures::stream::iter([Ok(Bytes::from(text))]));
        return Ok(Request { form: context(form, body), sent });
    }
    let sent = Sent::new(None);
    let (sender, chunks) = mpsc::channel(CHUNKS);
    // On a thread that nothing waits for: standard input may say nothing for ever.
    std::thread::spawn(move || {
        let mut input = stdin().lock();
        loop {
            let chunk = read_up_to(&mut input, CHUNK);
            if chunk.as_ref().is_ok_and(Vec::is_empty) {
                return;
            }
            let failed = chunk.is_err();
            if sender.blocking_send(chunk.map(Bytes::from)).is_err() || failed {
                return;
            }
        }
    });
    let chunks = futures::stream::iter([Ok(Bytes::from(start))]).chain(ReceiverStream::new(chunks));
    let form = context(form, sent.watch(chunks));
    Ok(Request { form, sent })
}

fn read_up_to(input: &mut impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
