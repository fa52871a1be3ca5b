//! Secrets and ssh keys of an upload: `secret.ID` and `ssh.ID`.

use secrecy::{ExposeSecret, SecretSlice};
use sha2::{Digest as _, Sha256};

use super::options::Faults;
use crate::context::dockerfile::{MountKind, Outline};
use crate::domain::{BuildSecret, BuildSpec, Credentials, Entrusted, limits};
use crate::engine::ssh::SigningKey;

/// A part whose content nobody may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretPart {
    Secret,
    Ssh,
}

impl SecretPart {
    const ALL: [Self; 2] = [Self::Secret, Self::Ssh];

    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| name.starts_with(part.prefix()))
    }

    const fn prefix(self) -> &'static str {
        match self {
            Self::Secret => "secret.",
            Self::Ssh => "ssh.",
        }
    }

    /// Largest content, in bytes.
    #[must_use]
    pub const fn most_bytes(self) -> usize {
        match self {
            Self::Secret => limits::SECRET_BYTES,
            Self::Ssh => limits::SSH_KEY_BYTES,
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Ssh => "ssh key",
        }
    }
}

/// The secrets and keys of an upload as they came.
#[derive(Default)]
pub(super) struct Sent {
    secrets: Vec<BuildSecret>,
    ssh: Vec<BuildSecret>,
    bytes: usize,
}

impl Sent {
    /// Keeps a part, unless something is wrong with it. Nothing of its content is ever told.
    pub(super) fn add(&mut self, part: SecretPart, name: &str, value: SecretSlice<u8>, faults: &mut Faults) {
        let id = name.strip_prefix(part.prefix()).unwrap_or(name);
        if let Err(why) = self.may_add(part, id, value.expose_secret()) {
            return faults.add("invalid_secret", name, why);
        }
        self.bytes += value.expose_secret().len();
        self.list(part).push(BuildSecret::new(id, value));
    }

    fn list(&mut self, part: SecretPart) -> &mut Vec<BuildSecret> {
        match part {
            SecretPart::Secret => &mut self.secrets,
            SecretPart::Ssh => &mut self.ssh,
        }
    }

    fn may_add(&mut self, part: SecretPart, id: &str, value: &[u8]) -> Result<(), String> {
        let is_id = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if !(1..=limits::SECRET_ID_BYTES).contains(&id.len()) || !id.bytes().all(is_id) {
            return Err(format!("must end in an id: 1 to {} of letters, digits, _ . -", limits::SECRET_ID_BYTES));
        }
        if self.bytes + value.len() > limits::ENTRUSTED_BYTES {
            return Err(format!("the secrets and keys of a build may have {} bytes together", limits::ENTRUSTED_BYTES));
        }
        let list = self.list(part);
        if list.len() >= limits::SECRETS {
            return Err(format!("a build may have at most {} of them", limits::SECRETS));
        }
        match part {
            SecretPart::Secret if list.iter().any(|known| known.id() == id) => Err("may be given only once".into()),
            SecretPart::Secret => Ok(()),
            SecretPart::Ssh => SigningKey::parse(value).map(drop).map_err(|why| why.to_string()),
        }
    }

    /// Each by its part's name and a digest of its content; see [`super::Draft::fingerprint`].
    pub(super) fn digests(&self) -> Vec<String> {
        let digest = |part: SecretPart, one: &BuildSecret| {
            format!("{}{} {}", part.prefix(), one.id(), hex::encode(Sha256::digest(one.expose())))
        };
        let secrets = self.secrets.iter().map(|one| digest(SecretPart::Secret, one));
        secrets.chain(self.ssh.iter().map(|one| digest(SecretPart::Ssh, one))).collect()
    }

    /// All that the build is given; its ids are put into the spec. What only BuildKit knows is refused beside limits.
    pub(super) fn given(self, credentials: Vec<Credentials>, spec: &mut BuildSpec, faults: &mut Faults) -> Entrusted {
        spec.secrets = ids(&self.secrets);
        spec.ssh = ids(&self.ssh);
        if spec.has_limits() {
            refuse_with_limits(spec, faults);
        }
        Entrusted { credentials, secrets: self.secrets, ssh: self.ssh }
    }

    /// All that a build is given that repeats one with this spec: none of its secrets and keys, or each of them.
    pub(super) fn again(self, credentials: Vec<Credentials>, spec: &BuildSpec, faults: &mut Faults) -> Entrusted {
        let sent = [(SecretPart::Secret, ids(&self.secrets), &spec.secrets), (SecretPart::Ssh, ids(&self.ssh), &spec.ssh)];
        let any = sent.iter().any(|(_, sent, _)| !sent.is_empty());
        for (part, sent, wanted) in sent {
            for id in sent.iter().filter(|id| !wanted.contains(id)) {
                let why = format!("the build that is to be repeated had no such {}", part.what());
                faults.add("secret_unknown", &format!("{}{id}", part.prefix()), why);
            }
            for id in wanted.iter().filter(|id| any && !sent.contains(id)) {
                let why = format!(
                    "the build that is to be repeated had this {}, which was not sent: send all of them, or none",
                    part.what()
                );
                faults.add("secret_missing", &format!("{}{id}", part.prefix()), why);
            }
        }
        Entrusted { credentials, secrets: self.secrets, ssh: self.ssh }
    }
}

/// Each id once, in the order in which they came.
fn ids(secrets: &[BuildSecret]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for one in secrets {
        if !ids.iter().any(|known| known == one.id()) {
            ids.push(one.id().to_owned());
        }
    }
    ids
}

fn refuse_with_limits(spec: &BuildSpec, faults: &mut Faults) {
    let mut fields: Vec<String> = Vec::new();
    fields.extend(spec.secrets.iter().map(|id| format!("{}{id}", SecretPart::Secret.prefix())));
    fields.extend(spec.ssh.iter().map(|id| format!("{}{id}", SecretPart::Ssh.prefix())));
    fields.extend((!spec.cache_from.is_empty()).then(|| "cache_from".into()));
    fields.extend(spec.inline_cache.then(|| "inline_cache".into()));
    for field in fields {
        faults.add(
            "limits_need_classic",
            &field,
            "needs BuildKit, which ignores limits of memory and CPU: leave these out, or this",
        );
    }
}

/// A step that cannot run without what was not sent is told before anything is queued.
pub(super) fn check_mounts(outline: &Outline, spec: &BuildSpec, faults: &mut Faults) {
    for mount in outline.required_mounts(spec.target.as_deref()) {
        let (part, sent) = match mount.kind {
            MountKind::Secret => (SecretPart::Secret, &spec.secrets),
            MountKind::Ssh => (SecretPart::Ssh, &spec.ssh),
        };
        if !sent.contains(&mount.id) {
            let why =
                format!("line {} of the Dockerfile requires the {} {:?}, which was not sent", mount.line, part.what(), mount.id);
            faults.add("secret_missing", &format!("{}{}", part.prefix(), mount.id), why);
        }
    }
}
