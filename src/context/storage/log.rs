use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::PathBuf;
use std::pin::Pin;

use bytes::Bytes;
use futures::{Stream, stream};
use tempfile::TempPath;
use zstd::stream::{read::Decoder, write::Encoder};

use super::{ContextStorage, blocking, persist, storing};
use crate::domain::BuildId;
use crate::error::Result;

/// Bytes as they are read.
pub type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

const CHUNK: usize = 64 * 1024;

/// A log on its way into its archive. It is there for readers only after [`LogWriter::finish`]; dropped before, it never was.
pub struct LogWriter {
    encoder: Encoder<'static, File>,
    from: TempPath,
    to: PathBuf,
}

impl LogWriter {
    /// Adds to the end.
    ///
    /// # Errors
    /// [`crate::error::Error::StorageFull`], or the disk's own.
    pub async fn append(mut self, bytes: impl Into<Bytes>) -> Result<Self> {
        let bytes = bytes.into();
        blocking(move || {
            self.encoder.write_all(&bytes).map_err(storing)?;
            Ok(self)
        })
        .await
    }

    /// Makes the log durable and puts it under its final name, in place of an earlier one.
    ///
    /// # Errors
    /// Those of [`LogWriter::append`].
    pub async fn finish(self) -> Result<()> {
        blocking(move || {
            let file = self.encoder.finish().map_err(storing)?;
            persist(&file, self.from, &self.to).map_err(storing)
        })
        .await
    }
}

impl ContextStorage {
    /// Begins the archive of a build's log.
    ///
    /// # Errors
    /// [`crate::error::Error::StorageFull`], or the disk's own.
    pub async fn begin_log(&self, id: BuildId) -> Result<LogWriter> {
        let storage = self.clone();
        blocking(move || {
            let (file, from) = storage.temporary().map_err(storing)?;
            let mut encoder = Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(storing)?;
            encoder.include_checksum(true).map_err(storing)?;
            Ok(LogWriter { encoder, from, to: storage.log_path(id) })
        })
        .await
    }

    /// Archives a whole log at once.
    ///
    /// # Errors
    /// Those of [`ContextStorage::begin_log`].
    pub async fn write_log(&self, id: BuildId, bytes: impl Into<Bytes>) -> Result<()> {
        self.begin_log(id).await?.append(bytes).await?.finish().await
    }

    /// The archived log of a build, decompressed while it is read; `None` when there is none. A slow reader keeps no thread.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn read_log(&self, id: BuildId) -> Result<Option<ByteStream>> {
        let path = self.log_path(id);
        let decoder = blocking(move || match File::open(path) {
            Ok(file) => Decoder::new(file).map(Some).map_err(storing),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(storing(e)),
        })
        .await?;
        Ok(decoder.map(|decoder| Box::pin(stream::try_unfold(decoder, chunk)) as ByteStream))
    }
}

type LogDecoder = Decoder<'static, BufReader<File>>;

async fn chunk(mut decoder: LogDecoder) -> io::Result<Option<(Bytes, LogDecoder)>> {
    tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::with_capacity(CHUNK);
        let read = decoder.by_ref().take(CHUNK as u64).read_to_end(&mut bytes)?;
        Ok((read > 0).then(|| (bytes.into(), decoder)))
    })
    .await
    .map_err(io::Error::other)?
}
