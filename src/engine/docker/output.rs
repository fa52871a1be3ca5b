//! `GET /containers/…/logs`, decoded by us: bollard keeps back a last line without newline, and stalls on bytes that look like a head.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::Docker;
use super::calls::{moment, part};
use super::cutter::Cutter;
use super::errors::fault;
use super::transport::broken;
use crate::engine::Result;
use crate::engine::containers::{OutputLine, OutputRange, Told};
use crate::engine::frames::{Demux, Source};

/// How long a line without its end is held back after its last byte.
const UNFINISHED: Duration = Duration::from_millis(200);
/// How far the times of the two outputs may be out of order, in nanoseconds.
const SIDE_BY_SIDE_NANOS: i64 = 20_000_000;

impl Docker {
    pub(super) async fn read_output(&self, id: &str, range: OutputRange) -> Result<Told<OutputLine>> {
        let terminal = self.has_terminal(id).await?;
        let mut lines = self.request_output(id, range, terminal).await?;
        if !range.follow {
            return Ok(lines);
        }
        let (docker, id) = (self.clone(), id.to_owned());
        Ok(Box::pin(async_stream::try_stream! {
            let mut newest = Newest::default();
            while let Some(line) = lines.try_next().await? {
                newest.note(&line);
                yield line;
            }
            // When a container ends, the engine ends its log, too, and is often faster than the last lines.
            let (rest, mut known) = newest.rest_of(range);
            let mut rest = match docker.request_output(&id, rest, terminal).await {
                Err(error) if error.code == "container_not_found" => return,
                rest => rest?,
            };
            while let Some(line) = rest.try_next().await? {
                if known == 0 {
                    yield line;
                }
                known = known.saturating_sub(1);
            }
        }))
    }

    async fn request_output(&self, id: &str, range: OutputRange, terminal: bool) -> Result<Told<OutputLine>> {
        let mut uri = format!("/containers/{}/logs?stdout=1&stderr=1&timestamps=1&follow={}", part(id), u8::from(range.follow));
        if let Some(nanos) = range.since_nanos {
            uri = format!("{uri}&since={}", moment(nanos));
        }
        if let Some(tail) = range.tail {
            uri = format!("{uri}&tail={tail}");
        }
        let answer = self.open(&uri).await?;
        Ok(Box::pin(async_stream::try_stream! {
            let _connection = answer.connection;
            let mut body = answer.response.into_body();
            let mut decoder = Decoder::new(terminal);
            loop {
                match next(&mut body, decoder.is_holding()).await? {
                    Next::Bytes(mut bytes) => {
                        while let Some(lines) = decoder.push(&mut bytes)? {
                            for line in lines {
                                yield line;
                            }
                        }
                    }
                    Next::Quiet => {
                        for line in decoder.let_go() {
                            yield line;
                        }
                    }
                    Next::End => break,
                }
            }
            for line in decoder.let_go() {
                yield line;
            }
        }))
    }
}

/// The times of the lines that were given last, to know them again. Both outputs are written side by side, so that times
/// are not quite in order; the lines themselves always come in the same.
#[derive(Default)]
struct Newest {
    newest: i64,
    seen: VecDeque<i64>,
}

impl Newest {
    fn note(&mut self, line: &OutputLine) {
        self.newest = self.newest.max(line.nanos);
        self.seen.push_back(line.nanos);
        while self.seen.front().is_some_and(|at| *at < self.oldest()) {
            self.seen.pop_front();
        }
    }

    fn oldest(&self) -> i64 {
        self.newest - SIDE_BY_SIDE_NANOS
    }

    /// What is still to be read: with how many lines that were given already it begins.
    fn rest_of(&self, range: OutputRange) -> (OutputRange, usize) {
        if self.seen.is_empty() {
            return (OutputRange { follow: false, ..range }, 0);
        }
        let known = self.seen.iter().filter(|at| **at >= self.oldest()).count();
        (OutputRange { since_nanos: Some(self.oldest()), ..OutputRange::default() }, known)
    }
}

enum Next {
    Bytes(Bytes),
    /// Nothing came for a while.
    Quiet,
    End,
}

async fn next(body: &mut Incoming, holding: bool) -> Result<Next> {
    loop {
        let frame = if holding {
            match tokio::time::timeout(UNFINISHED, body.frame()).await {
                Ok(frame) => frame,
                Err(_) => return Ok(Next::Quiet),
            }
        } else {
            body.frame().await
        };
        match frame {
            None => return Ok(Next::End),
            Some(frame) => {
                if let Ok(bytes) = frame.map_err(broken)?.into_data() {
                    return Ok(Next::Bytes(bytes));
                }
            }
        }
    }
}

/// From the engine's bytes to lines.
enum Decoder {
    /// One stream; each of the engine's messages begins with a chunk of the answer, though a chunk may also go on with one.
    Terminal(Cutter),
    Apart {
        demux: Demux,
        stdout: Cutter,
        stderr: Cutter,
    },
}

impl Decoder {
    fn new(terminal: bool) -> Self {
        if terminal {
            return Self::Terminal(Cutter::new(false));
        }
        Self::Apart { demux: Demux::default(), stdout: Cutter::new(false), stderr: Cutter::new(true) }
    }

    /// The lines that end in the next piece of `bytes`; `None` when all of it was taken.
    fn push(&mut self, bytes: &mut Bytes) -> Result<Option<Vec<OutputLine>>> {
        match self {
            Self::Terminal(_) if bytes.is_empty() => Ok(None),
            Self::Terminal(cutter) => Ok(Some(cutter.push(&std::mem::take(bytes), true))),
            Self::Apart { demux, stdout, stderr } => {
                let Some(piece) = demux.next(bytes).map_err(|e| fault(e.to_string()))? else { return Ok(None) };
                match piece.source {
                    Source::Stdout => Ok(Some(stdout.push(&piece.bytes, piece.begins))),
                    Source::Stderr => Ok(Some(stderr.push(&piece.bytes, piece.begins))),
                    Source::Engine => Err(fault(String::from_utf8_lossy(&piece.bytes).trim())),
                }
            }
        }
    }

    fn is_holding(&self) -> bool {
        match self {
            Self::Terminal(cutter) => cutter.is_holding(),
            Self::Apart { stdout, stderr, .. } => stdout.is_holding() || stderr.is_holding(),
        }
    }

    /// Everything that is held, though it has no end.
    fn let_go(&mut self) -> Vec<OutputLine> {
        match self {
            Self::Terminal(cutter) => cutter.let_go().into_iter().collect(),
            Self::Apart { stdout, stderr, .. } => stdout.let_go().into_iter().chain(stderr.let_go()).collect(),
        }
    }
}
