//! The first admin, and tokens that the service makes itself.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};

use super::token;
use crate::domain::{ImagePattern, Owner, Permissions, Quota, Role, Scope, Timestamp, Token, TokenId, User};
use crate::error::Result;
use crate::store::objects::{Expect, Kind, Write};
use crate::store::{Store, StoreError};

/// The name of the first admin.
pub const ADMIN: &str = "admin";
/// The file in the data folder that holds the first admin's token.
pub const TOKEN_FILE: &str = "admin-token";
/// How exactly it is known when a token was last used.
const USE_NOTED: Duration = Duration::from_secs(60);

/// What a start found or made of the admin's token.
pub enum FirstAdmin {
    /// There was an admin already.
    Known,
    /// Made now and written to this file.
    Made { file: PathBuf, token: SecretString },
}

/// At the first start: an admin with a token, written with mode 0600 into the data folder. The file comes first, so that a
/// crash in between never leaves a token that nobody knows; a file that is there already is taken.
///
/// # Errors
/// When the file or the store cannot be written.
pub async fn ensure_admin(store: &Store, data_dir: &Path) -> anyhow::Result<FirstAdmin> {
    let name: Owner = ADMIN.parse().expect("valid, because it is a constant of that form");
    let accounts = store.objects::<User>(&crate::store::objects::ObjectQuery::one(Kind::User)).await?.0;
    if !accounts.is_empty() {
        return Ok(FirstAdmin::Known);
    }
    let file = data_dir.join(TOKEN_FILE);
    let text = first_token(&file).with_context(|| format!("cannot make or read {}", file.display()))?;
    let id = token::id_of(&text).expect("a token's text, because first_token has checked it");
    let new =
        NewToken { name: "first start".into(), scopes: Permissions::of_role(Role::Admin), images: Vec::new(), expires_at: None };
    let user = User::new(name.clone(), Role::Admin, None, Quota::default());
    let writes = [Write::put(Kind::User, ADMIN, &name, Expect::Absent, &user), new.write(id, &text, &name)];
    match store.commit(&writes).await {
        Ok(()) => Ok(FirstAdmin::Made { file, token: text }),
        // Another process that starts at this moment was first, with the same token if it shares the folder.
        Err(StoreError::Conflict) => Ok(FirstAdmin::Known),
        Err(error) => Err(error.into()),
    }
}

/// What marks as ours whatever is made on an engine, made at the first start. No path or address, which two machines may share and
/// strangers guess: who knows it can make others' containers look like ours.
///
/// # Errors
/// When the store cannot be read or written.
pub async fn ensure_installation(store: &Store) -> anyhow::Result<String> {
    const ID: &str = "self";
    let owner: Owner = ADMIN.parse().expect("valid, because it is a constant of that form");
    let fresh = uuid::Uuid::new_v4().to_string();
    match store.commit(&[Write::put(Kind::Installation, ID, &owner, Expect::Absent, &fresh)]).await {
        Ok(()) => Ok(fresh),
        Err(StoreError::Conflict) => {
            let known = store.object::<String>(&Scope::All, Kind::Installation, ID).await?;
            Ok(known.context("the store has lost the installation's id")?.body)
        }
        Err(error) => Err(error.into()),
    }
}

/// What a token shall be.
pub struct NewToken {
    pub name: String,
    pub scopes: Permissions,
    pub images: Vec<ImagePattern>,
    pub expires_at: Option<Timestamp>,
}

impl NewToken {
    fn record(&self, id: TokenId, text: &SecretString, owner: &Owner) -> Token {
        Token {
            id,
            owner: owner.clone(),
            name: self.name.clone(),
            hash: token::hash(text),
            scopes: self.scopes.clone(),
            images: self.images.clone(),
            created_at: Timestamp::now(),
            expires_at: self.expires_at,
        }
    }

    fn write(&self, id: TokenId, text: &SecretString, owner: &Owner) -> Write {
        Write::put(Kind::Token, id.to_string(), owner, Expect::Absent, &self.record(id, text, owner))
    }
}

/// Makes a token for an account. Its text is known only to the caller of this function.
///
/// # Errors
/// When the store does not take it.
pub async fn issue_token(store: &Store, owner: &Owner, new: &NewToken) -> Result<(Token, SecretString)> {
    let (id, text) = token::generate();
    store.commit(&[new.write(id, &text, owner)]).await?;
    Ok((new.record(id, &text, owner), text))
}

/// Notes that a token was used. A store that cannot take it does not keep anybody out.
pub(super) async fn note_use(store: &Store, id: TokenId, owner: &Owner, now: Timestamp) {
    let key = id.to_string();
    let known = store.object::<Timestamp>(&Scope::All, Kind::TokenUse, &key).await;
    if matches!(&known, Ok(Some(last)) if now.since(last.body) < USE_NOTED) {
        return;
    }
    if let Err(error) = store.commit(&[Write::put(Kind::TokenUse, key, owner, Expect::Anything, &now)]).await {
        tracing::debug!(%error, "the use of a token could not be noted");
    }
}

/// The token in the file, which is made when it is not there. Of several processes that start at once the first one's token
/// stays, and all of them take that.
fn first_token(path: &Path) -> anyhow::Result<SecretString> {
    if !path.exists() {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Readable by this account alone, as `tempfile` makes all its files; whole before it gets its name.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        writeln!(file, "{}", token::generate().1.expose_secret())?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Err(e) if e.error.kind() != std::io::ErrorKind::AlreadyExists => return Err(e.error.into()),
            _ => {}
        }
    }
    let text = SecretString::from(std::fs::read_to_string(path)?.trim().to_owned());
    anyhow::ensure!(token::id_of(&text).is_some(), "it holds no token; remove it");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_start_together_agree_on_one_token() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(TOKEN_FILE);
        let tokens: std::collections::HashSet<String> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..16).map(|_| scope.spawn(|| first_token(&path).expect("made or read"))).collect();
            starts.into_iter().map(|start| start.join().expect("no panic").expose_secret().to_owned()).collect()
        });
        assert_eq!(tokens.len(), 1);
        std::fs::write(&path, "something else").expect("written");
        assert!(first_token(&path).is_err());
    }
}
