//! Sessions of browsers: a cookie of 256 random bits, of which the store knows the hash.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;

use super::{Principal, live_user, token};
use crate::domain::{Proof, Scope, Session, Timestamp, User};
use crate::error::{Error, Result};
use crate::store::objects::{Expect, Kind, Object, Write};
use crate::store::{Store, StoreError};

/// How exactly it is known when a session was last used.
const TOUCHED: std::time::Duration = std::time::Duration::from_secs(60);

/// Begins a session; answers the cookie's value.
///
/// # Errors
/// When the store does not take it.
pub async fn begin(store: &Store, user: &User, address: &str) -> Result<SecretString> {
    let bits: [u8; 32] = rand::random();
    let cookie = SecretString::from(URL_SAFE_NO_PAD.encode(bits));
    let now = Timestamp::now();
    let session =
        Session { owner: user.name.clone(), epoch: user.epoch, created_at: now, seen_at: now, address: address.to_owned() };
    let write = Write::put(Kind::Session, token::hash(&cookie), &user.name, Expect::Absent, &session).keep(Session::IDLE);
    store.commit(&[write]).await?;
    Ok(cookie)
}

/// Ends a session; nothing happens when there is none.
///
/// # Errors
/// When the store cannot be asked.
pub async fn end(store: &Store, cookie: &SecretString) -> Result<()> {
    Ok(store.commit(&[Write::remove(Kind::Session, token::hash(cookie), Expect::Anything)]).await?)
}

/// The session behind a cookie, and its account.
pub(super) async fn live(store: &Store, cookie: &SecretString) -> Result<(Object<Session>, User)> {
    let id = token::hash(cookie);
    let object = store.object::<Session>(&Scope::All, Kind::Session, &id).await?.ok_or(Error::Unauthenticated)?;
    let user = live_user(store, &object.body.owner).await?;
    if user.epoch != object.body.epoch || Timestamp::now().since(object.body.created_at) >= Session::ABSOLUTE {
        return Err(Error::Unauthenticated);
    }
    Ok((object, user))
}

pub(super) async fn principal(store: &Store, cookie: &SecretString) -> Result<Principal> {
    let (object, user) = live(store, cookie).await?;
    let (session, now) = (object.body, Timestamp::now());
    let until = session.ends_at();
    if now.since(session.seen_at) >= TOUCHED {
        let left = Session::ABSOLUTE.saturating_sub(now.since(session.created_at));
        let touched = Session { seen_at: now, ..session };
        let write = Write::put(Kind::Session, object.id, &user.name, Expect::Revision(object.revision), &touched);
        match store.commit(&[write.keep(Session::IDLE.min(left))]).await {
            // Another request has touched it, or it was ended.
            Ok(()) | Err(StoreError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Principal::in_person(&user, Proof::Session).until(Some(until)))
}
