use std::io::{self, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use tokio::runtime::Handle;
use zstd::stream::write::Decoder as ZstdDecoder;

use super::super::fault::ContextError;
use super::super::storage::{Batch, Lane, blocking, storing};
use super::kept::{Coding, WINDOW_LOG};
use super::tar::Unpacker;
use super::{Blobs, Reserved};
use crate::domain::{ManifestId, Owner};
use crate::error::{Error, Result};

/// What has come is worked on at least so often, however slowly it comes.
const AT_LEAST_EVERY: Duration = Duration::from_secs(30);

/// Blobs on their way. When it is dropped, those that have come whole are kept.
pub struct BlobIntake {
    /// `None` once all has come.
    lane: Option<Lane<Unpacking>>,
    batch: Batch,
    handed_over: Instant,
    reserved: Option<Reserved>,
}

impl Blobs {
    /// Begins to take blobs of a manifest, at most `limit` bytes as they are sent; and tells how many bytes are missing of it.
    /// `None`: the owner has no such manifest.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn receive(&self, owner: &Owner, id: ManifestId, coding: Coding, limit: u64) -> Result<Option<(BlobIntake, u64)>> {
        let (blobs, owner) = (self.clone(), owner.clone());
        let unpacking = blocking(move || {
            let lock = blobs.lock(&owner).map_err(storing)?;
            let Some((manifest, wants)) = blobs.look(&owner, id)? else { return Ok(None) };
            drop(lock);
            let unpacking = Unpacking::new(Unpacker::new(blobs, owner, id, wants), coding)?;
            Ok(Some((unpacking, manifest.missing_bytes)))
        });
        Ok(unpacking.await?.map(|(unpacking, missing)| {
            let (lane, batch) = (Some(Lane::new(unpacking)), Batch::new(limit));
            (BlobIntake { lane, batch, handed_over: Instant::now(), reserved: None }, missing)
        }))
    }
}

impl BlobIntake {
    /// What it brings is counted as its owner's for as long as it is under way.
    pub fn reserve(&mut self, reserved: Reserved) {
        self.reserved = Some(reserved);
    }

    /// Takes the next bytes. Waits when the disk is slower than the client.
    ///
    /// # Errors
    /// [`Error::TooLarge`] as `upload_too_large`; [`Error::StorageFull`]; [`Error::Invalid`] with `blob_not_asked`, `blob_size`,
    /// `blob_hash`, and the codes of archives that cannot be read. Blobs that came before the fault are kept.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let enough = self.batch.push(bytes)?;
        if enough || self.handed_over.elapsed() >= AT_LEAST_EVERY { self.hand_over().await } else { Ok(()) }
    }

    async fn hand_over(&mut self) -> Result<()> {
        let Some(lane) = &mut self.lane else { return Ok(()) };
        lane.ready().await?;
        self.handed_over = Instant::now();
        let batch = self.batch.take();
        lane.start(move |unpacking| unpacking.take(&batch));
        Ok(())
    }

    /// All has come.
    ///
    /// # Errors
    /// Those of [`BlobIntake::write`].
    pub async fn finish(mut self) -> Result<()> {
        self.hand_over().await?;
        let lane = self.lane.take().expect("there until it is finished, because that happens once");
        let unpacking = lane.end().await?;
        blocking(move || unpacking.finish()).await
    }
}

impl Drop for BlobIntake {
    /// A connection has broken off: what came whole need not come again.
    fn drop(&mut self) {
        let (Some(mut lane), Ok(runtime)) = (self.lane.take(), Handle::try_current()) else { return };
        let (batch, reserved) = (self.batch.take(), self.reserved.take());
        runtime.spawn(async move {
            if lane.ready().await.is_ok() {
                lane.start(move |unpacking| unpacking.take(&batch).and_then(|()| unpacking.unpacker().commit()));
            }
            if let Err(error) = lane.ready().await {
                tracing::debug!(%error, "blobs before the end of their connection were not kept");
            }
            drop(reserved);
        });
    }
}

/// A decoder in front of the tar.
enum Unpacking {
    Identity(Box<Unpacker>),
    Gzip(Box<MultiGzDecoder<Unpacker>>),
    Zstd(Box<ZstdDecoder<'static, Unpacker>>),
}

impl Unpacking {
    fn new(unpacker: Unpacker, coding: Coding) -> Result<Self> {
        Ok(match coding {
            Coding::Identity => Self::Identity(Box::new(unpacker)),
            Coding::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(unpacker))),
            Coding::Zstd => {
                let mut decoder = ZstdDecoder::new(unpacker).map_err(storing)?;
                decoder.window_log_max(WINDOW_LOG).map_err(storing)?;
                Self::Zstd(Box::new(decoder))
            }
        })
    }

    fn unpacker(&mut self) -> &mut Unpacker {
        match self {
            Self::Identity(unpacker) => unpacker,
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.get_mut(),
        }
    }

    fn take(&mut self, batch: &[Bytes]) -> Result<()> {
        for bytes in batch {
            let written = match self {
                Self::Identity(unpacker) => unpacker.write_all(bytes),
                Self::Gzip(decoder) => decoder.write_all(bytes),
                Self::Zstd(decoder) => decoder.write_all(bytes),
            };
            written.map_err(|error| self.told(error))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        let flushed = match &mut self {
            Self::Identity(_) => Ok(()),
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::Zstd(decoder) => decoder.flush(),
        };
        flushed.map_err(|error| self.told(error))?;
        self.unpacker().finish()
    }

    /// Why it goes on no more. What is right already is kept nevertheless.
    fn told(&mut self, error: io::Error) -> Error {
        let fault = self.unpacker().fault();
        match self.unpacker().commit() {
            Err(worse @ Error::StorageFull(_)) => worse,
            _ => fault.unwrap_or_else(|| ContextError::reading(error).into()),
        }
    }
}
