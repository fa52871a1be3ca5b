use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use zstd::stream::write::Decoder as ZstdDecoder;

use super::super::fault::ContextError;
use super::super::storage::{Batch, Lane, blocking, storing};
use super::kept::{Coding, WINDOW_LOG};
use super::tar::Unpacker;
use super::{Blobs, Reserved};
use crate::domain::{ManifestId, Owner};
use crate::error::{Error, Result};

/// Blobs on their way. What was kept before it is dropped stays; what was not is removed.
pub struct BlobIntake {
    lane: Lane<Unpacking>,
    batch: Batch,
    _reserved: Option<Reserved>,
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
            let unpacking = Unpacking::new(Unpacker::new(blobs, &owner, wants), coding)?;
            Ok(Some((unpacking, manifest.missing_bytes)))
        });
        Ok(unpacking.await?.map(|(unpacking, missing)| {
            let lane = Lane::new(unpacking);
            (BlobIntake { lane, batch: Batch::new(limit), _reserved: None }, missing)
        }))
    }
}

impl BlobIntake {
    /// What it brings is counted as its owner's for as long as it is under way.
    pub fn reserve(&mut self, reserved: Reserved) {
        self._reserved = Some(reserved);
    }

    /// Takes the next bytes. Waits when the disk is slower than the client.
    ///
    /// # Errors
    /// [`Error::TooLarge`] as `upload_too_large`; [`Error::StorageFull`]; [`Error::Invalid`] with `blob_not_asked`, `blob_size`,
    /// `blob_hash`, and the codes of archives that cannot be read. Blobs that came before the fault are kept.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if self.batch.push(bytes)? { self.hand_over().await } else { Ok(()) }
    }

    async fn hand_over(&mut self) -> Result<()> {
        self.lane.ready().await?;
        let batch = self.batch.take();
        self.lane.start(move |unpacking| unpacking.take(&batch));
        Ok(())
    }

    /// All has come.
    ///
    /// # Errors
    /// Those of [`BlobIntake::write`].
    pub async fn finish(mut self) -> Result<()> {
        self.hand_over().await?;
        let unpacking = self.lane.end().await?;
        blocking(move || unpacking.finish()).await
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
