//! The frames in which an engine sends both outputs of a process without a terminal over one connection: a head of 8 bytes
//! (source, three zeros, length as big endian), then so many bytes. Source: moby `pkg/stdcopy`.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

const HEAD: usize = 8;
const READ_BYTES: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Stdout,
    Stderr,
    /// Not the process: the engine says why it cannot go on.
    Engine,
}

/// Bytes of one frame; a frame that comes in several reads is several pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub source: Source,
    pub bytes: Bytes,
    /// Whether the frame begins with it.
    pub begins: bool,
}

/// Takes frames apart, however they were cut on their way. Holds at most the head of one.
#[derive(Default)]
pub struct Demux {
    head: [u8; HEAD],
    have: usize,
    left: usize,
    begun: bool,
}

impl Demux {
    /// The next piece at the front of `bytes`; `None` when all of them were taken.
    ///
    /// # Errors
    /// When these are no frames.
    pub fn next(&mut self, bytes: &mut Bytes) -> io::Result<Option<Piece>> {
        while !bytes.is_empty() {
            if self.left == 0 {
                self.read_head(bytes);
                continue;
            }
            let taken = bytes.split_to(self.left.min(bytes.len()));
            self.left -= taken.len();
            let begins = !std::mem::replace(&mut self.begun, true);
            return Ok(Some(Piece { source: self.source()?, bytes: taken, begins }));
        }
        Ok(None)
    }

    fn read_head(&mut self, bytes: &mut Bytes) {
        let part = bytes.len().min(HEAD - self.have);
        bytes.copy_to_slice(&mut self.head[self.have..self.have + part]);
        self.have += part;
        if self.have == HEAD {
            let [.., a, b, c, d] = self.head;
            self.left = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            (self.have, self.begun) = (0, false);
        }
    }

    fn source(&self) -> io::Result<Source> {
        match self.head {
            [0 | 1, 0, 0, 0, ..] => Ok(Source::Stdout),
            [2, 0, 0, 0, ..] => Ok(Source::Stderr),
            [3, 0, 0, 0, ..] => Ok(Source::Engine),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the engine sent something other than frames")),
        }
    }
}

/// Reads the output of a process without a terminal, its two sources apart.
pub struct FrameReader<R> {
    reader: R,
    demux: Demux,
    read: Bytes,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub fn new(reader: R) -> Self {
        Self { reader, demux: Demux::default(), read: Bytes::new() }
    }

    /// The next bytes; `None` at the end. Nothing is lost when it is dropped while it waits.
    ///
    /// # Errors
    /// Those of the reader; and when what it reads are no frames.
    pub async fn next(&mut self) -> io::Result<Option<Piece>> {
        loop {
            if let Some(piece) = self.demux.next(&mut self.read)? {
                return Ok(Some(piece));
            }
            let mut buffer = BytesMut::with_capacity(READ_BYTES);
            if self.reader.read_buf(&mut buffer).await? == 0 {
                return Ok(None);
            }
            self.read = buffer.freeze();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(source: u8, text: &[u8]) -> Vec<u8> {
        let length = u32::try_from(text.len()).expect("short").to_be_bytes();
        [&[source, 0, 0, 0], &length[..], text].concat()
    }

    /// What each source said, and how many frames began.
    fn apart(cuts: &[&[u8]]) -> io::Result<(Vec<u8>, Vec<u8>, usize)> {
        let (mut demux, mut out, mut err, mut frames) = (Demux::default(), Vec::new(), Vec::new(), 0);
        for cut in cuts {
            let mut bytes = Bytes::copy_from_slice(cut);
            while let Some(piece) = demux.next(&mut bytes)? {
                frames += usize::from(piece.begins);
                if piece.source == Source::Stdout { &mut out } else { &mut err }.extend_from_slice(&piece.bytes);
            }
        }
        Ok((out, err, frames))
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_does_not_matter(
            texts in proptest::collection::vec((1u8..3, proptest::collection::vec(any::<u8>(), 0..30)), 0..9),
            at in 0usize..300,
        ) {
            let all: Vec<u8> = texts.iter().flat_map(|(source, text)| frame(*source, text)).collect();
            let of = |which: u8| texts.iter().filter(move |(source, _)| *source == which);
            let said = |which: u8| of(which).flat_map(|(_, text)| text.clone()).collect::<Vec<u8>>();
            let frames = texts.iter().filter(|(_, text)| !text.is_empty()).count();
            let at = at.min(all.len());
            prop_assert_eq!(apart(&[&all[..at], &all[at..]]).expect("frames"), (said(1), said(2), frames));
        }
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        assert!(apart(&[b"HTTP/1.1 500 Oh"]).is_err());
    }

    #[tokio::test]
    async fn a_reader_tells_them_apart() {
        let bytes = [frame(1, b"out"), frame(2, b"err")].concat();
        let mut reader = FrameReader::new(&bytes[..]);
        let mut told = Vec::new();
        while let Some(piece) = reader.next().await.expect("frames") {
            told.push((piece.source, piece.bytes));
        }
        assert_eq!(told, [(Source::Stdout, Bytes::from("out")), (Source::Stderr, Bytes::from("err"))]);
    }
}
