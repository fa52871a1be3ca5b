//! One process in a container, from its start to its end, whoever is at its terminal meanwhile.
//!
//! While somebody is there, no more is read of its output than they take: a slow reader slows the process, as a slow terminal does.
//! While nobody is, all is read and the end of it kept, so that the process goes on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::screen::Screen;
use crate::engine::containers::{Exec, Runtime};
use crate::engine::frames::{FrameReader, Source};

const READ_BYTES: usize = 16 * 1024;
/// Pieces of output that wait for whoever is there.
const WAITING: usize = 8;
/// How often the engine is asked how a process ended whose output has: at first, and after a while.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// An output that was silent for so long may be held open by something else than its process, or by the engine.
const QUIET: Duration = Duration::from_secs(10);
/// Answers that the engine may owe in a row before it is taken to know no more of the process.
const UNANSWERED: u32 = 10;

/// What a terminal tells whoever is at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    Output {
        stderr: bool,
        bytes: Bytes,
    },
    /// The process has ended, with this code; none when the engine could not say.
    Ended(Option<i64>),
}

/// Why somebody was sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parted {
    /// The same account is there from elsewhere.
    TakenOver,
    /// The service stops, and the process with it.
    Stopped,
}

/// What comes from whoever is there.
#[derive(Debug)]
pub enum Typed {
    Bytes(Bytes),
    Size {
        columns: u16,
        rows: u16,
    },
    /// There is no more input.
    End,
}

/// The ends that somebody who comes holds.
pub(super) struct Ends {
    pub news: mpsc::Receiver<News>,
    pub parted: watch::Receiver<Option<Parted>>,
}

/// The same, as the process's task holds them.
pub(super) struct Newcomer {
    news: mpsc::Sender<News>,
    parted: watch::Sender<Option<Parted>>,
}

impl Newcomer {
    pub(super) fn new() -> (Self, Ends) {
        let (news, told) = mpsc::channel(WAITING);
        let (parted, why) = watch::channel(None);
        (Self { news, parted }, Ends { news: told, parted: why })
    }
}

/// Both outputs of a process.
enum Output {
    Terminal(Pin<Box<dyn AsyncRead + Send>>, BytesMut),
    Pipes(FrameReader<Pin<Box<dyn AsyncRead + Send>>>),
}

impl Output {
    /// The next bytes, and whether they are of `stderr`; `None` at the end. Nothing is lost when it is dropped while it waits.
    async fn next(&mut self) -> io::Result<Option<(bool, Bytes)>> {
        match self {
            Self::Terminal(output, buffer) => {
                buffer.reserve(READ_BYTES);
                let read = output.read_buf(buffer).await?;
                Ok((read > 0).then(|| (false, buffer.split().freeze())))
            }
            Self::Pipes(frames) => Ok(frames.next().await?.map(|piece| (piece.source != Source::Stdout, piece.bytes))),
        }
    }
}

/// The process, and who is at its terminal.
pub(super) struct Session {
    engine: Arc<dyn Runtime>,
    container: String,
    exec: String,
    keep: Duration,
    output: Output,
    /// Whether more may come of it.
    open: bool,
    /// When something came of it last.
    heard: Instant,
    here: Option<Newcomer>,
    /// What whoever is here must take before anything else is read.
    waiting: Option<News>,
    screen: Screen,
    ended: Option<News>,
    /// When nobody came back in time.
    abandoned: Instant,
}

/// What goes in, for [`Session::run`].
pub(super) struct Inlets {
    pub newcomers: mpsc::Receiver<Newcomer>,
    pub typed: mpsc::Receiver<Typed>,
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
}

impl Session {
    pub(super) fn new(
        engine: Arc<dyn Runtime>,
        container: String,
        exec: Exec,
        tty: bool,
        keep: Duration,
    ) -> (Self, Pin<Box<dyn AsyncWrite + Send>>) {
        let output = match tty {
            true => Output::Terminal(exec.output, BytesMut::new()),
            false => Output::Pipes(FrameReader::new(exec.output)),
        };
        let session = Self {
            engine,
            container,
            exec: exec.id,
            keep,
            output,
            open: true,
            heard: Instant::now(),
            here: None,
            waiting: None,
            screen: Screen::default(),
            ended: None,
            abandoned: Instant::now() + keep,
        };
        (session, exec.input)
    }

    /// Until the process has ended and that was told, until it was abandoned, or until `stop`. Leaves nothing of it in the container.
    pub(super) async fn run(mut self, mut inlets: Inlets, stop: CancellationToken) {
        let engine = Arc::clone(&self.engine);
        let exec = self.exec.clone();
        let types = type_in(&*engine, &exec, &mut inlets.typed, inlets.input);
        tokio::select! {
            () = self.tell(&mut inlets.newcomers, &stop) => {}
            () = types => {}
        }
        // Who comes now is told that there is no such terminal any more.
        drop(inlets.newcomers);
        if let (Some(here), true) = (&self.here, stop.is_cancelled()) {
            here.parted.send_replace(Some(Parted::Stopped));
        }
        self.here = None;
        // Also one that has ended: what it has started goes with it.
        if let Err(error) = engine.end(&self.container, &exec).await {
            tracing::warn!(container = self.container, %error, "a terminal's process may be left");
        }
    }

    async fn tell(&mut self, newcomers: &mut mpsc::Receiver<Newcomer>, stop: &CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(newcomer) = newcomers.recv() => self.greet(newcomer),
                () = gone(self.here.as_ref()) => self.leave(),
                () = tokio::time::sleep_until(self.abandoned), if self.here.is_none() => return,
                () = room(self.here.as_ref()), if self.waiting.is_some() => {
                    if self.hand_over() {
                        return;
                    }
                }
                read = self.output.next(), if self.open && self.waiting.is_none() => self.take(read),
                code = exit_code(&*self.engine, &self.exec), if !self.open && self.ended.is_none() => self.end(code),
                code = silent_end(&*self.engine, &self.exec, self.heard), if self.open && self.waiting.is_none() => self.end(Some(code)),
            }
        }
    }

    /// Whoever was there before is sent away.
    fn greet(&mut self, newcomer: Newcomer) {
        let screen = self.screen.shown();
        if !screen.is_empty() {
            // There is room, because nothing was told yet.
            let _ = newcomer.news.try_send(News::Output { stderr: false, bytes: screen });
        }
        if let Some(before) = self.here.replace(newcomer) {
            before.parted.send_replace(Some(Parted::TakenOver));
        }
        // What was still to be told is on the screen.
        self.waiting = self.ended.clone();
    }

    fn leave(&mut self) {
        self.here = None;
        self.waiting = None;
        self.abandoned = Instant::now() + self.keep;
    }

    fn end(&mut self, code: Option<i64>) {
        self.open = false;
        self.ended = Some(News::Ended(code));
        self.waiting = self.ended.clone();
    }

    fn take(&mut self, read: io::Result<Option<(bool, Bytes)>>) {
        self.heard = Instant::now();
        match read {
            Ok(Some((stderr, bytes))) => {
                self.screen.push(&bytes);
                self.waiting = self.here.is_some().then_some(News::Output { stderr, bytes });
            }
            Ok(None) => self.open = false,
            Err(error) => {
                tracing::debug!(container = self.container, %error, "a terminal's output broke off");
                self.open = false;
            }
        }
    }

    /// Tells what waits; true when nothing comes after it.
    fn hand_over(&mut self) -> bool {
        let (Some(here), Some(news)) = (&self.here, self.waiting.take()) else { return false };
        let last = matches!(news, News::Ended(_));
        // There is room; or they are gone, which is seen next.
        here.news.try_send(news).is_ok() && last
    }
}

/// Comes when whoever is here goes away.
async fn gone(here: Option<&Newcomer>) {
    match here {
        Some(here) => here.news.closed().await,
        None => std::future::pending().await,
    }
}

/// Comes when whoever is here can take more.
async fn room(here: Option<&Newcomer>) {
    match here {
        Some(here) => drop(here.news.reserve().await),
        None => std::future::pending().await,
    }
}

/// How a process ended whose output has; it may go on for a while without one.
async fn exit_code(engine: &dyn Runtime, exec: &str) -> Option<i64> {
    let (mut pause, longest) = LOOK_AGAIN;
    let mut unanswered = 0;
    loop {
        match engine.exit_code(exec).await {
            Ok(Some(code)) => return Some(code),
            Ok(None) => unanswered = 0,
            Err(_) => unanswered += 1,
        }
        if unanswered == UNANSWERED {
            return None;
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(longest);
    }
}

/// Comes when a process has ended although its output has not.
async fn silent_end(engine: &dyn Runtime, exec: &str, heard: Instant) -> i64 {
    let mut look = tokio::time::interval_at(heard + QUIET, QUIET);
    loop {
        look.tick().await;
        if let Ok(Some(code)) = engine.exit_code(exec).await {
            return code;
        }
    }
}

/// Hands on what is typed, in order. Never ends: a process that takes no input has one all the same.
async fn type_in(
    engine: &dyn Runtime,
    exec: &str,
    typed: &mut mpsc::Receiver<Typed>,
    mut input: Pin<Box<dyn AsyncWrite + Send>>,
) {
    while let Some(typed) = typed.recv().await {
        let done = match typed {
            Typed::Bytes(bytes) => match input.write_all(&bytes).await {
                Ok(()) => input.flush().await,
                refused => refused,
            },
            Typed::End => input.shutdown().await,
            Typed::Size { columns, rows } => {
                engine.resize(exec, columns, rows).await.map_err(|error| io::Error::other(error.to_string()))
            }
        };
        if let Err(error) = done {
            tracing::debug!(exec, %error, "a terminal's input was not taken");
        }
    }
    std::future::pending::<()>().await;
}
