//! The very same build, under way on this engine: its image is taken, rather than made a second time.

use std::time::Duration;

use super::pipeline::{Failure, Job, patiently};
use super::retry::adopt;
use crate::domain::{Base, BuildId, BuildRecord, BuildState, Digest, Scope};
use crate::engine::BuiltImage;
use crate::store::{ListQuery, Stored, Topic};

/// A lost wake-up costs at most this much.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The image of the oldest build of this owner that does the very same on this engine at this moment, and of the same `bases`. Waits
/// until it is made; none when there is no such build, or when that one ends without an image.
///
/// Only an older one is waited for, so that no two wait for each other.
pub(super) async fn image_of_same(job: &mut Job, bases: &[Base]) -> Result<Option<BuiltImage>, Failure> {
    let record = &job.record;
    if record.identity.is_empty() || record.spec.no_cache || record.spec.cold || !bases.iter().all(Base::is_known) {
        return Ok(None);
    }
    let Some(first) = oldest_same(job).await? else { return Ok(None) };
    note(job, Some(first)).await?;
    job.log.say(format!("Build {first} does the very same on this engine: waiting for its image")).await;
    if let Some(image) = made_by(job, first, bases).await?
        && adopt(job, first, &image.id).await?
    {
        job.log.say(format!("The image of build {first} is taken: {}", image.id)).await;
        return Ok(Some(image));
    }
    job.log.say(format!("Build {first} has no image for this one: building it")).await;
    note(job, None).await?;
    Ok(None)
}

async fn note(job: &mut Job, first: Option<BuildId>) -> Result<(), Failure> {
    job.write(move |record, _| {
        record.joined_to = first;
        Ok(())
    })
    .await
}

async fn oldest_same(job: &Job) -> Result<Option<BuildId>, Failure> {
    let own = &job.record;
    let is_same = |other: &Stored| {
        let (age, other) = (other.age(), &other.record);
        age < job.age && other.identity == own.identity && other.node == own.node && !other.cancel_requested
    };
    let mut same: Vec<Stored> = Vec::new();
    for state in [BuildState::Building, BuildState::Pushing] {
        let query = ListQuery { state: Some(state), ..ListQuery::of(Scope::Owner(own.owner.clone())) };
        let page = patiently(|| job.parts.store.list(&query)).await.map_err(|e| Failure::Away(e.to_string()))?;
        same.extend(page.items.into_iter().filter(is_same));
    }
    Ok(same.iter().min_by_key(|other| other.age()).map(|other| other.record.id))
}

/// The image that `first` makes, once it has; none when it ends without one, or was begun with other bases.
async fn made_by(job: &Job, first: BuildId, bases: &[Base]) -> Result<Option<BuiltImage>, Failure> {
    let store = &job.parts.store;
    let mut moved = store.wakes().subscribe(Topic::Build(first));
    loop {
        let now = patiently(|| store.get(&Scope::All, first)).await.map_err(|e| Failure::Away(e.to_string()))?;
        let Some(now) = now.map(|stored| stored.record) else { return Ok(None) };
        // Its bases are written together with its builder.
        if now.builder.is_some() && now.bases != bases {
            return Ok(None);
        }
        if let Some(image) = now.image_id.clone() {
            return Ok(Some(built(now, image)));
        }
        if now.state != BuildState::Building || now.cancel_requested {
            return Ok(None);
        }
        moved.woken(LOOK_AGAIN).await;
    }
}

fn built(record: BuildRecord, id: Digest) -> BuiltImage {
    BuiltImage { id, size_bytes: record.size_bytes.unwrap_or(0), labels: record.image_labels, layers: record.layers }
}
