//! `dockwright exec`: a process in a container, at this very terminal or in a pipe.

use std::io::{self, IsTerminal as _, Read as _};
use std::process::ExitCode;

use anyhow::{Context, bail};
use bytes::Bytes;
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::container_commands::Exec;
use super::containers::{Newest, container_of};
use crate::client::{Client, Frame, Said, Sayer, Teller};

const READ_BYTES: usize = 32 * 1024;
/// Largest side of a terminal that the service takes.
const SIDE_MAX: u16 = 1000;

/// The process's own exit code; 1 when it could not be learned.
pub(super) async fn exec(client: &Client, wanted: Exec) -> anyhow::Result<ExitCode> {
    if wanted.tty && wanted.interactive && !io::stdin().is_terminal() {
        bail!("standard input is no terminal: leave out -t");
    }
    let container = container_of(client, &wanted.target, Newest::Running).await?;
    let (mut sayer, mut teller) = client.terminal(&format!("{container}/exec?{}", query(&wanted)?)).await?;
    // Before the terminal is changed: no signal may end this in between.
    let mut ends = Ends::new()?;
    let raw = if wanted.tty && wanted.interactive { Some(Raw::enter()?) } else { None };
    let ended = tokio::select! {
        ended = tell(&mut teller) => ended,
        never = say(&mut sayer, &wanted) => Err(never),
        number = ends.next() => Ok(ExitCode::from(128 + number)),
    };
    drop(raw);
    ended
}

fn query(wanted: &Exec) -> anyhow::Result<String> {
    let mut pairs: Vec<(&str, String)> = wanted.command.iter().map(|part| ("cmd", part.clone())).collect();
    if let Some(session) = &wanted.session {
        pairs.push(("session", session.clone()));
    }
    pairs.push(("tty", wanted.tty.to_string()));
    pairs.extend(wanted.user.clone().map(|user| ("user", user)));
    if let Some((columns, rows)) = size().filter(|_| wanted.tty) {
        pairs.extend([("cols", columns.to_string()), ("rows", rows.to_string())]);
    }
    Ok(serde_urlencoded::to_string(pairs)?)
}

/// Columns and rows of this terminal, if it is one.
fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(stdin()).or_else(|_| tcgetwinsize(stdout())).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then(|| (size.ws_col.min(SIDE_MAX), size.ws_row.min(SIDE_MAX)))
}

/// Shows what the process writes, until it ends. A reader that went away ends this, too.
async fn tell(teller: &mut Teller) -> anyhow::Result<ExitCode> {
    let (mut out, mut err) = (tokio::io::stdout(), tokio::io::stderr());
    let (mut of_stderr, mut session) = (false, None);
    loop {
        match teller.next().await.with_context(|| left(session.as_deref()))? {
            Frame::Bytes(bytes) => {
                let written = if of_stderr { write(&mut err, &bytes).await } else { write(&mut out, &bytes).await };
                match written {
                    Err(gone) if gone.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::FAILURE),
                    written => written?,
                }
            }
            Frame::Said(Said::Stream(name)) => of_stderr = name == "stderr",
            Frame::Said(Said::Session(id)) => session = Some(id),
            // As a shell shows it: the last 8 bits.
            Frame::Said(Said::Exit(Some(code))) => return Ok(ExitCode::from(code.to_le_bytes()[0])),
            Frame::Said(Said::Exit(None)) => bail!("the process has ended, and the engine cannot say how"),
            Frame::Closed(code, why) => bail!("the terminal was closed: {why} ({code})"),
        }
    }
}

/// On a thread that nothing waits for: what is shown may be held up, and the end of this may not.
async fn write(out: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes).await?;
    out.flush().await
}

/// What can be done about a connection that broke off.
fn left(session: Option<&str>) -> String {
    let back = session.map(|id| format!("; come back to the process within a minute with --session {id}"));
    format!("no more is heard of the service{}", back.unwrap_or_default())
}

/// Says what is typed and how large the terminal is. Comes back only with an error.
async fn say(sayer: &mut Sayer, wanted: &Exec) -> anyhow::Error {
    match try_say(sayer, wanted).await {
        Ok(never) => match never {},
        // The other direction says why the connection has ended, if it does.
        Err(error) => {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            error
        }
    }
}

async fn try_say(sayer: &mut Sayer, wanted: &Exec) -> anyhow::Result<std::convert::Infallible> {
    let mut typed = wanted.interactive.then(read_input);
    if typed.is_none() && !wanted.tty {
        sayer.end().await?;
    }
    let mut resized = signal(SignalKind::window_change())?;
    // It may have become another one since the request was made; and a process that is come back to has its old one.
    let mut untold = wanted.tty;
    loop {
        if let Some((columns, rows)) = size().filter(|_| std::mem::take(&mut untold)) {
            sayer.size(columns, rows).await?;
        }
        let input = async {
            match &mut typed {
                Some(typed) => typed.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            bytes = input => match bytes {
                Some(bytes) => sayer.bytes(bytes).await?,
                None => {
                    typed = None;
                    sayer.end().await?;
                }
            },
            _ = resized.recv() => untold = wanted.tty,
        }
    }
}

/// Reads standard input on a thread of its own, which the end of this process does not wait for.
fn read_input() -> mpsc::Receiver<Bytes> {
    let (sender, typed) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut buffer = vec![0; READ_BYTES];
        while let Ok(read @ 1..) = io::stdin().lock().read(&mut buffer) {
            if sender.blocking_send(Bytes::copy_from_slice(&buffer[..read])).is_err() {
                return;
            }
        }
    });
    typed
}

/// This terminal hands on every key as it is; dropping it, a panic included, makes it as it was.
struct Raw(Termios);

impl Raw {
    fn enter() -> anyhow::Result<Self> {
        let before = tcgetattr(stdin()).context("cannot read the terminal's settings")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).context("cannot change the terminal's settings")?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}

/// The signals that end a command, so that the terminal is made as it was before.
pub(super) struct Ends([(Signal, u8); 4]);

impl Ends {
    pub(super) fn new() -> io::Result<Self> {
        let of = |kind: SignalKind, number| signal(kind).map(|signal| (signal, number));
        Ok(Self([
            of(SignalKind::hangup(), 1)?,
            of(SignalKind::interrupt(), 2)?,
            of(SignalKind::quit(), 3)?,
            of(SignalKind::terminate(), 15)?,
        ]))
    }

    /// The number of the signal that came.
    pub(super) async fn next(&mut self) -> u8 {
        let [hangup, interrupt, quit, terminate] = &mut self.0;
        tokio::select! {
            _ = hangup.0.recv() => hangup.1,
            _ = interrupt.0.recv() => interrupt.1,
            _ = quit.0.recv() => quit.1,
            _ = terminate.0.recv() => terminate.1,
        }
    }
}
