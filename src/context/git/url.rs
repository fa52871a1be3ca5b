//! Where a git source is, as `docker build` writes it: `https://host[:port]/path.git[#ref[:subdir]]`.
//!
//! Nothing of it ever passes a shell; it is held narrow all the same, so that no part of it can be an option, a second URL or a pattern
//! for whatever reads it.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::domain::limits::{GIT_REF_BYTES, GIT_URL_BYTES, PATH_BYTES};

/// A repository that is reached over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// `https`, or `http`.
    scheme: &'static str,
    /// In lower case; an IPv6 address has its brackets.
    host: String,
    port: Option<u16>,
    /// Begins with `/`.
    path: String,
}

/// A repository, and what of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitUrl {
    pub repository: Repository,
    /// A branch, a tag or the whole hash of a commit; the repository's default branch if absent.
    pub reference: Option<String>,
    /// The folder that is the context, `/`-separated and relative.
    pub subdir: Option<String>,
}

impl Repository {
    /// # Errors
    /// What is wrong with it, in words that hold no password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = split_scheme(text)?;
        if text.len() > GIT_URL_BYTES {
            return Err(format!("may have at most {GIT_URL_BYTES} bytes"));
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') || rest.split_once("//").is_some_and(|(_, more)| more.contains('@')) {
            return Err("holds a user name or password; keep them as a registry whose server is the repository's host \
                (PUT /api/v1/registries/NAME), and name that in the part `registry`"
                .into());
        }
        let (host, port) = split_port(authority)?;
        let host = host.to_ascii_lowercase();
        check_host(&host)?;
        check_path(path)?;
        let usual = if scheme == "https" { 443 } else { 80 };
        Ok(Self { scheme, host, port: port.filter(|port| *port != usual), path: path.trim_end_matches('/').to_owned() })
    }

    /// Whether it is spoken with in the clear.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.scheme == "http"
    }

    #[must_use]
    pub fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// Without a port.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.is_plain() { 80 } else { 443 })
    }

    /// Host, and port where it is not the scheme's own: the `server` of credentials that are for it.
    #[must_use]
    pub fn authority(&self) -> String {
        self.port.map_or_else(|| self.host.clone(), |port| format!("{}:{port}", self.host))
    }

    /// Scheme and authority, ending in a slash.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}/", self.scheme, self.authority())
    }

    /// The URL without `.git` at its end.
    #[must_use]
    pub fn name(&self) -> String {
        let url = self.to_string();
        url.strip_suffix(".git").unwrap_or(&url).to_owned()
    }

    /// What a `.gitmodules` of this repository means by a URL: `./` and `../` begin at this one (gitmodules(5)). What is meant for ssh
    /// is read as the same place over https, which is where servers that have both have it.
    ///
    /// # Errors
    /// As [`Repository::parse`].
    pub fn submodule(&self, url: &str) -> Result<Self, String> {
        if !url.starts_with("./") && !url.starts_with("../") {
            return Self::parse(over_https(url).as_deref().unwrap_or(url));
        }
        if url.contains("//") {
            return Err("has an empty part in its path".into());
        }
        let (mut path, mut rest) = (self.path.as_str(), url);
        loop {
            if let Some(after) = rest.strip_prefix("./") {
                rest = after;
            } else if let Some(after) = rest.strip_prefix("../") {
                path = path.rfind('/').map(|at| &path[..at]).ok_or("leads above its server's root")?;
                rest = after;
            } else {
                break;
            }
        }
        Self::parse(&format!("{}{path}/{rest}", self.origin().trim_end_matches('/')))
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority(), self.path)
    }
}

impl GitUrl {
    /// # Errors
    /// What is wrong with it, in words that hold no password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (url, fragment) = text.split_once('#').map_or((text, ""), |(url, fragment)| (url, fragment));
        let repository = Repository::parse(url)?;
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        let reference = (!reference.is_empty()).then_some(reference);
        if let Some(reference) = reference {
            check_reference(reference)?;
        }
        let subdir = subdir.trim_matches('/').trim_start_matches("./");
        let subdir = (!subdir.is_empty() && subdir != ".").then_some(subdir);
        if let Some(subdir) = subdir {
            check_subdir(subdir)?;
        }
        Ok(Self { repository, reference: reference.map(str::to_owned), subdir: subdir.map(str::to_owned) })
    }

    /// The reference, when it is a commit's whole hash.
    #[must_use]
    pub fn commit(&self) -> Option<&str> {
        self.reference.as_deref().filter(|text| is_hash(text))
    }
}

/// `git@HOST:PATH` and `ssh://git@HOST/PATH` as an https URL; none of any other form, of another user, or with a port, which https has not.
fn over_https(url: &str) -> Option<String> {
    let (host, path) = match url.strip_prefix("ssh://git@") {
        Some(rest) => rest.split_once('/')?,
        None => url.strip_prefix("git@")?.split_once(':')?,
    };
    let is_whole = !host.is_empty() && !host.contains([':', '@', '/']) && !path.is_empty() && !path.starts_with('/');
    is_whole.then(|| format!("https://{host}/{path}"))
}

/// A whole SHA-1, in lower case as git writes it.
#[must_use]
pub fn is_hash(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The scheme, and what follows `://`. Whatever else git would take is refused by name.
fn split_scheme(text: &str) -> Result<(&'static str, &str), String> {
    let ssh = "ssh is not available for git: use https, with credentials that are kept as a registry";
    let begins = |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    for scheme in ["https", "http"] {
        if begins(&format!("{scheme}://")) {
            let scheme = if scheme == "https" { "https" } else { "http" };
            return Ok((scheme, &text[scheme.len() + 3..]));
        }
    }
    if begins("ssh://") || begins("git+ssh://") || begins("ssh+git://") {
        return Err(ssh.into());
    }
    // Helpers of git are named so: `ext::COMMAND` runs one.
    if let Some((helper, _)) = text.split_once("::").filter(|(helper, _)| !helper.contains(['/', ':'])) {
        return Err(format!("{:?} is no protocol that is available: use https", shown(helper)));
    }
    if let Some((scheme, _)) = text.split_once("://").filter(|(scheme, _)| !scheme.contains(['/', '@'])) {
        return Err(format!("the protocol {:?} is not available: use https", shown(scheme)));
    }
    // `user@host:path`, as scp writes it.
    match text.split_once(':').filter(|(before, _)| !before.contains('/')) {
        Some(_) => Err(ssh.into()),
        None => Err("must have the form https://HOST/PATH.git#REF:SUBDIR".into()),
    }
}

/// The beginning of a foreign text.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(20).collect()
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    let after_host = authority.rfind(']').map_or(0, |end| end + 1);
    let Some(colon) = authority[after_host..].find(':').map(|at| after_host + at) else { return Ok((authority, None)) };
    let digits = &authority[colon + 1..];
    let port = digits.parse::<u16>().ok().filter(|port| *port > 0 && digits.bytes().all(|b| b.is_ascii_digit()));
    port.map(|port| (&authority[..colon], Some(port))).ok_or_else(|| "has a port that is no number from 1 to 65535".into())
}

/// A name or an address that every program reads in the same way: `2130706433` and `0x7f.1` are names for some and addresses for others.
fn check_host(host: &str) -> Result<(), String> {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().map(drop).map_err(|_| "has an IPv6 address that is none".into());
    }
    let label = |label: &str| {
        !label.is_empty() && !label.starts_with('-') && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    let like_a_number = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    let ok = host.len() <= 253 && host.split('.').all(label) && (!like_a_number || host.parse::<Ipv4Addr>().is_ok());
    if ok { Ok(()) } else { Err("has no host that is a name or an address".into()) }
}

fn check_path(path: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%+,=:".contains(&b);
    if !path.bytes().all(plain) {
        return Err("has a path with other characters than letters, digits and - . _ ~ % + , = : /".into());
    }
    let printable = path.split('%').skip(1).all(|hex| {
        let byte = hex.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        byte.is_some_and(|byte| byte >= b' ' && byte != 0x7f)
    });
    let segments_ok = path.trim_matches('/').split('/').all(|segment| !segment.is_empty() && segment != "." && segment != "..");
    if printable && segments_ok { Ok(()) } else { Err("has no path of a repository".into()) }
}

/// What git allows for the name of a reference (git-check-ref-format(1)).
fn check_reference(name: &str) -> Result<(), String> {
    let bad = name.chars().any(|c| c.is_control() || " ~^:?*[\\".contains(c))
        || ["..", "@{", "//"].iter().any(|pair| name.contains(pair))
        || name.starts_with(['-', '/', '+'])
        || name.ends_with(['/', '.'])
        || name.split('/').any(|part| part.starts_with('.') || part.ends_with(".lock"))
        || name == "@"
        || name.len() > GIT_REF_BYTES;
    if bad { Err(format!("{:?} is no name of a branch or tag, and no commit", shown_whole(name))) } else { Ok(()) }
}

fn check_subdir(path: &str) -> Result<(), String> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.eq_ignore_ascii_case(".git");
    let ok = path.len() <= PATH_BYTES && !path.chars().any(char::is_control) && path.split('/').all(plain);
    if ok { Ok(()) } else { Err(format!("{:?} is no folder inside of a repository", shown_whole(path))) }
}

fn shown_whole(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_writes() {
        let read = |text: &str| GitUrl::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
        let url = read("https://Example.com/team/app.git#v1.2:services/api/");
        assert_eq!(url.repository.to_string(), "https://example.com/team/app.git");
        assert_eq!((url.reference.as_deref(), url.subdir.as_deref()), (Some("v1.2"), Some("services/api")));
        assert_eq!(url.repository.name(), "https://example.com/team/app");
        let url = read("http://[::1]:3000/a#:sub");
        assert_eq!((url.repository.host(), url.repository.port(), url.reference), ("[::1]", 3000, None));
        assert_eq!(read("https://h.example:443/a#main:").repository.authority(), "h.example");
        assert_eq!(read("https://h.example/a#feature/x").reference.as_deref(), Some("feature/x"));
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(read(&format!("https://h.example/a#{commit}")).commit(), Some(commit));
    }

    #[test]
    fn refuses_what_could_be_something_else() {
        for text in [
            "",
            "app",
            "-u",
            "--upload-pack=touch /tmp/x",
            "git@h.example:a.git",
            "h.example:a.git",
            "/etc",
            "../x",
            "ssh://h/a",
            "git://h/a",
            "file:///etc",
            "ext::sh -c id",
            "fd::7",
            "https::http://h/a",
            "ftp://h/a",
            "HTTPS:/h/a",
            "https://",
            "https:///a",
            "https://h.example",
            "https://h.example/",
            "https://u@h.example/a",
            "https://u:p@h.example/a",
            "https://h.example/a@b",
            "https://h.example\\@evil/a",
            "https://h/a?b=c",
            "https://h/a b",
            "https://h/a\n",
            "https://h/a;id",
            "https://h/$(id)",
            "https://h/`id`",
            "https://h/../a",
            "https://h/a//b",
            "https://h/%0ax",
            "https://h/%zz",
            "https://-h/a",
            "https://h..x/a",
            "https://h./a",
            "https://2130706433/a",
            "https://0x7f.0.0.1/a",
            "https://0x7f000001/a",
            "https://127.1/a",
            "https://h:0/a",
            "https://h:99999/a",
            "https://h:/a",
            "https://[::1/a",
            "https://[h]/a",
            "https://h/a#--upload-pack=x",
            "https://h/a#-x",
            "https://h/a#a..b",
            "https://h/a#a b",
            "https://h/a#+x",
            "https://h/a#a^{tree}",
            "https://h/a#@{-1}",
            "https://h/a#*",
            "https://h/a#x.lock",
            "https://h/a#a\\b",
            "https://h/a#main:../x",
            "https://h/a#main:a/../b",
            "https://h/a#main:.git",
            "https://h/a#main:a//b",
            "https://h/a#main:a\nb",
        ] {
            assert!(GitUrl::parse(text).is_err(), "{text:?} must be refused");
        }
    }

    #[test]
    fn a_password_is_never_told_back() {
        for text in
            ["https://u:hunter2@h/a", "ssh://u:hunter2@h/a", "u:hunter2@h/a", "https://h//u:hunter2@h/a", "x://u:hunter2@h/"]
        {
            let why = GitUrl::parse(text).expect_err("refused");
            assert!(!why.contains("hunter2"), "{text}: {why}");
        }
    }

    #[test]
    fn submodules_are_found_from_their_repository() {
        let parent = Repository::parse("https://h.example/team/app.git").expect("a repository");
        let found = |url: &str| parent.submodule(url).map(|found| found.to_string());
        assert_eq!(found("../lib.git").as_deref(), Ok("https://h.example/team/lib.git"));
        assert_eq!(found("./lib").as_deref(), Ok("https://h.example/team/app.git/lib"));
        assert_eq!(found("../../other/lib").as_deref(), Ok("https://h.example/other/lib"));
        assert_eq!(found("https://x.example/lib").as_deref(), Ok("https://x.example/lib"));
        for ssh in ["git@x.example:team/lib.git", "ssh://git@x.example/team/lib.git"] {
            assert_eq!(found(ssh).as_deref(), Ok("https://x.example/team/lib.git"), "{ssh}");
        }
        for bad in [
            "../../../../x",
            "../..//evil.example/x",
            "file:///etc",
            "/etc",
            "-x",
            "git@h",
            "git@:x",
            "git@h:/x",
            "git@h:../x",
            "git@u@h:x",
            "git@[::1:x",
            "git@-h:x",
            "root@h:x",
            "ssh://h/x",
            "ssh://git@h:22/x",
            "ssh://git@h",
            "ssh://git:pw@h/x",
            "ext::id",
            "https://u:p@h/x",
        ] {
            assert!(found(bad).is_err(), "{bad}");
        }
    }
}
