//! What a list is asked for, and what it answers.

use super::Stored;
use crate::domain::{BuildId, BuildState, ImageRef, Owner, Scope, limits};

/// A filter and a place in a list, newest first.
#[derive(Debug, Clone)]
pub struct ListQuery {
    pub scope: Scope,
    /// Narrows an admin's scope to one owner.
    pub owner: Option<Owner>,
    pub state: Option<BuildState>,
    /// Builds that name this image, pushed or not: with `Some(tag)` exactly that one, else any tag of the repository.
    pub image: Option<ImageFilter>,
    /// Only builds older than this one (exclusive).
    pub before: Option<BuildId>,
    /// 1–200.
    pub limit: usize,
}

impl ListQuery {
    /// The newest builds in a scope, as many as a page may have.
    #[must_use]
    pub fn of(scope: Scope) -> Self {
        Self { scope, owner: None, state: None, image: None, before: None, limit: limits::PAGE }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFilter {
    /// `host/path`, normalised.
    pub repository: String,
    pub tag: Option<String>,
}

impl ImageFilter {
    #[must_use]
    pub fn matches(&self, image: &ImageRef) -> bool {
        image.repository() == self.repository && self.tag.as_deref().is_none_or(|tag| tag == image.tag())
    }
}

#[derive(Debug, Clone)]
pub struct Page {
    pub items: Vec<Stored>,
    /// Whether older ones that match are left.
    pub more: bool,
}
