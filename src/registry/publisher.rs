//! One image to one destination.
//!
//! The registry is asked first whether these credentials may push there, before the destination's name is given to
//! the image on the engine. The engine's names are shared by all: while the name stands there, `FROM that-name` in anybody's
//! Dockerfile means our image. Somebody who may push to the repository may say what its names mean; nobody else may.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::admission::Admission;
use super::borrowed::{Borrowed, Desk, Marks, give_back};
use super::client::{Manifest, Refusal, RegistryClient};
use super::progress::{Commits, LONGEST_WAIT, Progress, Tries};
use super::refusal::{error, passing};
use crate::domain::{Credentials, Digest, ErrorKind, ImageRef, LogLine};
use crate::engine::{Images, Lines, Pass, Publish, Result};

/// How long a push that was dropped before its last layer was through may take to stop (0.2 s were seen). The request that is under
/// way is finished by the engine, but it is only one for a layer; nothing follows it.
const ENGINE_STOPS: Duration = Duration::from_millis(400);
/// How long a cancel waits for the registry to say what a tag names: with [`ENGINE_STOPS`] it must stay below a second.
const SETTLE_ASK: Duration = Duration::from_millis(350);
/// The first wait before a tag is read back again, which doubles up to sixteen times that.
const READ_AGAIN: Duration = Duration::from_millis(25);
/// How often the tag is looked at while the engine may still be writing it.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How stubborn a push is.
#[derive(Debug, Clone, Copy)]
pub struct PushPolicy {
    /// How often it is tried in all, at least once.
    pub attempts: usize,
    /// The wait before the second try; it doubles from try to try.
    pub base_delay: Duration,
    /// A push that says nothing for so long is given up: engines wait for ever for a registry that hangs.
    pub silence: Duration,
    /// How long a cancel waits for a manifest that the engine had already begun to send: it does not stop that (seen with
    /// Engine 20.10), so only the registry's answer tells whether the tag has moved.
    pub commit: Duration,
}

impl Default for PushPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            base_delay: Duration::from_millis(500),
            silence: Duration::from_secs(60),
            commit: Duration::from_secs(5),
        }
    }
}

/// What a cancelled push came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// The registry's tag names the image: the push was through before it was cancelled.
    Pushed(Digest),
    /// It does not, and will not because of this push.
    NotPushed,
    /// The engine had begun to write the tag, and the registry has not taken it within [`PushPolicy::commit`]: it may yet.
    Uncertain,
}

/// Publishes images of one engine. Cheap to clone.
pub struct Publisher<I: Images + ?Sized + 'static> {
    images: Arc<I>,
    registry: Arc<RegistryClient>,
    policy: PushPolicy,
    marks: Marks,
    desk: Desk,
    commits: Commits,
}

impl<I: Images + ?Sized + 'static> Clone for Publisher<I> {
    fn clone(&self) -> Self {
        let (images, registry) = (Arc::clone(&self.images), Arc::clone(&self.registry));
        let (marks, desk, commits) = (self.marks.clone(), self.desk.clone(), self.commits.clone());
        Self { images, registry, policy: self.policy, marks, desk, commits }
    }
}

impl<I: Images + ?Sized + 'static> Publisher<I> {
    /// `installation` is the same for all processes that share a store, and no other's: they alone give back each other's names.
    #[must_use]
    pub fn new(images: Arc<I>, registry: Arc<RegistryClient>, policy: PushPolicy, installation: &str) -> Self {
        Self { images, registry, policy, marks: Marks::of(installation), desk: Desk::default(), commits: Commits::default() }
    }

    /// Pushes the image and answers the digest that the destination's tag then names. Progress and retries go to `lines`.
    /// One push to a destination at a time: across processes the caller sees to it. Dropping the future
    /// stops the push; see [`Self::settle_after_cancel`].
    ///
    /// # Errors
    /// Those of [`RegistryClient::may_push`] and of the engine; `registry_timeout` when the push fell silent,
    /// `digest_mismatch` when the tag names something else afterwards (kind registry). Passing ones were retried.
    pub async fn publish(
        &self,
        image_id: &Digest,
        destination: &ImageRef,
        credentials: Option<&Credentials>,
        lines: &Lines,
    ) -> Result<Digest> {
        self.publish_told(image_id, destination, credentials, lines, &watch::Sender::new(Progress::default())).await
    }

    /// [`Self::publish`]; how far it is, `told` knows.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn publish_told(
        &self,
        image_id: &Digest,
        destination: &ImageRef,
        credentials: Option<&Credentials>,
        lines: &Lines,
        told: &watch::Sender<Progress>,
    ) -> Result<Digest> {
        let mut tries = Tries::new(self.policy, destination, lines, told);
        tries.begin();
        let mut admission = loop {
            match self.registry.may_push(destination, credentials).await {
                Ok(admission) => break admission,
                Err(refusal) => tries.again(refusal).await?,
            }
            tries.begin();
        };
        let borrowed = Borrowed::take(&self.images, &self.marks, &self.desk, image_id, destination).await?;
        let pushed = loop {
            let refusal = match self.attempt(image_id, destination, credentials, &admission, lines, &mut tries).await {
                Ok(digest) => break Ok(digest),
                Err(refusal) => admission.judge(refusal),
            };
            if let Err(last) = tries.again(refusal).await {
                break Err(last);
            }
            tries.begin();
            if admission.until.is_some()
                && let Ok(anew) = self.registry.may_push(destination, credentials).await
            {
                admission = anew;
            }
        };
        let given_back = borrowed.give_back().await;
        let digest = pushed?;
        if let Err(error) = given_back {
            tracing::warn!(image = %destination, %error, "a local name is still borrowed; it is given back in the background");
        }
        Ok(digest)
    }

    /// Pushes once, and reads the tag back.
    async fn attempt(
        &self,
        image_id: &Digest,
        destination: &ImageRef,
        credentials: Option<&Credentials>,
        admission: &Admission,
        lines: &Lines,
        tries: &mut Tries<'_>,
    ) -> Result<Digest, Refusal> {
        let digest = self.push_watched(destination, admission.pass.as_ref(), lines, tries).await?;
        let found = self.read_back(destination, credentials).await?;
        let found = found.ok_or_else(|| mismatch(format!("{destination} is not there after it was pushed")))?;
        if found.digest != digest {
            return Err(mismatch(format!("{destination} names {} after {digest} was pushed", found.digest)));
        }
        // An engine with the containerd store knows an image by its manifest, the others by its configuration.
        if found.digest != *image_id && found.config.as_ref() != Some(image_id) {
            // The local name was moved between our tagging and the engine's reading it.
            let message = format!("{destination} was pushed with another image than the one that was built");
            return Err(passing("digest_mismatch", message).into());
        }
        Ok(digest)
    }

    /// Asks what the tag names. A passing fault is waited out here: registries on plain files can stumble over a link that
    /// another push is writing at that moment, which is no reason to push again.
    async fn read_back(&self, destination: &ImageRef, credentials: Option<&Credentials>) -> Result<Option<Manifest>, Refusal> {
        let mut wait = READ_AGAIN;
        loop {
            match self.registry.manifest(destination, credentials).await {
                Err(refusal) if refusal.error.transient && wait < READ_AGAIN * 16 => {
                    tokio::time::sleep(wait.max(refusal.retry_after.unwrap_or_default()).min(LONGEST_WAIT)).await;
                    wait *= 2;
                }
                answer => return answer,
            }
        }
    }

    /// Pushes, and gives up when nothing is heard for too long. A reader that is slow to take the lines is not the registry's silence.
    async fn push_watched(
        &self,
        destination: &ImageRef,
        pass: Option<&Pass>,
        lines: &Lines,
        tries: &mut Tries<'_>,
    ) -> Result<Digest, Refusal> {
        let (own, mut told) = mpsc::channel::<LogLine>(32);
        let mut push = self.images.push(destination, pass, own);
        let mut deadline = Instant::now() + self.policy.silence;
        let mut layers = self.commits.begin(destination);
        let mut ended = None;
        loop {
            tokio::select! {
                biased;
                line = told.recv() => match (line, &ended) {
                    (Some(line), _) => {
                        tries.heard(&line);
                        layers.heard(&line.text);
                        tries.sent(layers.bytes());
                        // Nobody reads any more: the push goes on all the same.
                        let _ = lines.send(line).await;
                        deadline = Instant::now() + self.policy.silence;
                    }
                    (None, Some(_)) => break,
                    (None, None) => { ended = Some(push.as_mut().await); break }
                },
                result = push.as_mut(), if ended.is_none() => ended = Some(result),
                () = tokio::time::sleep_until(deadline) => {
                    let seconds = self.policy.silence.as_secs();
                    let message = format!("{} said nothing for {seconds} s during the push", destination.host());
                    return Err(passing("registry_timeout", message).into());
                }
            }
        }
        layers.ended();
        ended
            .unwrap_or_else(|| Err(error(ErrorKind::Internal, "internal", "the push ended without a result")))
            .map_err(Refusal::from)
    }

    /// To be called after a publish was dropped, before its cancel is told as done: waits until the engine has stopped and
    /// the local name is given back, then looks what the registry's tag names. Takes well under a second, except when the push
    /// was dropped while the manifest was on its way: then up to [`PushPolicy::commit`].
    ///
    /// # Errors
    /// When the registry cannot be asked; the tag may then have moved before the cancel.
    pub async fn settle_after_cancel(
        &self,
        image_id: &Digest,
        destination: &ImageRef,
        credentials: Option<&Credentials>,
    ) -> Result<Settled> {
        let name = destination.to_string();
        let until = Instant::now() + self.policy.commit;
        let committing = self.commits.was_committing(destination);
        if !committing {
            tokio::time::sleep(ENGINE_STOPS).await;
        }
        let _turn = self.desk.turn(&name).await;
        loop {
            let asked = self.registry.manifest(destination, credentials);
            // Nothing is under way any more: a registry that hangs need not be waited for.
            let found = if committing { asked.await? } else { in_time(asked).await? };
            let ours = found.filter(|found| found.digest == *image_id || found.config.as_ref() == Some(image_id));
            match ours {
                Some(found) => return Ok(Settled::Pushed(found.digest)),
                None if !committing => return Ok(Settled::NotPushed),
                None if Instant::now() >= until => return Ok(Settled::Uncertain),
                None => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// Destinations whose local name was left borrowed by a process that was killed. Each is to be given to
    /// [`Self::recover`] by somebody who holds the destination's lock, because its push may be going on elsewhere.
    ///
    /// # Errors
    /// When the engine is away.
    pub async fn interrupted(&self) -> Result<Vec<ImageRef>> {
        let tags = self.images.tags().await?;
        let named = tags.iter().filter_map(|tag| tag.parse::<ImageRef>().ok());
        Ok(named.filter(|image| tags.contains(&self.marks.pushing(&image.to_string()))).collect())
    }

    /// Gives back the local name of a destination, if it is borrowed.
    ///
    /// # Errors
    /// When the engine is away.
    pub async fn recover(&self, destination: &ImageRef) -> Result<()> {
        let name = destination.to_string();
        let _turn = self.desk.turn(&name).await;
        give_back(self.images.as_ref(), &self.marks, &name).await
    }
}

#[async_trait::async_trait]
impl<I: Images + ?Sized + 'static> Publish for Publisher<I> {
    async fn publish(
        &self,
        image: &Digest,
        destination: &ImageRef,
        credentials: Option<&Credentials>,
        lines: &Lines,
    ) -> Result<Digest> {
        Self::publish(self, image, destination, credentials, lines).await
    }
}

/// Waits for an answer that is only good to know, for as long as a cancel has time for it.
async fn in_time<T>(asked: impl Future<Output = Result<T, Refusal>>) -> Result<T> {
    let late = || error(ErrorKind::Registry, "registry_timeout", "the registry did not answer in time after the cancel");
    tokio::time::timeout(SETTLE_ASK, asked).await.map_err(|_| late())?.map_err(|refusal| refusal.error)
}

fn mismatch(message: String) -> Refusal {
    error(ErrorKind::Registry, "digest_mismatch", message).into()
}
