//! Whose a data folder is.

use super::database;
use crate::config::{Config, StoreUrl};

/// The folder holds uploads and logs of all owners: nobody else on the machine may look in.
pub(super) fn make_private(dir: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// The file in the data folder that names the store which the folder belongs to.
const BELONGS: &str = "store";

/// What the data folder's uploads, logs and images have their records in. Not where that is: a Redis server has many names.
fn belongs(config: &Config) -> String {
    match config.store {
        StoreUrl::Sqlite => "sqlite".into(),
        StoreUrl::Redis(_) => format!("redis {}", config.store_prefix),
    }
}

/// Whether the data folder is this store's. With another store's, the janitor would find no record of anything in it and
/// clean it all away.
///
/// # Errors
/// When it is another's, with what to do.
pub fn check_folder(config: &Config) -> anyhow::Result<()> {
    let file = config.data_dir.join(BELONGS);
    let mine = belongs(config);
    let whose = match std::fs::read_to_string(&file) {
        Ok(text) => text.trim().to_owned(),
        Err(_) if database(config).exists() => "sqlite".into(),
        Err(_) => return Ok(()),
    };
    anyhow::ensure!(
        whose == mine,
        "the data folder {} belongs to the store {whose:?}, and this one is {mine:?}: choose another folder with --data-dir",
        config.data_dir.display()
    );
    Ok(())
}

pub(super) fn claim_folder(config: &Config) -> anyhow::Result<()> {
    use std::io::Write;
    // Whole before it gets its name: of several processes that start together, all read the same.
    let mut file = tempfile::NamedTempFile::new_in(&config.data_dir)?;
    writeln!(file, "{}", belongs(config))?;
    match file.persist_noclobber(config.data_dir.join(BELONGS)) {
        Err(e) if e.error.kind() != std::io::ErrorKind::AlreadyExists => return Err(e.error.into()),
        _ => {}
    }
    check_folder(config)
}
