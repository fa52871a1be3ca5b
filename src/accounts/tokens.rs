use secrecy::SecretString;

use super::Accounts;
use crate::auth::{NewToken, Principal, issue_token};
use crate::domain::{ImagePattern, Owner, Permissions, Scope, Timestamp, Token, TokenId, User};
use crate::error::{Error, Result};
use crate::store::objects::{Expect, Kind, Object, ObjectQuery, Write};

/// A token that is to be made.
pub struct TokenInput {
    pub name: String,
    /// Absent: all that the caller itself may, and the account too.
    pub scopes: Option<Permissions>,
    pub images: Vec<ImagePattern>,
    pub expires_at: Option<Timestamp>,
}

impl Accounts {
    /// The account whose tokens a caller means: its own, or for an admin any.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn token_owner(&self, caller: &Principal, named: Option<Owner>) -> Result<User> {
        let name = named.unwrap_or_else(|| caller.owner.clone());
        if !caller.scope().covers(&name) {
            return Err(Error::NotFound("user"));
        }
        Ok(self.user(&name).await?.body)
    }

    /// Makes a token of an account that is [`Self::token_owner`]. Its text is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`Error::Forbidden`] `beyond_own` when it would do more than the caller or the account.
    pub async fn make_token(&self, caller: &Principal, owner: &User, input: TokenInput) -> Result<(Token, SecretString)> {
        let most = caller.permissions.and(&Permissions::of_role(owner.role));
        let scopes = input.scopes.unwrap_or_else(|| most.clone());
        let beyond = |detail: &str| Err(Error::Forbidden { code: "beyond_own", detail: detail.to_owned() });
        if !scopes.is_within(&most) {
            return beyond("a token cannot have scopes that its maker or its account has not");
        }
        if !caller.covers_images(&input.images) {
            return beyond("a token that is limited to destinations makes only tokens for some of the same");
        }
        let new = NewToken { name: input.name, scopes, images: input.images, expires_at: input.expires_at };
        issue_token(&self.store, &owner.name, &new).await
    }

    /// A page of those of an account's tokens that can do no more than the caller, with their last uses, newest first, and
    /// whether there are older ones.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn tokens(
        &self,
        caller: &Principal,
        owner: &User,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<(Object<Token>, Option<Timestamp>)>, bool)> {
        let scope = Scope::Owner(owner.name.clone());
        let mut query = ObjectQuery { scope: scope.clone(), kind: Kind::Token, owner: None, parent: None, before, limit };
        let mut shown = Vec::with_capacity(limit);
        loop {
            let (tokens, more) = self.store.objects::<Token>(&query).await?;
            query.before = tokens.last().map(|token| token.order);
            for token in tokens.into_iter().filter(|token| covers(caller, owner, &token.body)) {
                if shown.len() == limit {
                    return Ok((shown, true));
                }
                let used = self.store.object::<Timestamp>(&scope, Kind::TokenUse, &token.id).await?;
                shown.push((token, used.map(|used| used.body)));
            }
            if !more {
                return Ok((shown, false));
            }
        }
    }

    /// Makes a token worthless that can do no more than the caller. Admins can revoke everybody's.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn revoke_token(&self, caller: &Principal, id: TokenId) -> Result<()> {
        let key = id.to_string();
        let token = self.store.object::<Token>(&caller.scope(), Kind::Token, &key).await?.ok_or(Error::NotFound("token"))?.body;
        let owner = self.user(&token.owner).await?.body;
        if !covers(caller, &owner, &token) {
            return Err(Error::NotFound("token"));
        }
        let gone = [Kind::Token, Kind::TokenUse].map(|kind| Write::remove(kind, &key, Expect::Anything));
        Ok(self.store.commit(&gone).await?)
    }
}

/// Whether a token, by what its account may now, can do no more than the caller.
fn covers(caller: &Principal, owner: &User, token: &Token) -> bool {
    caller.covers(&token.scopes.and(&Permissions::of_role(owner.role)), &token.images)
}
