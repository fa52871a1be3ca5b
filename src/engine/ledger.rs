//! The builds that may have left an image on this node, as empty files in the data folder.
//!
//! An entry is written before a build starts and struck out when its image is known to be gone. The janitor removes the image of
//! every entry that has no record: only of those, for other installations may use the same engine.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::domain::{BuildId, NodeId};

/// See the module.
#[derive(Clone)]
pub struct Ledger {
    dir: PathBuf,
    node: Arc<Mutex<Option<NodeId>>>,
}

impl Ledger {
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(dir: PathBuf) -> std::io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        Ok(Self { dir, node: Arc::default() })
    }

    /// The engine's id, once it has answered.
    #[must_use]
    pub fn node(&self) -> Option<NodeId> {
        self.node.lock().expect("not poisoned, because nothing panics while it is held").clone()
    }

    pub fn set_node(&self, node: &NodeId) {
        *self.node.lock().expect("not poisoned, because nothing panics while it is held") = Some(node.clone());
    }

    /// # Errors
    /// When the entry cannot be written: the build must not start then.
    pub fn enter(&self, id: BuildId) -> std::io::Result<()> {
        std::fs::File::create(self.dir.join(id.to_string())).map(drop)
    }

    /// Strikes an entry out; an entry that stays costs one look of the janitor.
    pub fn strike(&self, id: BuildId) {
        if let Err(error) = std::fs::remove_file(self.dir.join(id.to_string()))
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(build = %id, %error, "could not strike the build out of the ledger");
        }
    }

    /// Builds that may have left an image.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn entries(&self) -> std::io::Result<Vec<BuildId>> {
        let names = std::fs::read_dir(&self.dir)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }
}
