//! Passwords: Argon2id with 19 MiB, two passes, one lane (OWASP Password Storage Cheat Sheet), and what is refused as one.

use std::sync::LazyLock;

use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

use crate::domain::{Owner, PasswordHash};
use crate::error::{Error, Result};

/// Shortest and longest password, in characters and bytes.
const SHORTEST: usize = 10;
const LONGEST: usize = 256;
/// `zxcvbn` scores from 0 to 4; 2 stands for more than a million guesses, which no list of the commonest has.
const WEAKEST: u8 = 2;
const MEMORY_KIB: u32 = 19 * 1024;

/// Each computation takes 19 MiB and some tens of milliseconds of a core: a flood of log-ins waits here.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

/// What an unknown name's password is compared with, so that the answer takes as long.
static NOBODY: LazyLock<PasswordHash> = LazyLock::new(|| compute(&SecretString::from("nobody's password")));

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, 2, 1, None).expect("valid, because they are constants within Argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn compute(password: &SecretString) -> PasswordHash {
    let phc = argon2().hash_password(password.expose_secret().as_bytes()).expect("hashes, because its length is bounded");
    PasswordHash::new(phc.to_string())
}

/// Refuses what is short, long, among the commonest, or made of the account's own name.
///
/// # Errors
/// [`Error::Invalid`] `weak_password`, with the reason.
pub fn check(field: &'static str, name: &Owner, password: &SecretString) -> Result<()> {
    let text = password.expose_secret();
    let weak = |why: String| Err(Error::invalid("weak_password", field, why));
    if text.chars().count() < SHORTEST {
        return weak(format!("must have at least {SHORTEST} characters"));
    }
    if text.len() > LONGEST {
        return weak(format!("may have at most {LONGEST} bytes"));
    }
    // Its time grows with the square of the length; what is long has been guessed by none.
    let head: String = text.chars().take(64).collect();
    let estimate = zxcvbn::zxcvbn(&head, &[name.as_str(), "dockwright"]);
    if u8::from(estimate.score()) < WEAKEST {
        let told = estimate.feedback().and_then(|feedback| feedback.warning()).map(|warning| format!(" ({warning})"));
        return weak(format!("is among the commonest or easy to guess{}", told.unwrap_or_default()));
    }
    Ok(())
}

/// # Errors
/// When the service is ending.
pub async fn hash(password: SecretString) -> Result<PasswordHash> {
    let _place = AT_ONCE.acquire().await.map_err(Error::internal)?;
    tokio::task::spawn_blocking(move || compute(&password)).await.map_err(Error::internal)
}

/// Whether this is the password. Takes as long when there is none to compare with.
///
/// # Errors
/// When the service is ending.
pub async fn verify(password: SecretString, known: Option<PasswordHash>) -> Result<bool> {
    let _place = AT_ONCE.acquire().await.map_err(Error::internal)?;
    let compare = move || {
        let phc = known.as_ref().unwrap_or(&NOBODY).as_phc();
        let same = argon2().verify_password(password.expose_secret().as_bytes(), phc).is_ok();
        same && known.is_some()
    };
    tokio::task::spawn_blocking(compare).await.map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(password: &str) -> bool {
        let name = "ada.lovelace".parse().expect("a name");
        check("password", &name, &SecretString::from(password)).is_err()
    }

    #[test]
    fn the_commonest_and_the_own_name_are_refused() {
        for bad in
            ["short", "1234567890", "password123", "qwertyuiop", "iloveyou12", "aaaaaaaaaaaa", "ada.lovelace", "dockwright1"]
        {
            assert!(refused(bad), "{bad}");
        }
        assert!(refused(&"x7#kQ".repeat(60)));
        for good in ["correct horse battery", "tr0ub4dor&3-zebra", "длинный пароль лодки"] {
            assert!(!refused(good), "{good}");
        }
    }

    #[tokio::test]
    async fn only_the_same_password_is_the_password() {
        let hash = hash(SecretString::from("correct horse battery")).await.expect("hashes");
        assert!(hash.as_phc().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.as_phc());
        assert!(!format!("{hash:?}").contains("argon2"));
        assert!(verify(SecretString::from("correct horse battery"), Some(hash.clone())).await.expect("compares"));
        assert!(!verify(SecretString::from("correct horse batterz"), Some(hash)).await.expect("compares"));
        assert!(!verify(SecretString::from("nobody's password"), None).await.expect("compares"));
    }
}
