use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

/// Most memory that decoding zstd may take, as a power of two: 32 MiB, enough for `zstd -19` and `-20`.
const ZSTD_WINDOW_LOG: u32 = 25;

/// Big enough that decompressing is not held up by calls.
const BUFFER: usize = 128 * 1024;

/// Small for a plain file: passing over an entry throws the rest of the buffer away, and long reads go past it.
const PLAIN_BUFFER: usize = 16 * 1024;

/// Bytes from front to back, some of which can be passed over.
pub(super) trait Input: Read + Send {
    /// Passes over `bytes`; an end before that is `UnexpectedEof`.
    fn skip(&mut self, bytes: u64) -> io::Result<()>;
}

/// A file as it is: passing over costs a seek, whatever the distance.
pub(super) struct Plain {
    file: BufReader<File>,
    left: u64,
}

impl Plain {
    pub(super) fn new(file: File, len: u64) -> Self {
        Self { file: BufReader::with_capacity(PLAIN_BUFFER, file), left: len }
    }
}

impl Read for Plain {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buf)?;
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

impl Input for Plain {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        if bytes > self.left {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= bytes;
        let bytes = i64::try_from(bytes).map_err(io::Error::other)?;
        self.file.seek_relative(bytes)
    }
}

/// A decoder: passing over means decoding, since the bytes count.
pub(super) struct Decoded<R>(BufReader<R>);

impl<R: Read + Send> Read for Decoded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl<R: Read + Send> Input for Decoded<R> {
    fn skip(&mut self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            let ready = self.0.fill_buf()?.len() as u64;
            if ready == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let step = ready.min(bytes);
            self.0.consume(usize::try_from(step).map_err(io::Error::other)?);
            bytes -= step;
        }
        Ok(())
    }
}

/// All members of a gzip file, one after the other (RFC 1952, 2.2).
pub(super) fn gzip(file: File) -> impl Input {
    let decoder = MultiGzDecoder::new(BufReader::with_capacity(BUFFER, file));
    Decoded(BufReader::with_capacity(BUFFER, decoder))
}

/// All frames of a zstd file, one after the other (RFC 8878, 3).
pub(super) fn zstd(file: File) -> io::Result<impl Input> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(BUFFER, file))?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    Ok(Decoded(BufReader::with_capacity(BUFFER, decoder)))
}
