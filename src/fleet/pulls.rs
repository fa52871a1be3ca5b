//! One pull for many runs: whoever wants an image that is being pulled with the same credentials waits for the pull that is under way.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::seen::away;
use crate::domain::{Credentials, Digest, ErrorKind, Owner, RunImage};
use crate::engine::containers::{PullProgress, Runtime};
use crate::engine::{EngineError, Pass};

/// How far a pull is, layer by layer.
#[derive(Debug, Clone, Default)]
pub struct Pull {
    pub layers: BTreeMap<String, PullProgress>,
    /// What the engine said of the image as a whole, in order.
    pub told: Vec<String>,
    /// The digest that it was pulled by instead of its tag.
    pub pinned: Option<Digest>,
    /// Set when it has ended.
    pub ended: Option<Result<(), EngineError>>,
}

/// With whose credentials, and what: credentials are never shared between owners, and a pull without any is everybody's.
type Key = (Option<(Owner, String)>, String);

#[derive(Default)]
pub(super) struct Pulls {
    // A std mutex, for it is never held across an await.
    under_way: Arc<Mutex<HashMap<Key, watch::Receiver<Pull>>>>,
}

/// Code of a pull that was given up because nothing was told of it any more.
pub(super) const SILENT: &str = "registry_timeout";
/// Words that are kept of the image as a whole.
const TOLD: usize = 50;

impl Pulls {
    /// Joins the pull that is under way, or begins one. It goes on until the last reader of it is dropped, or nothing is told of it
    /// for `silence`.
    pub(super) fn join(
        &self,
        engine: &Arc<dyn Runtime>,
        owner: &Owner,
        image: &RunImage,
        credentials: Option<Credentials>,
        silence: Duration,
    ) -> watch::Receiver<Pull> {
        let key: Key = (credentials.as_ref().map(|c| (owner.clone(), c.username().to_owned())), image.reference());
        let mut under_way = self.under_way.lock().expect("not poisoned, because nothing panics while it is held");
        if let Some(pull) = under_way.get(&key).filter(|pull| pull.borrow().ended.is_none()) {
            return pull.clone();
        }
        let (sender, receiver) = watch::channel(Pull::default());
        under_way.insert(key.clone(), receiver.clone());
        let (engine, all, image) = (Arc::clone(engine), Arc::clone(&self.under_way), image.clone());
        tokio::spawn(async move {
            let pulling = pull(&*engine, &image, credentials.as_ref(), &sender, silence);
            let ended = tokio::select! {
                ended = pulling => ended,
                // One reader is the map's.
                () = abandoned(&sender) => Err(given_up()),
            };
            all.lock().expect("not poisoned, because nothing panics while it is held").remove(&key);
            sender.send_modify(|pull| pull.ended = Some(ended));
        });
        receiver
    }
}

/// Nobody reads it, unless somebody came in the very moment: then it is tried again.
fn given_up() -> EngineError {
    EngineError { message: "the pull was given up".into(), ..away() }
}

/// Comes when nobody but the map reads a pull any more.
async fn abandoned(sender: &watch::Sender<Pull>) {
    let mut look = tokio::time::interval(Duration::from_millis(200));
    loop {
        look.tick().await;
        if sender.receiver_count() <= 1 {
            return;
        }
    }
}

async fn pull(
    engine: &dyn Runtime,
    image: &RunImage,
    credentials: Option<&Credentials>,
    told: &watch::Sender<Pull>,
    silence: Duration,
) -> Result<(), EngineError> {
    let image = match credentials {
        Some(credentials) => pinned(engine, image, credentials).await?,
        None => image.clone(),
    };
    if credentials.is_some() {
        told.send_modify(|pull| pull.pinned.clone_from(&image.digest));
    }
    let (sender, mut progress) = mpsc::channel(64);
    let reference = image.reference();
    let mut pulling = std::pin::pin!(engine.pull(&reference, credentials, sender));
    loop {
        tokio::select! {
            ended = &mut pulling => {
                while let Ok(progress) = progress.try_recv() {
                    told.send_modify(|pull| pull.add(progress));
                }
                return ended;
            }
            Some(progress) = progress.recv() => told.send_modify(|pull| pull.add(progress)),
            // Begins anew with each progress. The engine itself waits for ever.
            () = tokio::time::sleep(silence) => return Err(silent(silence)),
        }
    }
}

fn silent(silence: Duration) -> EngineError {
    let message = format!("the registry has sent nothing for {} s; the pull was given up", silence.as_secs());
    EngineError { kind: ErrorKind::Registry, code: SILENT, message, dockerfile_line: None, transient: true }
}

/// By its digest: a tag would stand on the engine for everybody, and let their builds read what these credentials brought.
async fn pinned(engine: &dyn Runtime, image: &RunImage, credentials: &Credentials) -> Result<RunImage, EngineError> {
    if image.digest.is_some() {
        return Ok(image.clone());
    }
    let pass = Pass::Password(credentials.clone());
    let digest = engine.remote_digest(&image.image, Some(&pass)).await?.ok_or_else(|| EngineError {
        kind: ErrorKind::User,
        code: "image_not_found",
        message: format!("{image} is not at its registry: manifest unknown"),
        dockerfile_line: None,
        transient: false,
    })?;
    Ok(RunImage { image: image.image.clone(), digest: Some(digest) })
}

impl Pull {
    fn add(&mut self, progress: PullProgress) {
        if !progress.layer.is_empty() {
            self.layers.insert(progress.layer.clone(), progress);
        } else if self.told.len() < TOLD {
            self.told.push(progress.status);
        }
    }
}

pub(super) const RATE_LIMITED: &str = "rate_limited";

/// A registry that limits pulls says so in its own words; what to do about it stands behind them.
pub(super) fn explained(error: EngineError) -> EngineError {
    if error.code != RATE_LIMITED {
        return error;
    }
    let advice = "the registry limits how often images are pulled; store credentials for it, or wait";
    EngineError { message: format!("{} ({advice})", error.message), transient: false, ..error }
}
