//! The engine's local name of a destination, borrowed for one push. An engine pushes only what stands under the destination's
//! own name; but its names are everybody's, so afterwards the name must mean what it meant before.
//!
//! Two names of our own make that survive a crash, each for one destination (`HASH` is of its name, and of the installation's,
//! because others may use the same engine and have borrowed names of their own):
//! `dockwright.local/pushing:HASH` names the image that is being pushed, for as long as the destination's name is borrowed;
//! `dockwright.local/kept:HASH` names, and so keeps, the image that the destination's name meant before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::Digest as _;
use tokio::sync::OwnedMutexGuard;

use crate::domain::{Digest, ImageRef, LOCAL_HOST, PUSHING};
use crate::engine::{Images, Result};

/// The repository of the second name; the first one's is [`PUSHING`].
const KEPT: &str = "kept";

/// Makes the two names.
#[derive(Clone)]
pub(super) struct Marks {
    installation: Arc<str>,
}

impl Marks {
    pub(super) fn of(installation: &str) -> Self {
        Self { installation: installation.into() }
    }

    fn mark(&self, kind: &str, destination: &str) -> String {
        let hash = hex::encode(sha2::Sha256::digest(format!("{}\0{destination}", self.installation)));
        format!("{LOCAL_HOST}/{kind}:{}", &hash[..32])
    }

    pub(super) fn pushing(&self, destination: &str) -> String {
        self.mark(PUSHING, destination)
    }

    fn kept(&self, destination: &str) -> String {
        self.mark(KEPT, destination)
    }
}

/// One at a time may borrow a destination's name inside this process, its giving back included.
#[derive(Default, Clone)]
pub(super) struct Desk(Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>);

impl Desk {
    pub(super) async fn turn(&self, destination: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Only the map itself still knows of those that nobody waits for.
            all.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(all.entry(destination.to_owned()).or_default())
        };
        lock.lock_owned().await
    }
}

/// A destination's name while it is borrowed. Dropped without [`Borrowed::give_back`], it is given back in the background.
pub(super) struct Borrowed<I: Images + ?Sized + 'static> {
    images: Arc<I>,
    marks: Marks,
    destination: ImageRef,
    /// `None` when there is nothing to give back.
    turn: Option<OwnedMutexGuard<()>>,
}

impl<I: Images + ?Sized + 'static> Borrowed<I> {
    /// Makes the destination's name mean `image`.
    pub(super) async fn take(
        images: &Arc<I>,
        marks: &Marks,
        desk: &Desk,
        image: &Digest,
        destination: &ImageRef,
    ) -> Result<Self> {
        let name = destination.to_string();
        let turn = desk.turn(&name).await;
        give_back(images.as_ref(), marks, &name).await?;
        let before = images.image_id(&name).await?;
        let mut borrowed =
            Self { images: Arc::clone(images), marks: marks.clone(), destination: destination.clone(), turn: None };
        if before.as_ref() == Some(image) {
            return Ok(borrowed);
        }
        // From here on, whatever happens, the name is given back.
        borrowed.turn = Some(turn);
        images.tag(image, &marks.pushing(&name)).await?;
        if let Some(before) = before {
            images.tag(&before, &marks.kept(&name)).await?;
        }
        images.tag(image, &name).await?;
        Ok(borrowed)
    }

    pub(super) async fn give_back(mut self) -> Result<()> {
        // The turn stays with `self` until this is through: when it is dropped on the way, it goes on in the background.
        if self.turn.is_some() {
            give_back(self.images.as_ref(), &self.marks, &self.destination.to_string()).await?;
            self.turn = None;
        }
        Ok(())
    }
}

impl<I: Images + ?Sized + 'static> Drop for Borrowed<I> {
    fn drop(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        let (images, marks, name) = (Arc::clone(&self.images), self.marks.clone(), self.destination.to_string());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let _turn = turn;
            if let Err(error) = give_back(images.as_ref(), &marks, &name).await {
                tracing::warn!(image = name, %error, "a local name is still borrowed; the next push or sweep gives it back");
            }
        });
    }
}

/// Makes the name mean what it did before it was borrowed. Nothing happens when it is not borrowed; a name that somebody
/// else has moved meanwhile is theirs.
pub(super) async fn give_back<I: Images + ?Sized>(images: &I, marks: &Marks, name: &str) -> Result<()> {
    let (pushing, kept) = (marks.pushing(name), marks.kept(name));
    let Some(ours) = images.image_id(&pushing).await? else { return Ok(()) };
    let before = images.image_id(&kept).await?;
    if images.image_id(name).await?.as_ref() == Some(&ours) {
        match &before {
            Some(before) => images.tag(before, name).await?,
            None => images.untag(name).await.map(|_| ())?,
        }
    }
    if before.is_some() {
        images.untag(&kept).await?;
    }
    // The last step: until it is done, the whole can be repeated.
    images.untag(&pushing).await.map(|_| ())
}
