//! One private key: read, and signed with. Source: OpenSSH `PROTOCOL.key`; the signatures' forms are in RFC 8709 (Ed25519), RFC 8332 (RSA) and
//! RFC 5656 (ECDSA).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use num_bigint::BigUint;
use secrecy::zeroize::Zeroizing;

use super::wire::{Reader, put_mpint, put_string, without_zeros};

const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";
const ED25519: &[u8] = b"ssh-ed25519";
const RSA: &[u8] = b"ssh-rsa";
/// Flags of a request to sign (draft-ietf-sshm-ssh-agent, 4.5.1): with what an RSA key signs.
const RSA_SHA2_256: u32 = 2;
const RSA_SHA2_512: u32 = 4;

/// A curve of ECDSA keys: the type of a key, its private number's bytes, how it signs.
type Curve = (&'static str, usize, &'static EcdsaSigningAlgorithm);
static CURVES: [Curve; 3] = [
    ("ecdsa-sha2-nistp256", 32, &ECDSA_P256_SHA256_FIXED_SIGNING),
    ("ecdsa-sha2-nistp384", 48, &ECDSA_P384_SHA384_FIXED_SIGNING),
    ("ecdsa-sha2-nistp521", 66, &ECDSA_P521_SHA512_FIXED_SIGNING),
];

/// Why a text is no key that can be forwarded. Says nothing of what it holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("is no private key in OpenSSH's form; rewrite another form with: ssh-keygen -p -f KEY")]
    NotOpenSsh,
    #[error("is encrypted with a passphrase; send a copy without one, made with: ssh-keygen -p -N '' -f COPY")]
    Encrypted,
    #[error("is cut short or damaged")]
    Damaged,
    #[error("is of a type that cannot be forwarded; ed25519, rsa (2048 to 8192 bits) and ecdsa can")]
    Unsupported,
}

/// A private key that signs. It has no `Debug`.
pub struct SigningKey {
    /// As ssh names the public half.
    public: Vec<u8>,
    comment: String,
    pair: Pair,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
    Ecdsa(&'static Curve, EcdsaKeyPair),
}

impl SigningKey {
    /// Reads a file as `ssh-keygen` writes it.
    ///
    /// # Errors
    /// [`KeyFault`].
    pub fn parse(file: &[u8]) -> Result<Self, KeyFault> {
        let text = std::str::from_utf8(file).map_err(|_| KeyFault::NotOpenSsh)?;
        let (_, body) = text.split_once(BEGIN).ok_or(KeyFault::NotOpenSsh)?;
        let (body, _) = body.split_once(END).ok_or(KeyFault::Damaged)?;
        let body = Zeroizing::new(body.split_ascii_whitespace().collect::<String>());
        let bytes = Zeroizing::new(STANDARD.decode(body.as_bytes()).map_err(|_| KeyFault::Damaged)?);
        Self::read(bytes.strip_prefix(MAGIC).ok_or(KeyFault::NotOpenSsh)?)
    }

    fn read(bytes: &[u8]) -> Result<Self, KeyFault> {
        let mut file = Reader::new(bytes);
        let head = (file.string(), file.string(), file.string(), file.u32());
        let (Some(cipher), Some(_), Some(_), Some(keys)) = head else { return Err(KeyFault::Damaged) };
        if cipher != b"none" {
            return Err(KeyFault::Encrypted);
        }
        if keys != 1 {
            return Err(KeyFault::Unsupported);
        }
        let (Some(public), Some(private)) = (file.string(), file.string()) else { return Err(KeyFault::Damaged) };
        let mut private = Reader::new(private);
        // Twice the same number of chance, by which a wrong passphrase would be seen.
        let whole = private.u32().zip(private.u32()).is_some_and(|(one, other)| one == other);
        let kind = private.string().filter(|_| whole).ok_or(KeyFault::Damaged)?;
        let pair = Pair::read(kind, &mut private)?;
        let comment = private.string().ok_or(KeyFault::Damaged)?;
        Ok(Self { public: public.to_vec(), comment: String::from_utf8_lossy(comment).into_owned(), pair })
    }

    /// As ssh names the public half.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    #[must_use]
    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// The signature as ssh sends it. `None` when the flags ask an RSA key for SHA-1, which is broken.
    pub(super) fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        let (name, signature) = match &self.pair {
            Pair::Ed25519(pair) => ("ssh-ed25519", pair.sign(data).as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let (name, padding): (_, &'static dyn RsaEncoding) = match flags {
                    flags if flags & RSA_SHA2_512 != 0 => ("rsa-sha2-512", &RSA_PKCS1_SHA512),
                    flags if flags & RSA_SHA2_256 != 0 => ("rsa-sha2-256", &RSA_PKCS1_SHA256),
                    _ => return None,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, data, &mut signature).ok()?;
                (name, signature)
            }
            Pair::Ecdsa((name, ..), pair) => {
                let fixed = pair.sign(&random, data).ok()?;
                let (r, s) = fixed.as_ref().split_at(fixed.as_ref().len() / 2);
                let mut signature = Vec::new();
                put_mpint(&mut signature, r);
                put_mpint(&mut signature, s);
                (*name, signature)
            }
        };
        let mut out = Vec::new();
        put_string(&mut out, name.as_bytes());
        put_string(&mut out, &signature);
        Some(out)
    }
}

impl Pair {
    fn read(kind: &[u8], file: &mut Reader<'_>) -> Result<Self, KeyFault> {
        if kind == ED25519 {
            return ed25519(file).ok_or(KeyFault::Damaged);
        }
        if kind == RSA {
            return rsa(file);
        }
        let curve = CURVES.iter().find(|(name, ..)| name.as_bytes() == kind).ok_or(KeyFault::Unsupported)?;
        ecdsa(curve, file).ok_or(KeyFault::Damaged)
    }
}

fn ed25519(file: &mut Reader<'_>) -> Option<Pair> {
    let (public, private) = (file.string()?, file.string()?);
    let pair = Ed25519KeyPair::from_seed_and_public_key(private.get(..32)?, public).ok()?;
    Some(Pair::Ed25519(pair))
}

fn ecdsa(curve: &'static Curve, file: &mut Reader<'_>) -> Option<Pair> {
    let (_, bytes, algorithm) = curve;
    let (_name, public, number) = (file.string()?, file.string()?, without_zeros(file.string()?));
    let mut private = Zeroizing::new(vec![0; *bytes]);
    private.get_mut(bytes.checked_sub(number.len())?..)?.copy_from_slice(number);
    EcdsaKeyPair::from_private_key_and_public_key(algorithm, &private, public).ok().map(|pair| Pair::Ecdsa(curve, pair))
}

fn rsa(file: &mut Reader<'_>) -> Result<Pair, KeyFault> {
    let mut number = || file.string().map(without_zeros).ok_or(KeyFault::Damaged);
    let (n, e, d, inverse, p, q) = (number()?, number()?, number()?, number()?, number()?, number()?);
    let one_less = |prime: &[u8]| Some(BigUint::from_bytes_be(prime)).filter(|p| *p > BigUint::from(1u8)).map(|p| p - 1u8);
    let exponent = |prime: &[u8]| {
        let modulus = one_less(prime).ok_or(KeyFault::Damaged)?;
        Ok(Zeroizing::new((BigUint::from_bytes_be(d) % modulus).to_bytes_be()))
    };
    let (for_p, for_q) = (exponent(p)?, exponent(q)?);
    let parts = KeyPairComponents {
        public_key: PublicKeyComponents { n, e },
        d,
        p,
        q,
        dP: for_p.as_slice(),
        dQ: for_q.as_slice(),
        qInv: inverse,
    };
    RsaKeyPair::from_components(&parts).map(|pair| Pair::Rsa(Box::new(pair))).map_err(|_| KeyFault::Unsupported)
}
