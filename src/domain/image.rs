use std::fmt;
use std::str::FromStr;

use oci_client::Reference;
use serde::{Deserialize, Serialize};

use super::BuildId;

/// The host part of our own tags. Nobody else may build, push or refer to images under it.
pub const LOCAL_HOST: &str = "dockwright.local";

/// The tag by which the engine keeps the image of a build for us: `dockwright.local/build:ID`.
///
/// A label inside the image would do the same, but would give every build another digest and spoil the cache.
#[must_use]
pub fn local_tag(id: BuildId) -> String {
    format!("{LOCAL_HOST}/build:{id}")
}

/// The build whose tag it is, if it is one of ours.
#[must_use]
pub fn build_of_tag(tag: &str) -> Option<BuildId> {
    tag.strip_prefix(LOCAL_HOST)?.strip_prefix("/build:")?.parse().ok()
}

/// Repository of the tags that mark an image while it bears the name of the destination that it is pushed to.
pub const PUSHING: &str = "pushing";

/// Whether the tag says that its image is being pushed.
#[must_use]
pub fn is_pushing(tag: &str) -> bool {
    tag.strip_prefix(LOCAL_HOST)
        .and_then(|rest| rest.strip_prefix('/')?.strip_prefix(PUSHING))
        .is_some_and(|rest| rest.starts_with(':'))
}

/// Where an image is published: `host[:port]/path:tag`, normalised as Docker does
/// (`app` is `docker.io/library/app:latest`).
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef {
    host: String,
    path: String,
    tag: String,
}

/// An image reference that cannot be published to, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidImageRef {
    #[error("is empty")]
    Empty,
    #[error("is longer than 255 characters")]
    TooLong,
    #[error("has a digest; an image is published by tag")]
    HasDigest,
    #[error("has upper-case letters in its repository; Docker allows only lower case")]
    UpperCase,
    #[error("the tag {0:?} is not one: up to 128 of A-Z a-z 0-9 _ . -, not beginning with . or -")]
    Tag(String),
    #[error("{LOCAL_HOST} is reserved for the service's own tags")]
    Reserved,
    #[error("is an image's id; say the image's name, or the id of its build as `build`")]
    Id,
    #[error("is not of the form [host[:port]/]path[:tag]")]
    Format,
}

impl ImageRef {
    /// The registry's host with its port, `docker.io` for Docker Hub.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path inside the registry, `library/busybox`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Host and path, without the tag.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/{}", self.host, self.path)
    }
}

impl FromStr for ImageRef {
    type Err = InvalidImageRef;

    fn from_str(text: &str) -> Result<Self, InvalidImageRef> {
        if text.is_empty() {
            return Err(InvalidImageRef::Empty);
        }
        if text.len() > 255 {
            return Err(InvalidImageRef::TooLong);
        }
        if text.contains('@') {
            return Err(InvalidImageRef::HasDigest);
        }
        let last = text.rsplit('/').next().unwrap_or(text);
        let tag = last.split_once(':').map(|(_, tag)| tag);
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(InvalidImageRef::Tag(tag.to_owned()));
        }
        let reference = Reference::from_str(text).map_err(|_| {
            let name = tag.map_or(text, |tag| &text[..text.len() - tag.len() - 1]);
            let path = name.split_once('/').map_or(name, |(_, path)| path);
            if path.bytes().any(|b| b.is_ascii_uppercase()) { InvalidImageRef::UpperCase } else { InvalidImageRef::Format }
        })?;
        if reference.repository().bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(InvalidImageRef::UpperCase);
        }
        if reference.registry().eq_ignore_ascii_case(LOCAL_HOST) {
            return Err(InvalidImageRef::Reserved);
        }
        Ok(Self {
            host: reference.registry().to_owned(),
            path: reference.repository().to_owned(),
            tag: reference.tag().unwrap_or("latest").to_owned(),
        })
    }
}

fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.host, self.path, self.tag)
    }
}

impl fmt::Debug for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for ImageRef {
    type Error = InvalidImageRef;

    fn try_from(text: String) -> Result<Self, InvalidImageRef> {
        text.parse()
    }
}

impl From<ImageRef> for String {
    fn from(image: ImageRef) -> Self {
        image.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_as_docker_does() {
        for (given, canonical) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("team/app:1", "docker.io/team/app:1"),
            ("index.docker.io/team/app", "docker.io/team/app:latest"),
            ("127.0.0.1:5000/team/app:1", "127.0.0.1:5000/team/app:1"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("registry.example.com/a/b/c:v1.2-3", "registry.example.com/a/b/c:v1.2-3"),
        ] {
            let image: ImageRef = given.parse().unwrap_or_else(|e| panic!("{given}: {e}"));
            assert_eq!(image.to_string(), canonical);
            assert_eq!(canonical.parse::<ImageRef>().expect("the canonical form parses"), image);
        }
    }

    #[test]
    fn says_why_it_refuses() {
        use InvalidImageRef as E;
        for (given, why) in [
            ("", E::Empty),
            (&*"a".repeat(256), E::TooLong),
            ("app@sha256:aa", E::HasDigest),
            ("127.0.0.1:5000/Team/app", E::UpperCase),
            ("TEAM/app", E::UpperCase),
            ("127.0.0.1:5000/app:", E::Tag(String::new())),
            ("app:-x", E::Tag("-x".into())),
            ("app:a b", E::Tag("a b".into())),
            ("dockwright.local/build:x", E::Reserved),
            ("http://host/app", E::Format),
            ("host/../app", E::Format),
            ("a b", E::Format),
        ] {
            assert_eq!(given.parse::<ImageRef>(), Err(why), "{given:?}");
        }
    }
}
