//! What is kept of runs that are over, and what becomes of the rest.

use serde::de::IgnoredAny;

use super::Fleet;
use super::steps::Result;
use crate::domain::{Run, Scope, limits};
use crate::engine::containers::RUN;
use crate::store::objects::{Kind, ObjectQuery};

/// Removes the ended runs of this node that are older than the newest ones that are kept ([`super::FleetSettings::keep_runs`]): of
/// each app, and of each owner those that have no app. Their containers and logs go with them.
///
/// # Errors
/// When the engine or the store is away; the next pass goes on.
pub async fn trim_once(fleet: &Fleet) -> anyhow::Result<()> {
    if !fleet.is_whole() {
        return Ok(());
    }
    let store = fleet.store();
    let apps = store.all_objects::<IgnoredAny>(&Scope::All, Kind::App).await?.into_iter().map(|app| app.id);
    let owners = store.all_objects::<IgnoredAny>(&Scope::All, Kind::Holdings).await?;
    for history in apps.chain(owners.into_iter().map(|held| format!("/{}", held.owner))) {
        trim(fleet, history).await.map_err(|fault| anyhow::anyhow!("{fault:?}"))?;
    }
    Ok(())
}

async fn trim(fleet: &Fleet, history: String) -> Result<()> {
    let last_kept = fleet.settings().keep_runs.saturating_sub(1);
    let Some(oldest) = fleet.store().order_at(Kind::Run, &history, last_kept).await? else { return Ok(()) };
    let mut query =
        ObjectQuery { parent: Some(history), before: Some(oldest), limit: limits::PAGE, ..ObjectQuery::one(Kind::Run) };
    loop {
        let (page, more) = fleet.store().objects::<Run>(&query).await?;
        query.before = page.last().map(|run| run.order);
        for run in page {
            // A container of another node is that node's to remove.
            if !run.body.state.is_live() && (run.body.node.is_none() || run.body.node == fleet.node()) {
                forget(fleet, &run.body).await?;
            }
        }
        if !more {
            return Ok(());
        }
    }
}

async fn forget(fleet: &Fleet, run: &Run) -> Result<()> {
    // Somebody may have started it again since it was listed.
    let Some(now) = fleet.records().run(&Scope::All, run.id).await?.filter(|now| !now.body.state.is_live()) else {
        return Ok(());
    };
    fleet.drop_container(&now.body).await?;
    Ok(fleet.records().remove(&now.body).await?)
}

impl Fleet {
    /// Removes a run's container from the engine, by the id that is recorded, or by the name that it would have.
    ///
    /// # Errors
    /// When the engine is away.
    pub async fn drop_container(&self, run: &Run) -> Result<()> {
        if run.node.is_none() || run.removed {
            return Ok(());
        }
        let by = run.container.as_ref().unwrap_or(&run.name);
        let there = self.engine().inspect(by, false).await?;
        if let Some(ours) = there.filter(|there| there.summary.labels.get(RUN).is_some_and(|id| *id == run.id.to_string())) {
            self.engine().remove(&ours.summary.id, true).await?;
            self.look_at(&ours.summary.id).await?;
        }
        Ok(())
    }
}
