//! What a container is to be: the one typed description that every way of making a container ends in.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{BuildId, Digest, ImageRef, InvalidImageRef};

/// Labels under it are the service's own; nobody else may set them.
pub const RESERVED_LABELS: &str = "dockwright.";

/// Everything that a user may ask of a container, checked. It can only hold what is allowed: what is not
/// here is refused by name before, and is never told to the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    pub image: ImageSource,
    /// Arguments; empty: the image's own.
    pub command: Vec<String>,
    /// Empty: the image's own.
    pub entrypoint: Vec<String>,
    pub env: BTreeMap<String, EnvValue>,
    pub ports: Vec<Port>,
    pub volumes: Vec<VolumeMount>,
    pub network: NetworkChoice,
    /// Memory and swap together, in bytes.
    pub memory_bytes: u64,
    /// Thousandths of a CPU.
    pub milli_cpus: u64,
    /// Most processes and threads.
    pub pids: u64,
    pub restart: RestartPolicy,
    /// `user[:group]`, by name or number; the image's own when absent.
    pub user: Option<String>,
    /// Absolute; the image's own when absent.
    pub workdir: Option<String>,
    /// Whether the image's part of the file system cannot be written to.
    pub read_only: bool,
    /// Whether the container's own process has a terminal.
    pub tty: bool,
    pub healthcheck: Option<Healthcheck>,
    pub labels: BTreeMap<String, String>,
    pub admin: AdminOnly,
}

/// What only an admin may ask for; empty for everybody else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminOnly {
    /// Folders of the host, each below a root that the operator has allowed.
    pub binds: Vec<Bind>,
    /// The address of the host that ports are published on, instead of the configured one.
    pub publish_on: Option<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    pub source: String,
    pub path: String,
    pub read_only: bool,
}

/// What a container is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageSource {
    Reference(RunImage),
    /// What this build has made.
    Build(BuildId),
}

/// An image by name, or by name and digest, normalised as Docker does.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunImage {
    pub image: ImageRef,
    /// When present it says which image, and the tag is only a name.
    pub digest: Option<Digest>,
}

impl RunImage {
    /// As the engine is to be told: with a digest, the tag is left out, for the engine refuses both together in some calls.
    #[must_use]
    pub fn reference(&self) -> String {
        match &self.digest {
            Some(digest) => format!("{}@{digest}", self.image.repository()),
            None => self.image.to_string(),
        }
    }

    /// As it is shown and kept: with the tag also beside a digest, unless it is the one that is meant when none is named.
    #[must_use]
    pub fn written(&self) -> String {
        match &self.digest {
            Some(digest) if self.image.tag() != "latest" => format!("{}@{digest}", self.image),
            _ => self.reference(),
        }
    }
}

impl fmt::Display for RunImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reference())
    }
}

impl fmt::Debug for RunImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RunImage {
    type Err = InvalidImageRef;

    fn from_str(text: &str) -> Result<Self, InvalidImageRef> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse().map_err(|_| InvalidImageRef::Format)?)),
            None => (text, None),
        };
        // To the engine, that is an image's id: whoever knows it would get what is another's.
        if name.parse::<Digest>().is_ok() {
            return Err(InvalidImageRef::Id);
        }
        Ok(Self { image: name.parse()?, digest })
    }
}

impl TryFrom<String> for RunImage {
    type Error = InvalidImageRef;

    fn try_from(text: String) -> Result<Self, InvalidImageRef> {
        text.parse()
    }
}

impl From<RunImage> for String {
    fn from(image: RunImage) -> Self {
        image.written()
    }
}

/// The value of an environment variable. A secret's value is sealed beside the spec and never shown again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvValue {
    Plain(String),
    Secret,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port of the container that is published on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    pub container: u16,
    pub protocol: Protocol,
    /// A free one of the allowed range when absent.
    pub host: Option<u16>,
}

/// A volume of the owner's own, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeMount {
    pub volume: ObjectName,
    /// Where in the container; absolute.
    pub path: String,
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkChoice {
    /// The owner's default network.
    Default,
    /// Another network of the owner's own.
    Named(ObjectName),
    /// No network at all.
    None,
}

/// When the engine starts a container again that has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RestartPolicy {
    #[default]
    No,
    /// After an exit code other than 0, at most so many times (0: without end).
    OnFailure(u32),
    Always,
    UnlessStopped,
}

impl FromStr for RestartPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, times) = text.split_once(':').map_or((text, None), |(name, times)| (name, Some(times)));
        match (name, times) {
            ("no" | "", None) => Ok(Self::No),
            ("always", None) => Ok(Self::Always),
            ("unless-stopped", None) => Ok(Self::UnlessStopped),
            ("on-failure", None) => Ok(Self::OnFailure(0)),
            ("on-failure", Some(times)) if times.parse::<u32>().is_ok_and(|n| n > 0) => {
                Ok(Self::OnFailure(times.parse().unwrap_or_default()))
            }
            _ => Err(format!("{text:?} is no restart policy; they are: no, on-failure, on-failure:N, always, unless-stopped")),
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::OnFailure(0) => f.write_str("on-failure"),
            Self::OnFailure(times) => write!(f, "on-failure:{times}"),
            Self::Always => f.write_str("always"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

impl TryFrom<String> for RestartPolicy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<RestartPolicy> for String {
    fn from(policy: RestartPolicy) -> Self {
        policy.to_string()
    }
}

/// How the engine finds out whether the container does its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// In the engine's form: `CMD` with arguments, `CMD-SHELL` with a line, or `NONE`.
    pub test: Vec<String>,
    /// Milliseconds; the engine's own when absent.
    pub interval_ms: Option<u64>,
    pub timeout_ms: Option<u64>,
    pub start_period_ms: Option<u64>,
    pub retries: Option<u32>,
}

/// The name of an app, a volume or a network: 1 to 63 of `a-z 0-9 -`, beginning and ending with a letter or digit
/// (RFC 1123: it is a host's name in the network). No name reads as an id does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectName(String);

impl ObjectName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of each owner's network that nobody has to make.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn default_network() -> Self {
        Self("default".to_owned())
    }
}

impl FromStr for ObjectName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let inside = text.bytes().all(|b| plain(b) || b == b'-');
        let ends = text.bytes().next().is_some_and(plain) && text.bytes().last().is_some_and(plain);
        if !inside || !ends || text.len() > 63 {
            let shown: String = text.chars().take(80).collect();
            return Err(format!("{shown:?} is no name: 1 to 63 of a-z 0-9 -, beginning and ending with a letter or digit"));
        }
        if uuid::Uuid::try_parse(text).is_ok() {
            return Err(format!("{text:?} reads as an id; a name must not"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for ObjectName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ObjectName> for String {
    fn from(name: ObjectName) -> Self {
        name.0
    }
}

impl AsRef<str> for ObjectName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_with_or_without_its_digest() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let read = |text: &str| text.parse::<RunImage>().map(|image| image.to_string());
        assert_eq!(read("busybox"), Ok("docker.io/library/busybox:latest".into()));
        assert_eq!(read(&format!("h:1/a:2@{digest}")), Ok(format!("h:1/a@{digest}")));
        for name in ["h:1/a:2", "h:1/a", &format!("h:1/a:2@{digest}"), &format!("h:1/a@{digest}")] {
            let image: RunImage = name.parse().expect(name);
            assert_eq!(image.written().parse(), Ok(image), "{name}");
        }
        assert_eq!(read(&digest), Err(InvalidImageRef::Id));
        for bad in ["", "a@sha256:1", "a@", "dockwright.local/build:x", "a/B"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn policies_are_written_as_docker_writes_them() {
        for text in ["no", "on-failure", "on-failure:3", "always", "unless-stopped"] {
            assert_eq!(text.parse::<RestartPolicy>().expect(text).to_string(), text);
        }
        for bad in ["never", "always:1", "on-failure:0", "on-failure:-1", "on-failure:x"] {
            assert!(bad.parse::<RestartPolicy>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_names_of_hosts() {
        for good in ["a", "web-1", "0"] {
            assert!(good.parse::<ObjectName>().is_ok(), "{good}");
        }
        let id = super::super::AppId::new().to_string();
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "a/b", "ä", &"a".repeat(64), &id, &id.replace('-', "")] {
            assert!(bad.parse::<ObjectName>().is_err(), "{bad}");
        }
    }
}
