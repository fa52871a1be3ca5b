//! Images without a name that a classic build made and nothing will use: those of stages before the last, and of the
//! steps before the one that failed. The engine keeps them as its cache for ever; nobody could tell later whose they are.
//!
//! A classic build that runs may just have found one of them in that cache, so they are removed only while this process
//! runs no classic build.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use super::Docker;
use crate::domain::LOCAL_HOST;
use crate::engine::Images as _;

/// How long the engine may take to remove the container of a step that was stopped; its image is held until then.
const CONTAINER_GONE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How far the engine's clock may be behind ours.
const CLOCKS: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Leftovers {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    running: usize,
    pending: Vec<Leftover>,
}

struct Leftover {
    image: String,
    /// When its build began: an older image is not of its making, whatever the stream said.
    since: SystemTime,
}

impl Leftovers {
    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A classic build that is running. Its leftovers are removed when it ends, also by being dropped.
pub(super) struct ClassicRun {
    docker: Docker,
    since: SystemTime,
    images: Vec<String>,
    over: bool,
}

impl ClassicRun {
    pub(super) fn begin(docker: &Docker) -> Self {
        docker.leftovers.with(|inner| inner.running += 1);
        Self { docker: docker.clone(), since: SystemTime::now(), images: Vec::new(), over: false }
    }

    /// What would be left behind if the build ended now.
    pub(super) fn would_leave(&mut self, images: Vec<String>) {
        self.images = images;
    }

    /// The build is over: removes what it left.
    pub(super) async fn end(mut self) {
        let due = self.leave();
        remove_all(&self.docker, due).await;
    }

    /// Takes the build out of the count; answers what may be removed now.
    fn leave(&mut self) -> Vec<Leftover> {
        if std::mem::replace(&mut self.over, true) {
            return Vec::new();
        }
        let since = self.since.checked_sub(CLOCKS).unwrap_or(SystemTime::UNIX_EPOCH);
        let own = self.images.drain(..).map(|image| Leftover { image, since });
        self.docker.leftovers.with(|inner| {
            inner.running -= 1;
            inner.pending.extend(own);
            if inner.running == 0 { std::mem::take(&mut inner.pending) } else { Vec::new() }
        })
    }
}

impl Drop for ClassicRun {
    fn drop(&mut self) {
        let due = self.leave();
        if due.is_empty() {
            return;
        }
        let docker = self.docker.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { remove_all(&docker, due).await });
        }
    }
}

async fn remove_all(docker: &Docker, due: Vec<Leftover>) {
    // The newest first: an image with another one on top is kept by it.
    for leftover in due.into_iter().rev() {
        if let Err(error) = remove(docker, &leftover).await {
            tracing::warn!(image = leftover.image, %error, "an image without a name is left in the engine");
        }
    }
}

/// Names the image and takes the name away again, which removes it unless something else names or uses it. Removing it by
/// its id would take the name of whoever gave it one in the meantime.
async fn remove(docker: &Docker, leftover: &Leftover) -> crate::engine::Result<()> {
    let Some((id, created)) = docker.made_at(&leftover.image).await? else { return Ok(()) };
    if created.is_none_or(|created| created < leftover.since) {
        return Ok(());
    }
    let name = format!("{LOCAL_HOST}/leftover:{}", Uuid::new_v4().simple());
    docker.tag(&id, &name).await?;
    let give_up = tokio::time::Instant::now() + CONTAINER_GONE;
    while docker.is_held(&name).await? && tokio::time::Instant::now() < give_up {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    docker.untag(&name).await.map(|_| ())
}
