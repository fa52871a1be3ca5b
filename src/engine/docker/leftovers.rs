//! What a classic build made and nothing will use: images without a name (of stages before the last, and of the steps
//! before the one that failed), which the engine keeps as its cache for ever, and the container of a step during which the
//! engine itself ended, of which it remembers nothing. Nobody could tell later whose they are.
//!
//! A classic build that runs may just have found one of the images in that cache, so they are removed only while this
//! process runs no classic build. What could not be removed, because the engine was away, is tried again.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use super::Docker;
use super::classic::Classic;
use crate::domain::LOCAL_HOST;
use crate::engine::containers::Containers as _;
use crate::engine::{Images as _, Result};

/// How long the engine may take to remove the container of a step that was stopped; its image is held until then.
const CONTAINER_GONE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How far the engine's clock may be behind ours.
const CLOCKS: Duration = Duration::from_secs(5);
/// How long until what could not be removed is tried again: at first, and at most.
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Leftovers {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    running: usize,
    pending: Vec<Leftover>,
    /// Whether a task tries again what could not be removed.
    again: bool,
}

enum What {
    Container(String),
    Image(String),
}

struct Leftover {
    what: What,
    /// When its build began: what is older is not of its making, whatever the stream said.
    since: SystemTime,
}

impl Inner {
    /// Takes out what may be removed now.
    fn due(&mut self) -> Vec<Leftover> {
        let (due, later) = self.pending.drain(..).partition(|leftover| leftover.is_due(self.running));
        self.pending = later;
        due
    }

    fn has_due(&self) -> bool {
        self.pending.iter().any(|leftover| leftover.is_due(self.running))
    }
}

impl Leftover {
    fn is_due(&self, running: usize) -> bool {
        running == 0 || matches!(self.what, What::Container(_))
    }
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
    leaves: Vec<What>,
    over: bool,
}

impl ClassicRun {
    pub(super) fn begin(docker: &Docker) -> Self {
        docker.leftovers.with(|inner| inner.running += 1);
        Self { docker: docker.clone(), since: SystemTime::now(), leaves: Vec::new(), over: false }
    }

    /// What would be left behind if the build ended now.
    pub(super) fn would_leave(&mut self, build: &Classic, succeeded: bool) {
        let images = build.unnamed(succeeded).into_iter().map(What::Image);
        let container = build.container().filter(|_| !succeeded).map(|id| What::Container(id.to_owned()));
        self.leaves = images.chain(container).collect();
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
        let own = self.leaves.drain(..).map(|what| Leftover { what, since });
        self.docker.leftovers.with(|inner| {
            inner.running -= 1;
            inner.pending.extend(own);
            inner.due()
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

/// Removes them; what the engine was away for is tried again until it is there.
async fn remove_all(docker: &Docker, due: Vec<Leftover>) {
    remove_each(docker, due).await;
    if docker.leftovers.with(|inner| inner.has_due() && !std::mem::replace(&mut inner.again, true)) {
        let docker = docker.clone();
        tokio::spawn(async move { remove_again(&docker).await });
    }
}

async fn remove_again(docker: &Docker) {
    let mut pause = AGAIN_MIN;
    loop {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN_MAX);
        // What waits for a build that runs is taken at that one's end.
        remove_each(docker, docker.leftovers.with(Inner::due)).await;
        let more = docker.leftovers.with(|inner| {
            inner.again = inner.has_due();
            inner.again
        });
        if !more {
            return;
        }
    }
}

/// Puts back what the engine was away for.
async fn remove_each(docker: &Docker, due: Vec<Leftover>) {
    let mut left = Vec::new();
    // The newest first: an image is kept by a container of it, and by another one on top.
    for leftover in due.into_iter().rev() {
        // What could not be removed may hold the older ones: they would lose their name, and stay.
        if !left.is_empty() {
            left.push(leftover);
            continue;
        }
        let (removed, name) = match &leftover.what {
            What::Container(id) => (remove_container(docker, id, leftover.since).await, id),
            What::Image(image) => (remove_image(docker, image, leftover.since).await, image),
        };
        match removed {
            Err(error) if error.transient => left.push(leftover),
            Err(error) => tracing::warn!(name, %error, "a classic build's image or container is left in the engine"),
            Ok(()) => {}
        }
    }
    left.reverse();
    docker.leftovers.with(|inner| inner.pending.extend(left));
}

async fn remove_container(docker: &Docker, id: &str, since: SystemTime) -> Result<()> {
    let Some(found) = docker.inspect(id, false).await? else { return Ok(()) };
    let made = Duration::from_millis(found.summary.created_at.as_millis().try_into().unwrap_or(0));
    if SystemTime::UNIX_EPOCH + made >= since {
        docker.remove(&found.summary.id, true).await?;
    }
    Ok(())
}

/// Names the image and takes the name away again, which removes it unless something else names or uses it. Removing it by
/// its id would take the name of whoever gave it one in the meantime.
async fn remove_image(docker: &Docker, image: &str, since: SystemTime) -> Result<()> {
    let Some((id, created)) = docker.made_at(image).await? else { return Ok(()) };
    if created.is_none_or(|created| created < since) {
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
