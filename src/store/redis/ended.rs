//! Builds that have ended and are still to be told of. `commit.lua` notes them, `delete.lua` keeps the records of those that go.

use super::RedisStore;
use super::convert::parse_id;
use super::scripts;
use crate::domain::BuildId;
use crate::store::{Ended, Result};

impl RedisStore {
    pub async fn ended(&self, limit: usize) -> Result<Vec<Ended>> {
        let mut script = scripts::ENDED.key(&self.inner.prefix);
        script.arg(limit);
        let rows: Vec<scripts::RawEnded> = self.inner.link.script(&script).await?;
        rows.into_iter().map(|scripts::RawEnded((id, record))| Ok(Ended::read(parse_id(&id)?, &record))).collect()
    }

    pub async fn ended_done(&self, builds: &[BuildId]) -> Result<()> {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        for build in builds {
            pipeline.zrem(self.key("ended"), build.to_string()).ignore();
            pipeline.hdel(self.key("endr"), build.to_string()).ignore();
        }
        if builds.is_empty() { Ok(()) } else { self.inner.link.pipeline(&pipeline).await }
    }
}
