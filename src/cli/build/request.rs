//! A build as it is asked for: the form's parts, from the flags and from what they name on this machine.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use reqwest::multipart::{Form, Part};

use super::credentials;
use super::fate::Usage;
use super::show::Show;
use super::upload::{self, Sent};
use crate::cli::build_commands::Build;
use crate::cli::context::{self, Dockerfile, Tree};
use crate::client::Client;
use crate::domain::{ImageRef, limits};

/// Longest secret or key that is sent, in bytes: what the service takes.
const SECRET_BYTES: u64 = limits::TEXT_PART_BYTES as u64;
/// Key files that `--ssh default` means, in the order in which ssh looks for them.
const USUAL_KEYS: [&str; 3] = ["id_rsa", "id_ecdsa", "id_ed25519"];

/// What is sent, and how far it is.
pub(super) struct Request {
    pub form: Form,
    pub sent: Sent,
    /// A folder that is sent in pieces, before the form.
    pub pieces: Option<Tree>,
}

impl Request {
    pub(super) fn whole(form: Form, sent: Sent) -> Self {
        Self { form, sent, pieces: None }
    }
}

/// # Errors
/// [`Usage`] for flags that cannot be meant; what cannot be read on this machine.
pub(super) async fn of(client: &Client, wanted: &Build, shown: &mut dyn Show) -> anyhow::Result<Request> {
    let images = images(wanted)?;
    let form = secrets(wanted, options(wanted)?)?;
    let form = logins(client, wanted, &images, form, shown).await;
    source(wanted, form, shown).await
}

fn usage(text: impl Into<String>) -> anyhow::Error {
    Usage(text.into()).into()
}

fn images(wanted: &Build) -> anyhow::Result<Vec<ImageRef>> {
    if wanted.tags.is_empty() && !wanted.no_push {
        return Err(usage("say where to publish the image with --tag, or --no-push"));
    }
    let read = |tag: &String| tag.parse().map_err(|why| usage(format!("--tag {tag:?} {why}")));
    wanted.tags.iter().map(read).collect()
}

fn options(wanted: &Build) -> anyhow::Result<Form> {
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
    parts.extend(flag("inline_cache", wanted.inline_cache));
    parts.extend(wanted.no_push.then(|| ("push", "false".to_owned())));
    Ok(parts.into_iter().fold(Form::new(), |form, (name, value)| form.text(name, value)))
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

fn secrets(wanted: &Build, form: Form) -> anyhow::Result<Form> {
    let mut form = form;
    for given in &wanted.secrets {
        let (id, bytes) = secret(given)?;
        form = form.part(format!("secret.{id}"), Part::bytes(bytes));
    }
    for given in &wanted.ssh {
        let (id, file) = ssh(given)?;
        form = form.part(format!("ssh.{id}"), Part::bytes(read(&file)?));
    }
    Ok(form)
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
async fn logins(client: &Client, wanted: &Build, images: &[ImageRef], form: Form, shown: &mut dyn Show) -> Form {
    if wanted.no_push || !wanted.registries.is_empty() {
        return form;
    }
    let (found, word) = credentials::of_docker(images).await;
    if let Some(word) = word {
        shown.note(&word);
    }
    if found.is_some() && !client.is_confidential() {
        shown.note("your Docker login is not sent, because the way to the service is not encrypted; name kept credentials with --registry");
        return form;
    }
    match found {
        Some(login) => form.text("username", login.username().to_owned()).text("password", login.expose_password().to_owned()),
        None => form,
    }
}

/// What is built. It stands last in the form: all that is small is known to the service before.
async fn source(wanted: &Build, form: Form, shown: &mut dyn Show) -> anyhow::Result<Request> {
    let file = wanted.file.as_deref();
    if wanted.context == Path::new("-") {
        if file == Some(Path::new("-")) {
            return Err(usage("standard input cannot be both the context and the Dockerfile"));
        }
        return upload::standard_input(named(form, file.and_then(Path::to_str))).await;
    }
    if let Some(url) = git(&wanted.context)? {
        let form = match file {
            Some(file) if file == Path::new("-") => beside(form, context::text_of_stdin()?),
            file => named(form, file.and_then(Path::to_str)),
        };
        return Ok(Request::whole(form.text("git", url), Sent::nothing()));
    }
    let tree = context::look(&wanted.context, file)?;
    tree.skipped.iter().for_each(|word| shown.note(&format!("not sent: {word}")));
    let form = match &tree.dockerfile {
        Dockerfile::Inside(path) => named(form, Some(path)),
        Dockerfile::Beside(text) => beside(form, text.clone()),
    };
    let sent = Sent::new(None);
    if wanted.full_upload {
        return Ok(Request::whole(upload::folder(form, tree, &sent), sent));
    }
    Ok(Request { form, sent, pieces: Some(tree) })
}

fn named(form: Form, dockerfile: Option<&str>) -> Form {
    match dockerfile.filter(|path| *path != "Dockerfile") {
        Some(path) => form.text("dockerfile", path.to_owned()),
        None => form,
    }
}

fn beside(form: Form, dockerfile: Vec<u8>) -> Form {
    form.part("file", Part::bytes(dockerfile).file_name("Dockerfile"))
}

/// The URL, if it is one and no folder.
fn git(given: &Path) -> anyhow::Result<Option<String>> {
    let Some(text) = given.to_str() else { return Ok(None) };
    if text.starts_with("https://") {
        return Ok(Some(text.to_owned()));
    }
    let other = ["http://", "git://", "ssh://", "git@"].iter().any(|start| text.starts_with(start));
    if other && !given.exists() {
        return Err(usage(format!("{text}: a git repository is read over https alone")));
    }
    Ok(None)
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
