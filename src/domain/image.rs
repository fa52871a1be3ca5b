use std::fmt;
use std::str::FromStr;

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
        let name = tag.map_or(text, |tag| &text[..text.len() - tag.len() - 1]);
        let (host, path) = split(name);
        if !is_host(host) || !path.split('/').all(is_component) {
            let upper = path.bytes().any(|b| b.is_ascii_uppercase());
            return Err(if upper { InvalidImageRef::UpperCase } else { InvalidImageRef::Format });
        }
        if host.eq_ignore_ascii_case(LOCAL_HOST) {
            return Err(InvalidImageRef::Reserved);
        }
        let host = if host == HUB_OF_OLD { HUB } else { host };
        let path = if host == HUB && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        Ok(Self { host: host.to_owned(), path, tag: tag.unwrap_or("latest").to_owned() })
    }
}

const HUB: &str = "docker.io";
const HUB_OF_OLD: &str = "index.docker.io";

/// Host and path of a name. What stands before the first `/` is a host when it looks like one, else the path is one of Docker Hub.
fn split(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
        _ => (HUB, name),
    }
}

/// `domain` of the grammar of references: labels of letters, digits and inner `-`, and a port.
///
/// Not by the regular expression of [`oci_client::Reference`], which is the same grammar but holds 10 MiB for good.
fn is_host(host: &str) -> bool {
    let (name, port) = host.split_once(':').unwrap_or((host, "0"));
    let label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    name.split('.').all(label) && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// `path-component` of the grammar: runs of lower-case letters and digits, between them `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = text.as_bytes().first().is_some_and(&word) && text.as_bytes().last().is_some_and(&word);
    let mut between = text.as_bytes().split(word).filter(|run| !run.is_empty());
    ends && between.all(|run| matches!(run, b"." | b"_" | b"__") || run.iter().all(|b| *b == b'-'))
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

    /// The same names pass as by the regular expression of the specification, and come to the same; but that one takes letters of any
    /// script in a tag, where the specification's own means ASCII.
    #[test]
    fn takes_what_the_specification_takes() {
        let parts = ["a", "A", "0", ".", "_", "__", "-", "--", "/", ":", "localhost", "x.y", ":5000", "docker.io", "é", " "];
        let mut names: Vec<String> = parts.map(str::to_owned).to_vec();
        for _ in 0..3 {
            names = names.iter().flat_map(|name| parts.iter().map(move |part| format!("{name}{part}"))).collect();
            for name in &names {
                let theirs = name.parse::<oci_client::Reference>().ok();
                let theirs =
                    theirs.filter(|theirs| name.is_ascii() && !theirs.repository().bytes().any(|b| b.is_ascii_uppercase()));
                let ours = name.parse::<ImageRef>().ok();
                let parts = theirs.as_ref().map(|is| (is.registry(), is.repository(), is.tag().unwrap_or("latest")));
                assert_eq!(ours.as_ref().map(|is| (is.host(), is.path(), is.tag())), parts, "{name:?}");
            }
            names.truncate(4096);
        }
    }
}
