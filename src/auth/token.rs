//! The text of a token: `dw_`, 55 letters and digits that hold its id and 192 random bits, and 6 of a checksum. A scanner for
//! leaked secrets knows it by `dw_[0-9A-Za-z]{61}` and, by the checksum, without asking anybody.

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};

use crate::domain::TokenId;

/// Scanners for leaked secrets know our tokens by this.
pub const PREFIX: &str = "dw_";
/// Base 62 digits of 64 bits.
const WORD: usize = 11;
/// The id and the secret, in words of 64 bits.
const WORDS: usize = 5;
/// Base 62 digits of a CRC-32.
const CHECK: usize = 6;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A new token: its id, and its text, which is kept nowhere.
#[must_use]
pub fn generate() -> (TokenId, SecretString) {
    let id = TokenId::new();
    let secret: [u64; 3] = rand::random();
    (id, text(id, secret))
}

fn text(id: TokenId, secret: [u64; 3]) -> SecretString {
    let [high, low] = halves(id.as_u128());
    let body: String = [high, low].into_iter().chain(secret).map(|word| digits(word, WORD)).collect();
    let check = digits(u64::from(crc32fast::hash(body.as_bytes())), CHECK);
    SecretString::from(format!("{PREFIX}{body}{check}"))
}

fn halves(bits: u128) -> [u64; 2] {
    let bytes = bits.to_be_bytes();
    [0, 8].map(|at| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes, because the range has eight")))
}

/// Base 62, with leading zeros.
fn digits(mut value: u64, width: usize) -> String {
    let mut digits = vec![b'0'; width];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[usize::try_from(value % 62).expect("small, because it is a remainder")];
        value /= 62;
    }
    String::from_utf8(digits).expect("ASCII, because the alphabet is")
}

fn value(digits: &str) -> Option<u64> {
    digits.bytes().try_fold(0_u64, |value, byte| {
        let digit = DIGITS.iter().position(|digit| *digit == byte)?;
        value.checked_mul(62)?.checked_add(digit as u64)
    })
}

/// The id in a token's text; `None` when it has not the form, or its checksum is wrong.
#[must_use]
pub fn id_of(text: &SecretString) -> Option<TokenId> {
    let rest = text.expose_secret().strip_prefix(PREFIX)?;
    if rest.len() != WORDS * WORD + CHECK || !rest.is_ascii() {
        return None;
    }
    let (body, check) = rest.split_at(WORDS * WORD);
    if value(check)? != u64::from(crc32fast::hash(body.as_bytes())) {
        return None;
    }
    let (high, low) = (value(&body[..WORD])?, value(&body[WORD..2 * WORD])?);
    Some(TokenId::from_u128((u128::from(high) << 64) | u128::from(low)))
}

/// What is kept of a token's or cookie's text. It has so many random bits that a fast hash is as good as a slow one.
#[must_use]
pub fn hash(text: &SecretString) -> String {
    hex::encode(Sha256::digest(text.expose_secret().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_holds_the_id_and_a_checksum() {
        let (id, text) = generate();
        assert_eq!(id_of(&text), Some(id));
        let plain = text.expose_secret();
        assert_eq!(plain.len(), 64);
        assert!(plain[3..].bytes().all(|b| b.is_ascii_alphanumeric()));
        for at in [3, 30, 63] {
            let mut changed = plain.to_owned();
            let other = if changed.as_bytes()[at] == b'a' { "b" } else { "a" };
            changed.replace_range(at..=at, other);
            assert_eq!(id_of(&SecretString::from(changed)), None, "a digit at {at} is wrong");
        }
        for bad in ["", "dw_", "dw_short", "xx_0000", &"dw_é".repeat(16)] {
            assert_eq!(id_of(&SecretString::from(bad)), None, "{bad}");
        }
    }
}
