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

use super::request::{Parts, Request, Source};
use crate::cli::context::{Local, Tree};
use crate::context::archive::{ARCHIVE_START, EntryKind, kind_of_start};
use crate::context::stream::TarWriter;
use crate::domain::limits::DOCKERFILE_BYTES;

/// Chunks that wait between the disk and the connection.
pub(super) const CHUNKS: usize = 4;
pub(super) const CHUNK: usize = 256 * 1024;
/// Of a tar: the header of an entry.
pub(super) const BLOCK: u64 = 512;

/// How far the sending is.
#[derive(Clone)]
pub(super) struct Sent {
    /// Names this upload: the same one twice is one build.
    pub key: String,
    /// Bytes that are to be sent, where they are known before; 0 where they are not.
    expected: Arc<AtomicU64>,
    counted: Arc<AtomicU64>,
    whole: Arc<AtomicBool>,
    /// It comes from standard input, which may be silent for any time.
    input: Arc<AtomicBool>,
    /// What is sent is still looked through here.
    reading: Arc<AtomicBool>,
    fault: Arc<Mutex<Option<String>>>,
    /// A failure that was tried again after, until it is told.
    trouble: Arc<Mutex<Option<String>>>,
}

impl Sent {
    pub(super) fn new() -> Self {
        Self {
            key: uuid::Uuid::new_v4().to_string(),
            expected: Arc::default(),
            counted: Arc::default(),
            whole: Arc::default(),
            input: Arc::default(),
            reading: Arc::default(),
            fault: Arc::default(),
            trouble: Arc::default(),
        }
    }

    /// It is sent from its beginning, perhaps once more. What the service may have it may have.
    pub(super) fn begin(&self) {
        self.counted.store(0, Ordering::Relaxed);
    }

    pub(super) fn read_on(&self, reading: bool) {
        self.reading.store(reading, Ordering::Relaxed);
    }

    pub(super) fn is_reading(&self) -> bool {
        self.reading.load(Ordering::Relaxed)
    }

    pub(super) fn failed_once(&self, error: &anyhow::Error) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{error:#}"));
    }

    pub(super) fn take_trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Bytes of the context, where they are known.
    pub(super) fn total(&self) -> Option<u64> {
        Some(self.expected.load(Ordering::Relaxed)).filter(|total| *total > 0)
    }

    pub(super) fn expect(&self, total: u64) {
        self.expected.store(total, Ordering::Relaxed);
    }

    pub(super) fn count(&self, bytes: usize) {
        self.counted.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn fail(&self, error: &io::Error) {
        // That nobody reads any more is the other side's fault.
        if error.kind() != io::ErrorKind::BrokenPipe {
            *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        }
    }

    /// Nothing is left to be sent but the form.
    pub(super) fn is_all(&self) {
        self.whole.store(true, Ordering::Relaxed);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.counted.load(Ordering::Relaxed)
    }

    /// Whether it is the service's turn, and not that of who writes to standard input.
    pub(super) fn is_due(&self) -> bool {
        self.is_whole() || !self.input.load(Ordering::Relaxed)
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

/// Beside the form's other parts, a context that is sent while it is read.
pub(super) fn context(form: Form, body: Body) -> Form {
    form.part("context", Part::stream(body).file_name("context.tar"))
}

/// A folder, as a tar.
pub(super) fn folder(form: Form, tree: &Arc<Tree>, sent: &Sent) -> Form {
    sent.begin();
    // A little less than what travels: entries are filled up to whole blocks.
    sent.expect(tree.bytes() + BLOCK * tree.entries.len() as u64);
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let tree = Arc::clone(tree);
    tokio::task::spawn_blocking(move || {
        let mut writer = TarWriter::new(sender);
        if let Err(error) = pack(&mut writer, &tree.entries) {
            writer.fail(error);
        }
    });
    context(form, sent.watch(ReceiverStream::new(chunks)))
}

/// What went wrong with a file, by its name.
pub(super) fn told(path: &str, error: io::Error, what: &str) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => error,
        kind => io::Error::new(kind, format!("{path}: {what}: {error}")),
    }
}

fn pack(writer: &mut TarWriter, entries: &[Local]) -> io::Result<()> {
    for local in entries {
        let path = &local.entry.path;
        if matches!(local.entry.kind, EntryKind::File { .. }) {
            let mut file = local.open().map_err(|error| told(path, error, "cannot be read"))?;
            writer.entry(&local.entry, &mut file).map_err(|error| told(path, error, "changed while it was sent"))?;
        } else {
            writer.entry(&local.entry, &mut io::empty())?;
        }
    }
    writer.finish()
}

/// A Dockerfile or an archive on standard input, told apart by how it begins.
pub(super) async fn standard_input(parts: Parts) -> anyhow::Result<Request> {
    let start = tokio::task::spawn_blocking(|| read_up_to(&mut stdin().lock(), ARCHIVE_START)).await??;
    let sent = Sent::new();
    if start.len() < ARCHIVE_START || kind_of_start(&start).is_none() {
        let more = usize::try_from(DOCKERFILE_BYTES).unwrap_or(usize::MAX);
        let rest = tokio::task::spawn_blocking(move || read_up_to(&mut stdin().lock(), more)).await??;
        let text = [start, rest].concat();
        let (name, file_name) = if kind_of_start(&text).is_none() { ("file", "Dockerfile") } else { ("context", "context.tar") };
        return Ok(Request { parts: parts.file(name, text, file_name), sent, source: Source::Parts });
    }
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
    let body = sent.watch(chunks);
    sent.input.store(true, Ordering::Relaxed);
    Ok(Request { parts, sent, source: Source::Input(body) })
}

fn read_up_to(input: &mut impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
