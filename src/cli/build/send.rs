//! The build on its way to the service, until that has accepted it or the caller does not want to wait.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::again::{Patience, again, heard};
use super::pieces::Pieces;
use super::request::{Request, Source};
use super::show::Show;
use super::upload::{self, Sent};
use super::{FRAME, cancel};
use crate::cli::show::text;
use crate::cli::terminal::Ends;
use crate::client::{Client, Refused};

const BUILDS: &str = "/api/v1/builds";
/// How long an interrupted command waits for the id of a build that was sent whole: it has to be cancelled.
const ANSWER: Duration = Duration::from_secs(10);

/// Sends it. An exit code instead of the build when the caller did not want to wait for it.
pub(super) async fn submit(
    client: &Client,
    request: Request,
    patience: &Patience,
    shown: &mut dyn Show,
    ends: &mut Ends,
) -> anyhow::Result<Result<Value, ExitCode>> {
    let sent = request.sent.clone();
    let mut answer = Box::pin(send(client, request, patience));
    let mut frame = interval(FRAME);
    frame.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            accepted = &mut answer => return match accepted {
                Ok(build) => Ok(Ok(build)),
                Err(error) => Err(sent.fault().unwrap_or(error)),
            },
            _ = frame.tick() => {
                if let Some(trouble) = sent.take_trouble() {
                    shown.note(&format!("{trouble}: it is tried again"));
                }
                if sent.is_reading() { shown.reading() } else { shown.uploading(sent.bytes(), sent.total()) }
            }
            number = ends.next() => {
                let last = if sent.is_whole() { take_back(client, &mut answer, shown, ends).await } else { NOTHING.into() };
                shown.leave(&last);
                return Ok(Err(ExitCode::from(128 + number)));
            }
        }
    }
}

/// The end of a command that was interrupted before it sent anything.
pub(super) fn nothing_sent(shown: &mut dyn Show, signal: u8) -> ExitCode {
    shown.leave(NOTHING);
    ExitCode::from(128 + signal)
}

const NOTHING: &str = "interrupted; nothing is built";
const PERHAPS: &str = "interrupted; the build may have been accepted: see dockwright ps --builds";

/// Ends a build whose id is not known yet; the last words.
async fn take_back(
    client: &Client,
    answer: &mut (impl Future<Output = anyhow::Result<Value>> + Unpin),
    shown: &mut dyn Show,
    ends: &mut Ends,
) -> String {
    shown.note("interrupted: the build is cancelled as soon as the service tells its id; once more leaves at once");
    let cancelled = async {
        match timeout(ANSWER, answer).await {
            Ok(Ok(build)) => match cancel(client, &text(&build["id"])).await {
                Ok(_) => "interrupted; the build is cancelled".into(),
                Err(error) if is_over(&error) => {
                    format!("interrupted; the build has ended: dockwright inspect {}", text(&build["id"]))
                }
                Err(error) => format!("interrupted; the build {} could not be cancelled: {error:#}", text(&build["id"])),
            },
            Ok(Err(error)) if error.downcast_ref::<Refused>().is_some_and(|refused| refused.status < 500) => NOTHING.into(),
            Ok(Err(_)) | Err(_) => PERHAPS.into(),
        }
    };
    tokio::select! {
        last = cancelled => last,
        _ = ends.next() => PERHAPS.into(),
    }
}

/// Whether there was nothing left to cancel.
pub(super) fn is_over(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.code == "already_finished")
}

async fn send(client: &Client, request: Request, patience: &Patience) -> anyhow::Result<Value> {
    let Request { parts, sent, source } = request;
    let told = |error: &anyhow::Error| sent.failed_once(error);
    match source {
        Source::Parts => {
            sent.is_all();
            again(patience, told, async || post(client, patience, &sent, parts.form()).await).await
        }
        // It can be read once.
        Source::Input(body) => post(client, patience, &sent, upload::context(parts.form(), body)).await,
        Source::Whole(tree) => {
            again(patience, told, async || post(client, patience, &sent, upload::folder(parts.form(), &tree, &sent)).await).await
        }
        Source::Pieces(tree) => {
            sent.read_on(true);
            let pieces = Pieces::of(&tree, client.url()).await?;
            let mut tries = 0;
            loop {
                tries += 1;
                let Some(manifest) = pieces.send(client, patience, &sent).await? else {
                    let whole = async || post(client, patience, &sent, upload::folder(parts.form(), &tree, &sent)).await;
                    return again(patience, told, whole).await;
                };
                sent.is_all();
                let named = async || post(client, patience, &sent, parts.form().text("manifest", manifest.clone())).await;
                match again(patience, told, named).await {
                    // Blobs that nothing had a hold on yet may be collected.
                    Err(error) if tries == 1 && is_missing(&error) => {}
                    answered => return answered,
                }
            }
        }
    }
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.code == "blobs_missing")
}

async fn post(client: &Client, patience: &Patience, sent: &Sent, form: reqwest::multipart::Form) -> anyhow::Result<Value> {
    let answer = heard(sent, patience.answer, client.upload(BUILDS, form, &sent.key)).await;
    answer.map_err(|error| sent.fault().unwrap_or(error))
}
