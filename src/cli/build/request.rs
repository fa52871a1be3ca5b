//! A build as it is asked for: the form's parts, from the flags and from what they name on this machine.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use reqwest::Body;
use reqwest::multipart::{Form, Part};

use super::credentials;
use super::fate::Usage;
use super::show::Show;
use super::upload::{self, Sent};
use crate::cli::build_commands::{Build, Entrusted};
use crate::cli::context::{self, Dockerfile, Tree};
use crate::client::Client;
use crate::domain::{ImageRef, limits};

/// Longest secret or key that is sent, in bytes: what the service takes.
const SECRET_BYTES: u64 = limits::TEXT_PART_BYTES as u64;
/// Key files that `--ssh default` means, in the order in which ssh looks for them.
const USUAL_KEYS: [&str; 3] = ["id_rsa", "id_ecdsa", "id_ed25519"];

/// What is sent, and how far it is.
pub(super) struct Request {
    pub parts: Parts,
    pub sent: Sent,
    pub source: Source,
}

/// What is built, where it is more than parts of the form.
pub(super) enum Source {
    Parts,
    /// Standard input, as it comes.
    Input(Body),
    /// A folder, as one archive.
    Whole(Arc<Tree>),
    /// A folder, of which only what the service lacks is sent.
    Pieces(Arc<Tree>),
}

/// The small parts of the form, which may have to be sent more than once.
#[derive(Default)]
pub(super) struct Parts(Vec<(String, Vec<u8>, Option<&'static str>)>);

impl Parts {
    pub(super) fn text(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.push((name.to_owned(), value.into().into_bytes(), None));
        self
    }

    pub(super) fn file(mut self, name: &str, bytes: Vec<u8>, file_name: &'static str) -> Self {
        self.0.push((name.to_owned(), bytes, Some(file_name)));
        self
    }

    /// A form without parts is no form (RFC 2046, 5.1.1).
    pub(super) fn form_if_any(&self) -> Option<Form> {
        (!self.0.is_empty()).then(|| self.form())
    }

    pub(super) fn form(&self) -> Form {
        self.0.iter().fold(Form::new(), |form, (name, bytes, file_name)| {
            let part = Part::bytes(bytes.clone());
            form.part(name.clone(), file_name.iter().fold(part, |part, file_name| part.file_name(*file_name)))
        })
    }
}

/// # Errors
/// [`Usage`] for flags that cannot be meant; what cannot be read on this machine.
pub(super) async fn of(client: &Client, wanted: &Build, shown: &mut dyn Show) -> anyhow::Result<Request> {
    refuse_what_docker_has(wanted)?;
    let images = images(wanted)?;
    let parts = options(wanted)?;
    let parts = entrusted(&wanted.entrusted, parts).await?;
    let parts = logins(client, wanted, &images, parts, shown).await;
    source(wanted, parts, shown).await
}

/// Habits that cannot be followed here, and what can be done instead.
fn refuse_what_docker_has(wanted: &Build) -> anyhow::Result<()> {
    if wanted.load {
        return Err(usage(
            "--load: the image is built at the service, and not by an engine here; publish it with --tag, and pull it",
        ));
    }
    if wanted.network.as_deref() == Some("host") {
        return Err(usage("--network host: no build is let into the service's own network; there are default and none"));
    }
    match wanted.cache_to.iter().find(|to| !is_inline(to)) {
        Some(to) => Err(usage(format!("--cache-to {to:?}: only type=inline is written, which --inline-cache asks for, too"))),
        None => Ok(()),
    }
}

fn is_inline(cache: &str) -> bool {
    cache.split(',').any(|field| field == "type=inline")
}

fn usage(text: impl Into<String>) -> anyhow::Error {
    Usage(text.into()).into()
}

fn images(wanted: &Build) -> anyhow::Result<Vec<ImageRef>> {
    if wanted.tags.is_empty() && wanted.is_published() {
        return Err(usage("say where to publish the image with --tag, or --no-push"));
    }
    let read = |tag: &String| tag.parse().map_err(|why| usage(format!("--tag {tag:?} {why}")));
    wanted.tags.iter().map(read).collect()
}

fn options(wanted: &Build) -> anyhow::Result<Parts> {
    let all = |name: &'static str, values: &[String]| values.iter().map(|value| (name, value.clone())).collect::<Vec<_>>();
    let one = |name: &'static str, value: &Option<String>| value.clone().map(|value| (name, value));
    let flag = |name: &'static str, said: bool| said.then(|| (name, "true".to_owned()));
    let mut parts = all("image", &wanted.tags);
    parts.extend(all("registry", &wanted.registries));
    for given in &wanted.build_args {
        parts.extend(build_arg(given).map(|value| ("build_arg", value)));
    }
    for label in &wanted.labels {
        parts.push(("label", if label.contains('=') { label.clone() } else { format!("{label}=") }));
    }
    for from in &wanted.cache_from {
        parts.push(("cache_from", cache_source(from)?));
    }
    parts.extend(
        [one("target", &wanted.target), one("platform", &wanted.platform), one("network", &wanted.network)].into_iter().flatten(),
    );
    parts.extend(
        [one("memory", &wanted.memory), one("cpus", &wanted.cpus), one("timeout", &wanted.timeout)].into_iter().flatten(),
    );
    parts.extend([one("priority", &wanted.priority), one("project", &wanted.project)].into_iter().flatten());
    parts.extend([flag("no_cache", wanted.no_cache), flag("pull", wanted.pull), flag("cold", wanted.cold)].into_iter().flatten());
    parts.extend([flag("supersede", wanted.supersede), flag("reuse", wanted.reuse)].into_iter().flatten());
    parts.extend(flag("inline_cache", wanted.inline_cache || !wanted.cache_to.is_empty()));
    parts.extend((!wanted.is_published()).then(|| ("push", "false".to_owned())));
    Ok(parts.into_iter().fold(Parts::default(), |all, (name, value)| all.text(name, value)))
}

/// Without a value that of the environment, as docker has it; one that is not there either is left out.
fn build_arg(given: &str) -> Option<String> {
    if given.contains('=') {
        return Some(given.to_owned());
    }
    std::env::var(given).ok().map(|value| format!("{given}={value}"))
}

/// An image, or `type=registry,ref=IMAGE` as buildx writes it.
fn cache_source(given: &str) -> anyhow::Result<String> {
    if !given.contains('=') {
        return Ok(given.to_owned());
    }
    let fields: Vec<(&str, &str)> = given.split(',').filter_map(|field| field.split_once('=')).collect();
    let field = |name: &str| fields.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    match (field("type"), field("ref")) {
        (None | Some("registry"), Some(image)) => Ok(image.to_owned()),
        _ => Err(usage(format!("--cache-from {given:?}: only images are read: IMAGE, or type=registry,ref=IMAGE"))),
    }
}

/// Adds secrets and keys.
///
/// # Errors
/// [`Usage`] for what cannot be meant; what cannot be read on this machine.
pub(super) async fn entrusted(given: &Entrusted, mut parts: Parts) -> anyhow::Result<Parts> {
    let Entrusted { secrets, ssh: keys } = given.clone();
    // What is read may be a pipe that says nothing for ever.
    let read = tokio::task::spawn_blocking(move || {
        for given in &secrets {
            let (id, bytes) = secret(given)?;
            parts.0.push((format!("secret.{id}"), bytes, None));
        }
        for given in &keys {
            let (id, file) = ssh(given)?;
            parts.0.push((format!("ssh.{id}"), read(&file)?, None));
        }
        Ok(parts)
    });
    read.await?
}

/// `id=ID,src=FILE`, `id=ID,env=NAME`; `id=ID` alone is the variable of this name, else the file.
fn secret(given: &str) -> anyhow::Result<(String, Vec<u8>)> {
    let wrong =
        || usage(format!("--secret {:?} must be id=ID,src=FILE or id=ID,env=NAME", given.split(',').next().unwrap_or_default()));
    let (mut id, mut file, mut variable) = (None, None, None);
    for field in given.split(',') {
        match field.split_once('=').ok_or_else(wrong)? {
            ("id", value) if !value.is_empty() => id = Some(value),
            ("src" | "source", value) => file = Some(value),
            ("env", value) => variable = Some(value),
            ("type", "file" | "env") => {}
            _ => return Err(wrong()),
        }
    }
    let id = id.ok_or_else(wrong)?;
    let of_env = |name: &str| std::env::var(name).map(String::into_bytes);
    let bytes = match (file, variable) {
        (Some(_), Some(_)) => return Err(wrong()),
        (Some(file), None) => read(Path::new(file))?,
        (None, Some(name)) => of_env(name).map_err(|_| anyhow!("the secret {id}: there is no variable {name}"))?,
        (None, None) => of_env(id).or_else(|_| read(Path::new(id)))?,
    };
    Ok((id.to_owned(), bytes))
}

/// `ID=FILE`; `default` alone is the first of the usual key files. An agent's keys never leave it, so they cannot be sent.
fn ssh(given: &str) -> anyhow::Result<(String, PathBuf)> {
    if let Some((id, file)) = given.split_once('=').filter(|(id, file)| !id.is_empty() && !file.is_empty()) {
        if Path::new(file).metadata().is_ok_and(|found| found.file_type().is_socket()) {
            return Err(usage(format!(
                "--ssh {given:?}: an agent's keys never leave it, so they cannot be sent; name a key's file: --ssh {id}=FILE"
            )));
        }
        return Ok((id.to_owned(), file.into()));
    }
    if given != "default" {
        return Err(usage(format!("--ssh {given:?} must be default or ID=FILE")));
    }
    let folder = PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".ssh");
    let found = USUAL_KEYS.iter().map(|name| folder.join(name)).find(|file| file.is_file());
    let found = found
        .with_context(|| format!("--ssh default: there is no key file in {}; name one: --ssh default=FILE", folder.display()))?;
    Ok((given.to_owned(), found))
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let open = File::open(file).and_then(|open| open.take(SECRET_BYTES + 1).read_to_end(&mut bytes));
    open.with_context(|| format!("cannot read {}", file.display()))?;
    if bytes.len() as u64 > SECRET_BYTES {
        return Err(anyhow!("{} is larger than {SECRET_BYTES} bytes", file.display()));
    }
    Ok(bytes)
}

/// Credentials that the service keeps go first; then those of the caller's own Docker configuration.
async fn logins(client: &Client, wanted: &Build, images: &[ImageRef], parts: Parts, shown: &mut dyn Show) -> Parts {
    if !wanted.is_published() || credentials::are_kept(client, &wanted.registries, images).await {
        return parts;
    }
    match credentials::of_docker(client, images, shown).await {
        Some(login) => parts.text("username", login.username()).text("password", login.expose_password()),
        None => parts,
    }
}

/// What is built. It stands last in the form: all that is small is known to the service before.
async fn source(wanted: &Build, parts: Parts, shown: &mut dyn Show) -> anyhow::Result<Request> {
    let (folder, file) = (wanted.context.clone(), wanted.file.clone());
    let of_input = file.as_deref() == Some(Path::new("-"));
    let name = file.as_deref().and_then(Path::to_str);
    if folder == Path::new("-") {
        if of_input {
            return Err(usage("standard input cannot be both the context and the Dockerfile"));
        }
        return upload::standard_input(named(parts, name)).await;
    }
    if let Some(url) = git(&folder)? {
        let parts = if of_input {
            beside(parts, tokio::task::spawn_blocking(context::text_of_stdin).await??)
        } else {
            named(parts, name)
        };
        return Ok(Request { parts: parts.text("git", url), sent: Sent::new(), source: Source::Parts });
    }
    let tree = tokio::task::spawn_blocking(move || context::look(&folder, file.as_deref())).await??;
    tree.skipped.iter().for_each(|word| shown.note(&format!("not sent: {word}")));
    let parts = match &tree.dockerfile {
        Dockerfile::Inside(path) => named(parts, Some(path)),
        Dockerfile::Beside(text) => beside(parts, text.clone()),
    };
    let tree = Arc::new(tree);
    let source = if wanted.full_upload { Source::Whole(tree) } else { Source::Pieces(tree) };
    Ok(Request { parts, sent: Sent::new(), source })
}

fn named(parts: Parts, dockerfile: Option<&str>) -> Parts {
    match dockerfile.filter(|path| *path != "Dockerfile") {
        Some(path) => parts.text("dockerfile", path),
        None => parts,
    }
}

fn beside(parts: Parts, dockerfile: Vec<u8>) -> Parts {
    parts.file("file", dockerfile, "Dockerfile")
}

/// The URL, if it is one and no folder.
fn git(given: &Path) -> anyhow::Result<Option<String>> {
    let Some(text) = given.to_str() else { return Ok(None) };
    // Which hosts are read without TLS is the service's to say.
    if text.starts_with("https://") || (text.starts_with("http://") && !given.exists()) {
        return Ok(Some(text.to_owned()));
    }
    let other = ["git://", "ssh://", "git@"].iter().any(|start| text.starts_with(start));
    if other && !given.exists() {
        return Err(usage(format!("{text}: a git repository is read over https alone")));
    }
    Ok(None)
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
