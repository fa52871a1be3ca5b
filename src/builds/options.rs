//! The text parts of an upload, read into a [`BuildSpec`]. Every fault is collected, so that all are told together.

use std::collections::BTreeMap;
use std::str::FromStr;

use secrecy::SecretString;

use super::Policy;
use super::entrusted::SecretPart;
use crate::domain::quantity::{Bytes, Cpus, Span};
use crate::domain::{BuildSpec, Credentials, ImageRef, NetworkMode, Priority, limits};
use crate::error::FieldError;

/// Words in the name of a build argument that say that its value is a secret.
const SECRET_WORDS: [&str; 8] = ["PASSWORD", "PASSWD", "TOKEN", "SECRET", "KEY", "CREDENTIAL", "PASSPHRASE", "APIKEY"];
/// What arguments begin with that tell BuildKit how to build.
const BUILDKITS_OWN: &str = "BUILDKIT_";
/// Labels under this prefix are the service's own.
const RESERVED_LABELS: &str = "dockwright.";

/// What a part of the upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartKind {
    File,
    Context,
    Text(TextPart),
    /// A secret or an ssh key; the name says which.
    Secret(SecretPart),
    /// A text that the route reads itself.
    Own,
    /// Known by name, but not served by this version.
    NotYet,
    Unknown,
}

macro_rules! text_parts {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// A part that holds a short text.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum TextPart { $($variant),* }

        impl TextPart {
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            fn of(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

text_parts! {
    Dockerfile = "dockerfile", Image = "image", Username = "username", Password = "password", BuildArg = "build_arg",
    Label = "label", Target = "target", Platform = "platform", NoCache = "no_cache", Pull = "pull", Push = "push",
    Registry = "registry", Manifest = "manifest", Git = "git",
    Project = "project", CacheFrom = "cache_from", InlineCache = "inline_cache", Cold = "cold",
    Supersede = "supersede", Reuse = "reuse", Force = "force",
    Network = "network", Memory = "memory", Cpus = "cpus", Timeout = "timeout", Priority = "priority",
}

impl TextPart {
    fn repeats(self) -> bool {
        matches!(self, Self::Image | Self::BuildArg | Self::Label | Self::Registry | Self::CacheFrom)
    }
}

impl PartKind {
    #[must_use]
    pub fn of(name: &str) -> Self {
        match name {
            "file" => Self::File,
            "context" => Self::Context,
            // Of a retry alone.
            "force" => Self::Unknown,
            name => match SecretPart::of(name) {
                Some(part) => Self::Secret(part),
                None => TextPart::of(name).map_or(Self::Unknown, Self::Text),
            },
        }
    }
}

/// A fault of the input with a stable code of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub code: &'static str,
    pub field: FieldError,
}

/// Collects faults.
#[derive(Debug, Default)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    pub fn add(&mut self, code: &'static str, field: &str, message: impl Into<String>) {
        self.0.push(Fault { code, field: FieldError::new(field, message) });
    }
}

/// The texts as they came, in order.
#[derive(Default)]
pub struct Texts(Vec<(TextPart, SecretString)>);

impl Texts {
    pub fn push(&mut self, part: TextPart, value: SecretString) {
        self.0.push((part, value));
    }

    pub(super) fn all(&self, part: TextPart) -> impl Iterator<Item = &str> {
        use secrecy::ExposeSecret;
        self.0.iter().filter(move |(p, _)| *p == part).map(|(_, value)| value.expose_secret())
    }

    pub(super) fn one(&self, part: TextPart) -> Option<&str> {
        self.all(part).next()
    }

    pub fn first(&self, part: TextPart) -> Option<String> {
        self.one(part).map(str::to_owned)
    }

    pub fn take_first(&mut self, part: TextPart) -> Option<String> {
        let first = self.first(part)?;
        let index = self.0.iter().position(|(p, _)| *p == part)?;
        self.0.remove(index);
        Some(first)
    }

    /// Each text by its part's name and a digest of its value.
    pub fn digests(&self) -> Vec<String> {
        use secrecy::ExposeSecret;
        use sha2::{Digest as _, Sha256};
        let digest = |value: &SecretString| hex::encode(Sha256::digest(value.expose_secret().as_bytes()));
        self.0.iter().map(|(part, value)| format!("{} {}", part.name(), digest(value))).collect()
    }

    pub(super) fn repeated(&self, faults: &mut Faults) {
        let mut told: Vec<TextPart> = Vec::new();
        for (part, _) in &self.0 {
            if !part.repeats() && !told.contains(part) && self.all(*part).count() > 1 {
                told.push(*part);
                faults.add("part_repeated", part.name(), "may be given only once");
            }
        }
    }

    fn read<T>(&self, part: TextPart, faults: &mut Faults, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        match read(self.one(part)?) {
            Ok(value) => Some(value),
            Err(why) => {
                faults.add("invalid_option", part.name(), why);
                None
            }
        }
    }

    pub(super) fn flag(&self, part: TextPart, default: bool, faults: &mut Faults) -> bool {
        let read = |text: &str| text.parse::<bool>().map_err(|_| format!("{text:?} must be true or false"));
        self.read(part, faults, read).unwrap_or(default)
    }

    /// Key and value of a repeated `KEY=VALUE` part.
    fn pairs(&self, part: TextPart, faults: &mut Faults) -> BTreeMap<String, String> {
        let mut pairs = BTreeMap::new();
        for text in self.all(part) {
            match text.split_once('=') {
                Some((key, value)) if !key.trim().is_empty() => {
                    pairs.insert(key.to_owned(), value.to_owned());
                }
                _ => faults.add("invalid_option", part.name(), format!("{text:?} must have the form KEY=VALUE")),
            }
        }
        pairs
    }

    fn images(&self, push: bool, faults: &mut Faults) -> Vec<ImageRef> {
        let mut images: Vec<ImageRef> = Vec::new();
        for text in self.all(TextPart::Image) {
            match text.parse::<ImageRef>() {
                Ok(image) if images.contains(&image) => {}
                Ok(image) => images.push(image),
                Err(why) => faults.add("invalid_image", "image", format!("{text:?} {why}")),
            }
        }
        if images.len() > limits::DESTINATIONS {
            faults.add("too_many_images", "image", format!("at most {} destinations", limits::DESTINATIONS));
        }
        if push && self.one(TextPart::Image).is_none() {
            faults.add("image_missing", "image", "name at least one destination, or send push=false");
        }
        images
    }

    fn cache_from(&self, faults: &mut Faults) -> Vec<ImageRef> {
        let mut images: Vec<ImageRef> = Vec::new();
        for text in self.all(TextPart::CacheFrom) {
            match text.parse::<ImageRef>() {
                Ok(image) if images.contains(&image) => {}
                Ok(image) => images.push(image),
                Err(why) => faults.add("invalid_image", "cache_from", format!("{text:?} {why}")),
            }
        }
        if images.len() > limits::CACHE_SOURCES {
            faults.add("too_many_images", "cache_from", format!("at most {} images", limits::CACHE_SOURCES));
        }
        images
    }

    fn build_args(&self, faults: &mut Faults) -> BTreeMap<String, String> {
        let args = self.pairs(TextPart::BuildArg, faults);
        for key in args.keys() {
            let upper = key.to_ascii_uppercase();
            if upper == "BUILDKIT_SYNTAX" {
                faults.add(
                    "frontend_not_allowed",
                    "build_arg",
                    "BUILDKIT_SYNTAX is not available: the Dockerfile is read by the engine's own frontend",
                );
            } else if upper.starts_with(BUILDKITS_OWN) {
                let instead = match upper.as_str() {
                    "BUILDKIT_INLINE_CACHE" => "; send inline_cache=true",
                    "BUILDKIT_CACHE_MOUNT_NS" => "; name a project, whose builds share their cache mounts",
                    _ => "",
                };
                faults.add(
                    "reserved_build_arg",
                    "build_arg",
                    format!("{key} is the service's own argument to BuildKit{instead}"),
                );
            } else if SECRET_WORDS.iter().any(|word| upper.contains(word)) {
                let why = format!(
                    "{key} looks like a secret, and build arguments stay readable in the image's history; send it as secret.{} instead",
                    key.to_lowercase()
                );
                faults.add("secret_build_arg", "build_arg", why);
            }
        }
        args
    }

    pub(super) fn credentials(&self, images: &[ImageRef], faults: &mut Faults) -> Option<Credentials> {
        let (username, password) = match (self.one(TextPart::Username), self.one(TextPart::Password)) {
            (None, None) => return None,
            (Some(username), Some(password)) => (username, password),
            (None, Some(_)) => {
                faults.add("credentials_incomplete", "username", "is missing beside password");
                return None;
            }
            (Some(_), None) => {
                faults.add("credentials_incomplete", "password", "is missing beside username");
                return None;
            }
        };
        let host = images.first()?.host();
        if images.iter().any(|image| image.host() != host) {
            faults.add(
                "credentials_ambiguous",
                "username",
                "with username and password every image must be on the same registry host",
            );
        }
        Some(Credentials::new(host, username, SecretString::from(password.to_owned())))
    }

    /// Reads everything; what is faulty is told to `faults` and stands at its default in the answer.
    pub fn spec(
        &self,
        policy: &Policy,
        file_given: bool,
        context_given: bool,
        faults: &mut Faults,
    ) -> (BuildSpec, Option<Credentials>) {
        self.repeated(faults);
        let push = self.flag(TextPart::Push, true, faults);
        let images = self.images(push, faults);
        let credentials = self.credentials(&images, faults);
        let labels = self.pairs(TextPart::Label, faults);
        if let Some(key) = labels.keys().find(|key| key.starts_with(RESERVED_LABELS)) {
            faults.add("reserved_label", "label", format!("{key}: labels that begin with {RESERVED_LABELS} are reserved"));
        }
        if !context_given && self.one(TextPart::Dockerfile).is_some() {
            faults.add("invalid_option", "dockerfile", "names a path inside a context, and no context was sent");
        }
        let spec = BuildSpec {
            dockerfile: self.read(TextPart::Dockerfile, faults, dockerfile_path).unwrap_or_else(|| "Dockerfile".into()),
            dockerfile_replaced: file_given && context_given,
            build_args: self.build_args(faults),
            labels,
            target: self.read(TextPart::Target, faults, |text| word(text, "a build stage's name")),
            platform: self.read(TextPart::Platform, faults, platform),
            no_cache: self.flag(TextPart::NoCache, false, faults),
            pull: self.flag(TextPart::Pull, false, faults),
            push,
            network: self.read(TextPart::Network, faults, network).unwrap_or_default(),
            memory_bytes: self.read(TextPart::Memory, faults, |text| memory(text, policy.max_memory)).map(|bytes| bytes.0),
            milli_cpus: self.read(TextPart::Cpus, faults, |text| capped::<Cpus>(text, policy.max_cpus)).map(|cpus| cpus.0),
            timeout_ms: self.timeout(policy, faults),
            priority: self.read(TextPart::Priority, faults, priority).unwrap_or_default(),
            username: credentials.as_ref().map(|c| c.username().to_owned()),
            registry_host: credentials.as_ref().map(|c| c.host().to_owned()),
            registries: self.all(TextPart::Registry).map(str::to_owned).collect(),
            project: self
                .read(TextPart::Project, faults, project)
                .or_else(|| Some(images.first()?.repository()))
                .unwrap_or_default(),
            cache_from: self.cache_from(faults),
            inline_cache: self.flag(TextPart::InlineCache, false, faults),
            cold: self.flag(TextPart::Cold, false, faults),
            supersede: self.flag(TextPart::Supersede, false, faults),
            secrets: Vec::new(),
            ssh: Vec::new(),
            images,
        };
        (spec, credentials)
    }

    fn timeout(&self, policy: &Policy, faults: &mut Faults) -> u64 {
        let read = |text: &str| {
            let span = capped::<Span>(text, policy.max_build_timeout)?;
            if span.0.as_secs() == 0 { Err("must be at least 1s".into()) } else { Ok(span) }
        };
        let span = self.read(TextPart::Timeout, faults, read).unwrap_or(policy.build_timeout);
        u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX)
    }
}

fn capped<T: FromStr<Err = String> + PartialOrd + std::fmt::Display>(text: &str, cap: T) -> Result<T, String> {
    let value = text.parse::<T>()?;
    if value > cap { Err(format!("{value} is above the limit of {cap}")) } else { Ok(value) }
}

/// The engine refuses less than 4 MiB (Docker's `--memory`: minimum 6m since 20.10).
fn memory(text: &str, cap: Bytes) -> Result<Bytes, String> {
    let bytes = capped(text, cap)?;
    if bytes < Bytes(6 << 20) { Err("must be at least 6m".into()) } else { Ok(bytes) }
}

fn project(text: &str) -> Result<String, String> {
    let ok = (1..=limits::PROJECT_BYTES).contains(&text.len()) && !text.chars().any(char::is_control) && text.trim() == text;
    let rule =
        || format!("{text:?} must have 1 to {} bytes, without control characters or blanks at its ends", limits::PROJECT_BYTES);
    if ok { Ok(text.to_owned()) } else { Err(rule()) }
}

fn network(text: &str) -> Result<NetworkMode, String> {
    match text {
        "default" => Ok(NetworkMode::Default),
        "none" => Ok(NetworkMode::None),
        other => Err(format!("{other:?} must be default or none")),
    }
}

fn priority(text: &str) -> Result<Priority, String> {
    let value: i8 = text.parse().map_err(|_| format!("must be a whole number from {} to {}", Priority::MIN, Priority::MAX))?;
    Priority::try_from(value)
}

fn word(text: &str, what: &str) -> Result<String, String> {
    let ok = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if ok { Ok(text.to_owned()) } else { Err(format!("{text:?} is not {what}: 1 to 128 of letters, digits, _ . -")) }
}

/// `os/arch[/variant]`, or the architecture alone.
fn platform(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let ok = parts.len() <= 3
        && parts.iter().all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)));
    if ok && text.len() <= 64 { Ok(text.to_owned()) } else { Err(format!("{text:?} must have the form os/arch[/variant]")) }
}

fn dockerfile_path(text: &str) -> Result<String, String> {
    let path = text.strip_prefix("./").unwrap_or(text);
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    let ok = path.len() <= limits::PATH_BYTES && !path.contains('\0') && path.split('/').all(plain);
    if ok { Ok(path.to_owned()) } else { Err(format!("{text:?} must be a relative path inside the context, without ..")) }
}
