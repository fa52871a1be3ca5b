//! One pull for many runs: whoever wants an image that is being pulled with the same credentials waits for the pull that is under way.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::seen::away;
use crate::domain::{Credentials, ErrorKind, Owner};
use crate::engine::EngineError;
use crate::engine::containers::{PullProgress, Runtime};

/// How far a pull is, layer by layer.
#[derive(Debug, Clone, Default)]
pub struct Pull {
    pub layers: BTreeMap<String, PullProgress>,
    /// What the engine said of the image as a whole, in order.
    pub told: Vec<String>,
    /// Set when it has ended.
    pub ended: Option<Result<(), EngineError>>,
}

/// Whose pull of what: credentials are never shared between owners.
type Key = (Owner, Option<String>, String);

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
        reference: &str,
        credentials: Option<Credentials>,
        silence: Duration,
    ) -> watch::Receiver<Pull> {
        let key: Key = (owner.clone(), credentials.as_ref().map(|c| c.username().to_owned()), reference.to_owned());
        let mut under_way = self.under_way.lock().expect("not poisoned, because nothing panics while it is held");
        if let Some(pull) = under_way.get(&key).filter(|pull| pull.borrow().ended.is_none()) {
            return pull.clone();
        }
        let (sender, receiver) = watch::channel(Pull::default());
        under_way.insert(key.clone(), receiver.clone());
        let (engine, all) = (Arc::clone(engine), Arc::clone(&self.under_way));
        tokio::spawn(async move {
            let reference = key.2.clone();
            let pulling = pull(&*engine, &reference, credentials.as_ref(), &sender, silence);
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
    reference: &str,
    credentials: Option<&Credentials>,
    told: &watch::Sender<Pull>,
    silence: Duration,
) -> Result<(), EngineError> {
    let (sender, mut progress) = mpsc::channel(64);
    let mut pulling = std::pin::pin!(engine.pull(reference, credentials, sender));
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

impl Pull {
    fn add(&mut self, progress: PullProgress) {
        if !progress.layer.is_empty() {
            self.layers.insert(progress.layer.clone(), progress);
        } else if self.told.len() < TOLD {
            self.told.push(progress.status);
        }
    }
}
