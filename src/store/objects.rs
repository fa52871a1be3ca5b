//! Small records of an owner beside the builds: accounts, tokens, sessions, kept credentials. Each is a JSON document under a
//! kind and an id, with a revision; several are written in one commit, which happens as a whole or not at all.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Result, Store, StoreError, Topic};
use crate::domain::{Owner, Scope};

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// By name.
    User,
    /// By id.
    Token,
    /// When a token was last used; by the token's id.
    TokenUse,
    /// By the SHA-256 of its cookie.
    Session,
    /// By `OWNER/NAME`.
    Registry,
    /// What several changes must not make at once.
    Guard,
    /// Failed log-ins, by whose and from where.
    Lockout,
    /// Answers to repeat, by `OWNER/SHA-256 of the key`.
    Replay,
    /// By id.
    App,
    /// The id of an owner's app, by `OWNER/NAME`.
    AppName,
    /// By id; under its app, or under its owner's `/OWNER` when it has none.
    Run,
    /// A run that is not over, by its id; under its app. What a start of the service looks at, and what an app does now.
    LiveRun,
    /// By the run's id.
    RunLog,
    /// By `OWNER/NAME`.
    Volume,
    /// By `OWNER/NAME`.
    Network,
    /// By `OWNER/REFERENCE`.
    Image,
    /// The youngest build that has pushed a tag; by the tag.
    TagPush,
    /// How long builds took lately; by `OWNER/SHA-256 of the project`, `OWNER` for all of theirs, or `*` for
    /// everybody's.
    Durations,
    /// What an owner's containers take, by the owner's name.
    Holdings,
    /// The sealed end of the audit, where the store has no other place for it.
    AuditHead,
    /// Which installation this store belongs to.
    Installation,
    /// By id.
    Webhook,
    /// By id; under its webhook.
    Delivery,
    /// A delivery that is still to be tried, by its id.
    DueDelivery,
    /// By `OWNER/PROJECT`.
    Retention,
    /// What was last cleaned away from a disk that was too full, by `NODE/DISK`.
    Cleaned,
}

impl Kind {
    /// Its name in the stored form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Token => "token",
            Self::TokenUse => "token_use",
            Self::Session => "session",
            Self::Registry => "registry",
            Self::Guard => "guard",
            Self::Lockout => "lockout",
            Self::Replay => "replay",
            Self::App => "app",
            Self::AppName => "app_name",
            Self::Run => "run",
            Self::LiveRun => "live_run",
            Self::RunLog => "run_log",
            Self::Volume => "volume",
            Self::Network => "network",
            Self::Image => "image",
            Self::TagPush => "tag_push",
            Self::Durations => "durations",
            Self::Holdings => "holdings",
            Self::AuditHead => "audit_head",
            Self::Installation => "installation",
            Self::Webhook => "webhook",
            Self::Delivery => "delivery",
            Self::DueDelivery => "due_delivery",
            Self::Retention => "retention",
            Self::Cleaned => "cleaned",
        }
    }
}

/// An object as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object<T = String> {
    pub id: String,
    pub owner: Owner,
    /// The order of making, for lists; kept by changes.
    pub order: u64,
    /// Grows at every change.
    pub revision: u64,
    pub body: T,
}

impl Object {
    fn decode<T: DeserializeOwned>(self) -> Result<Object<T>> {
        let body =
            serde_json::from_str(&self.body).map_err(|e| StoreError::Internal(format!("{} does not parse: {e}", self.id)))?;
        Ok(Object { id: self.id, owner: self.owner, order: self.order, revision: self.revision, body })
    }
}

/// What must be true of an object before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Anything,
    Absent,
    /// Unchanged since it was read.
    Revision(u64),
}

/// One part of a commit.
#[derive(Debug, Clone)]
pub struct Write {
    pub kind: Kind,
    pub id: String,
    pub expect: Expect,
    pub action: Action,
}

/// How long an object stays, by the store's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Forever,
    For(Duration),
    /// As long as was said before.
    AsItIs,
}

#[derive(Debug, Clone)]
pub enum Action {
    /// Makes or replaces it.
    Put {
        owner: Owner,
        body: String,
        keep: Keep,
        /// Given at the making, and never changed.
        parent: Option<String>,
    },
    Remove,
}

impl Write {
    pub fn put<T: Serialize>(kind: Kind, id: impl Into<String>, owner: &Owner, expect: Expect, body: &T) -> Self {
        let body = serde_json::to_string(body).expect("serialises, because it is plain data with text keys and without floats");
        Self {
            kind,
            id: id.into(),
            expect,
            action: Action::Put { owner: owner.clone(), body, keep: Keep::Forever, parent: None },
        }
    }

    pub fn remove(kind: Kind, id: impl Into<String>, expect: Expect) -> Self {
        Self { kind, id: id.into(), expect, action: Action::Remove }
    }

    /// Whom it wakes. What is remembered of callers must be forgotten when one may lose a right; a session's changes take none.
    pub(super) fn topic(&self) -> Option<Topic> {
        match self.kind {
            Kind::User | Kind::Token => Some(Topic::Accounts),
            Kind::Session => matches!(self.action, Action::Remove).then_some(Topic::Accounts),
            Kind::DueDelivery => Some(Topic::Hooks),
            Kind::App => self.id.parse().ok().map(Topic::App),
            Kind::Run | Kind::RunLog => self.id.parse().ok().map(Topic::Run),
            _ => None,
        }
    }

    /// It can be listed by this name, too.
    #[must_use]
    pub fn under(mut self, name: impl Into<String>) -> Self {
        if let Action::Put { parent, .. } = &mut self.action {
            *parent = Some(name.into());
        }
        self
    }

    /// It is gone after this time.
    #[must_use]
    pub fn keep(self, time: Duration) -> Self {
        self.kept(Keep::For(time))
    }

    #[must_use]
    pub fn keep_as_it_is(self) -> Self {
        self.kept(Keep::AsItIs)
    }

    fn kept(mut self, how: Keep) -> Self {
        if let Action::Put { keep, .. } = &mut self.action {
            *keep = how;
        }
        self
    }
}

/// A place in a list of objects of one kind, newest first.
#[derive(Debug, Clone)]
pub struct ObjectQuery {
    pub scope: Scope,
    pub kind: Kind,
    /// Narrows [`Scope::All`] to one owner.
    pub owner: Option<Owner>,
    /// Only objects that were put under this name.
    pub parent: Option<String>,
    /// Only objects made before this one ([`Object::order`], exclusive).
    pub before: Option<u64>,
    /// 1–200.
    pub limit: usize,
}

impl ObjectQuery {
    /// Whether there is any object of this kind.
    #[must_use]
    pub fn one(kind: Kind) -> Self {
        Self { scope: Scope::All, kind, owner: None, parent: None, before: None, limit: 1 }
    }

    /// The one owner to look at, `Some(None)` for all; `None` when scope and filter have nothing in common.
    #[allow(clippy::option_option, reason = "none, all or one are three answers")]
    pub(super) fn visible_owner(&self) -> Option<Option<&Owner>> {
        match (&self.scope, &self.owner) {
            (Scope::All, filter) => Some(filter.as_ref()),
            (Scope::Owner(own), Some(filter)) if own != filter => None,
            (Scope::Owner(own), _) => Some(Some(own)),
        }
    }
}

/// How often something was done in a window of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hits {
    /// This one included.
    pub count: u64,
    /// Until the window ends.
    pub left: Duration,
}

impl Store {
    /// One object, if it is in the scope.
    pub async fn object<T: DeserializeOwned>(&self, scope: &Scope, kind: Kind, id: &str) -> Result<Option<Object<T>>> {
        each!(self, b => b.object(scope, kind, id).await)?.map(Object::decode).transpose()
    }

    /// A page of objects, newest first, and whether there are older ones.
    pub async fn objects<T: DeserializeOwned>(&self, query: &ObjectQuery) -> Result<(Vec<Object<T>>, bool)> {
        let query = ObjectQuery { limit: query.limit + 1, ..query.clone() };
        let mut objects = each!(self, b => b.objects(&query).await)?;
        let more = objects.len() == query.limit;
        objects.truncate(query.limit - 1);
        Ok((objects.into_iter().map(Object::decode).collect::<Result<_>>()?, more))
    }

    /// The order of the object at this rank among those that were put under `parent`; the newest has rank 0.
    pub async fn order_at(&self, kind: Kind, parent: &str, rank: u64) -> Result<Option<u64>> {
        each!(self, b => b.order_at(kind, parent, rank).await)
    }

    /// All objects of a kind in a scope.
    pub async fn all_objects<T: DeserializeOwned>(&self, scope: &Scope, kind: Kind) -> Result<Vec<Object<T>>> {
        let limit = crate::domain::limits::PAGE;
        self.all_of(ObjectQuery { scope: scope.clone(), limit, ..ObjectQuery::one(kind) }).await
    }

    /// All objects that a query's pages have.
    pub async fn all_of<T: DeserializeOwned>(&self, mut query: ObjectQuery) -> Result<Vec<Object<T>>> {
        let mut all = Vec::new();
        loop {
            let (page, more) = self.objects(&query).await?;
            query.before = page.last().map(|object: &Object<T>| object.order);
            all.extend(page);
            if !more {
                return Ok(all);
            }
        }
    }

    /// Writes all or nothing, durably. Wakes those who wait for what is written: accounts, apps, runs.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when an expectation does not hold; nothing is written then.
    pub async fn commit(&self, writes: &[Write]) -> Result<()> {
        each!(self, b => b.commit_objects(writes).await)
    }

    /// Removes objects whose time is over, at most `limit`; answers how many. They are invisible before.
    pub async fn purge_objects(&self, limit: usize) -> Result<u64> {
        each!(self, b => b.purge_objects(limit).await)
    }

    /// Counts one more `key` in a window that began at its first hit.
    pub async fn hit(&self, key: &str, window: Duration) -> Result<Hits> {
        each!(self, b => b.hit(key, window).await)
    }

    /// How often `key` was counted in its present window.
    pub async fn hits(&self, key: &str) -> Result<u64> {
        each!(self, b => b.hits(key).await)
    }

    /// Appends to the audit, and replaces its head, if its last entry has the number `after`; entries are numbered 1, 2, 3 …
    /// False: somebody else was faster.
    pub async fn audit_append(&self, after: u64, entries: &[String], head: &str) -> Result<bool> {
        each!(self, b => b.audit_append(after, entries, head).await)
    }

    /// What was last written as the audit's head.
    pub async fn audit_head(&self) -> Result<Option<String>> {
        each!(self, b => b.audit_head().await)
    }

    /// Entries of the audit with their numbers, newest first, below `before`.
    pub async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<(u64, String)>> {
        each!(self, b => b.audit(before, limit).await)
    }
}
