//! From an upload to an accepted build.

use std::path::{Path, PathBuf};

use secrecy::{SecretSlice, SecretString};
use sha2::{Digest as _, Sha256};

use super::dockerfile_rules::check_dockerfile;
use super::entrusted::{SecretPart, Sent};
use super::git::name_source;
use super::options::{Fault, Faults, Texts};
use super::same::identity;
use super::{Builds, TextPart};
use crate::auth::Principal;
use crate::context::ContextError;
use crate::context::archive::{ArchiveLimits, DockerfileAt, Inspected, inspect, inspect_manifest, of_dockerfile};
use crate::context::blobs::Manifest;
use crate::context::storage::{Incoming, Received, free_bytes};
use crate::domain::{
    BuildId, BuildRecord, BuildSpec, ContextInfo, ContextKind, ContextWarning, Entrusted, LegacyUpload, ManifestId, Quota,
    Timestamp,
};
use crate::error::{Error, FieldError, Result};
use crate::store::{NewBuild, Stored};

/// An upload as it comes in, part by part, in any order.
#[derive(Default)]
pub struct Draft {
    texts: Texts,
    file: Option<Vec<u8>>,
    context: Option<Received>,
    secrets: Sent,
    faults: Faults,
    legacy: Option<LegacyUpload>,
}

impl Draft {
    pub fn text(&mut self, part: TextPart, value: SecretString) {
        self.texts.push(part, value);
    }

    /// The first value of a text part, which may hold no secret.
    #[must_use]
    pub fn first(&self, part: TextPart) -> Option<String> {
        self.texts.first(part)
    }

    /// Takes the first value of a text part out.
    pub fn take_first(&mut self, part: TextPart) -> Option<String> {
        self.texts.take_first(part)
    }

    /// A secret or an ssh key; `name` is that of its part.
    pub fn secret(&mut self, part: SecretPart, name: &str, value: SecretSlice<u8>) {
        self.secrets.add(part, name, value, &mut self.faults);
    }

    pub fn file(&mut self, bytes: Vec<u8>) {
        if self.file.replace(bytes).is_some() {
            self.fault("part_repeated", "file", "may be given only once");
        }
    }

    pub fn context(&mut self, received: Received) {
        if self.context.replace(received).is_some() {
            self.fault("part_repeated", "context", "may be given only once");
        }
    }

    /// What the client of the older path named.
    pub fn legacy(&mut self, legacy: LegacyUpload) {
        self.legacy = Some(legacy);
    }

    /// What tells this upload from another: the parts in any order, each by its content. It has plain digests, also of passwords and secrets,
    /// from which a short one could be guessed: whoever keeps it keeps it sealed.
    #[must_use]
    pub fn fingerprint(&self) -> Vec<u8> {
        let mut parts = self.texts.digests();
        parts.extend(self.file.as_ref().map(|file| format!("file {}", hex::encode(Sha256::digest(file)))));
        parts.extend(self.secrets.digests());
        parts.extend(self.context.as_ref().map(|context| format!("context {}", context.sha256())));
        parts.sort();
        parts.join("\n").into_bytes()
    }

    /// What a retry may bring, and what was wrong with it.
    pub(super) fn into_anew(self) -> (Texts, Sent, Faults) {
        (self.texts, self.secrets, self.faults)
    }

    pub fn fault(&mut self, code: &'static str, field: &str, message: impl Into<String>) {
        self.faults.add(code, field, message);
    }
}

/// A draft of which nothing is wrong.
pub(super) struct Checked {
    spec: BuildSpec,
    pub(super) given: Entrusted,
    pub(super) dockerfile: Vec<u8>,
    info: ContextInfo,
    warnings: Vec<ContextWarning>,
    context: Option<Received>,
    manifest: Option<ManifestId>,
    legacy: Option<LegacyUpload>,
    /// Whether a build of the very same may be answered instead.
    pub(super) reuse: bool,
}

impl Checked {
    pub(super) fn record(&self, caller: &Principal, id: BuildId) -> BuildRecord {
        let (spec, info, owner) = (self.spec.clone(), self.info.clone(), caller.owner.clone());
        let mut record = BuildRecord::new(id, owner, spec, info, self.legacy.clone(), Timestamp::now());
        record.warnings.clone_from(&self.warnings);
        record.identity = identity(&record, &self.dockerfile);
        record.limited = !caller.images.is_empty();
        record
    }
}

impl Builds {
    /// Room for a context under way.
    ///
    /// # Errors
    /// [`Error::StorageFull`] when the disk has less room than the configured floor.
    pub async fn receive_context(&self, quota: &Quota) -> Result<Incoming> {
        self.contexts.begin(self.most_bytes(quota)).await
    }

    /// Room for what comes from outside.
    ///
    /// # Errors
    /// [`Error::StorageFull`] when the disk has less room than the configured floor.
    pub fn must_have_room(&self) -> Result<()> {
        self.must_have_room_for(0)
    }

    /// Room for so many bytes above the floor.
    ///
    /// # Errors
    /// As [`Builds::must_have_room`].
    pub(super) fn must_have_room_for(&self, bytes: u64) -> Result<()> {
        self.enough(self.contexts.free_bytes()?, bytes)
    }

    /// The same of another folder of this machine.
    ///
    /// # Errors
    /// As [`Builds::must_have_room`].
    pub fn must_have_room_in(&self, folder: &Path) -> Result<()> {
        self.enough(free_bytes(folder)?, 0)
    }

    fn enough(&self, free: u64, more: u64) -> Result<()> {
        let floor = self.policy.min_free_disk;
        if free < floor.0.saturating_add(more) {
            let beside = if more > 0 { format!(" beside the {more} bytes that are to come") } else { String::new() };
            return Err(Error::StorageFull(format!("less than {floor} are free{beside}, so nothing is accepted")));
        }
        Ok(())
    }

    /// Checks everything, keeps the context, and accepts the build in one durable commit. Answers its position, too.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault of the upload; [`Error::TooLarge`] when a limit was passed; nothing is kept then.
    pub async fn submit(&self, caller: &Principal, id: BuildId, draft: Draft) -> Result<(Stored, Option<u64>)> {
        self.must_have_room()?;
        let checked = self.check(caller, draft).await?;
        self.begin(caller, checked.record(caller, id), checked).await
    }

    pub(super) async fn begin(&self, caller: &Principal, record: BuildRecord, checked: Checked) -> Result<(Stored, Option<u64>)> {
        let id = record.id;
        if let Some(received) = checked.context {
            self.contexts.keep(received, id).await?;
        }
        if let Some(manifest) = checked.manifest {
            self.contexts.blobs().keep(&caller.owner, manifest, id).await?;
        }
        let given = &checked.given;
        let sealed = (!given.is_empty()).then(|| self.vault.seal_for_build(&caller.owner, id, given));
        let new = NewBuild { record, dockerfile: checked.dockerfile, sealed, quota: caller.quota };
        self.accept(new).await
    }

    /// Accepts what is ready, and ends what it takes the place of.
    pub(super) async fn accept(&self, new: NewBuild) -> Result<(Stored, Option<u64>)> {
        let id = new.record.id;
        match self.place(new).await {
            Ok(placed) => {
                self.supersede_older(&placed.0.record, placed.0.age()).await;
                Ok(placed)
            }
            // Whether it was written is not known when the store went away: the janitor looks for contexts without a record.
            Err(error) if !matches!(error, Error::Unavailable { .. }) => {
                self.contexts.remove(id).await?;
                Err(error)
            }
            placed => placed,
        }
    }

    /// If it was asked for. What fails now is done when the build is claimed.
    pub(super) async fn supersede_older(&self, by: &BuildRecord, age: u64) {
        if by.spec.supersede
            && let Err(error) = self.store.supersede_older(by, age).await
        {
            tracing::warn!(build = %by.id, %error, "older builds are not ended yet");
        }
    }

    pub(super) async fn check(&self, caller: &Principal, draft: Draft) -> Result<Checked> {
        let Draft { texts, file, mut context, secrets, mut faults, legacy } = draft;
        let git = texts.git(context.is_some(), &mut faults);
        let reuse = texts.flag(TextPart::Reuse, false, &mut faults);
        let asks_time = texts.first(TextPart::Timeout).is_some();
        let manifest = self
            .manifest_named(&caller.owner, texts.first(TextPart::Manifest), context.is_some() || git.is_some(), &mut faults)
            .await?;
        let in_pieces = texts.first(TextPart::Manifest).is_some();
        let has_context = context.is_some() || in_pieces || git.is_some();
        let (mut spec, own) = texts.spec(&self.policy, file.is_some(), has_context, &mut faults);
        let credentials = self.credentials(&caller.owner, &spec.registries, own, &mut faults).await?;
        let given = secrets.given(credentials, &mut spec, &mut faults);
        caller_may_push(caller, &spec, &mut faults);
        Self::bound_time(&caller.quota, &mut spec, asks_time)?;
        let fetched = match &git {
            Some(url) if faults.0.is_empty() => Some(self.fetch(caller, url, &given.credentials, &mut context).await?),
            _ => None,
        };
        let sent_as = if fetched.is_some() { "git" } else { "context" };
        let upload = match (&context, &manifest) {
            (Some(received), _) => Some((received.path().to_owned(), None)),
            (None, Some(manifest)) => {
                let blobs = self.contexts.blobs();
                Some((blobs.path(&caller.owner, manifest.id), Some(blobs.root().to_owned())))
            }
            (None, None) => None,
        };
        let mut inspected = match upload {
            Some((path, root)) => match self.inspect(path, root, &spec).await? {
                Ok(inspected) => Some(inspected),
                Err(ContextError::Refused(fault)) if !fault.too_large => {
                    faults.add(fault.code, sent_as, fault.detail);
                    None
                }
                Err(error) => return Err(error.into()),
            },
            None => None,
        };
        let context_refused = (context.is_some() || in_pieces) && inspected.is_none();
        let mut info = info(file.as_deref(), context.as_ref(), manifest.as_ref(), inspected.as_ref());
        info.git = fetched;
        let warnings = inspected.as_mut().map(|inspected| std::mem::take(&mut inspected.surprises)).unwrap_or_default();
        let dockerfile = match (file, inspected) {
            (Some(file), _) => Some((file, "file")),
            (None, Some(Inspected { dockerfile: Some(text), .. })) => Some((text, sent_as)),
            (None, Some(_)) => {
                faults.add("dockerfile_missing", sent_as, format!("holds no file {:?}", spec.dockerfile));
                None
            }
            (None, None) => {
                let source_refused = faults.0.iter().any(|fault| ["file", "git"].contains(&fault.field.field.as_str()));
                if !context_refused && !source_refused && git.is_none() {
                    faults.add(
                        "source_missing",
                        "file",
                        "send a Dockerfile as file, an archive as context, or a repository's URL as git",
                    );
                }
                None
            }
        };
        if let Some((text, field)) = &dockerfile {
            check_dockerfile(text, field, &spec, &mut faults);
            name_source(&mut spec, &info, text);
        }
        match (dockerfile, faults.0.is_empty()) {
            (Some((dockerfile, _)), true) => {
                let manifest = manifest.map(|manifest| manifest.id);
                Ok(Checked { spec, given, dockerfile, info, warnings, context, manifest, legacy, reuse })
            }
            _ => Err(told_together(faults.0)),
        }
    }

    async fn inspect(
        &self,
        path: PathBuf,
        root: Option<PathBuf>,
        spec: &BuildSpec,
    ) -> Result<std::result::Result<Inspected, ContextError>> {
        let bounds = self.bounds();
        let (dockerfile, replaced) = (spec.dockerfile.clone(), spec.dockerfile_replaced);
        tokio::task::spawn_blocking(move || {
            let at = DockerfileAt { path: &dockerfile, replaced };
            match root {
                Some(root) => inspect_manifest(&path, &root, &bounds, at),
                None => inspect(&path, &bounds, at),
            }
        })
        .await
        .map_err(Error::internal)
    }

    /// What a context may cost.
    pub(super) fn bounds(&self) -> ArchiveLimits {
        ArchiveLimits { expanded_bytes: self.policy.max_context.0, entries: self.policy.max_entries, ..ArchiveLimits::default() }
    }
}

/// A token that is limited to some destinations pushes to no others.
fn caller_may_push(caller: &Principal, spec: &BuildSpec, faults: &mut Faults) {
    if caller.images.is_empty() {
        return;
    }
    for image in spec.images.iter().filter(|image| !caller.images.iter().any(|pattern| pattern.matches(image))) {
        let allowed: Vec<String> = caller.images.iter().map(ToString::to_string).collect();
        let told = format!("{image} is not among the destinations of this token: {}", allowed.join(", "));
        faults.add("image_not_allowed", "image", told);
    }
}

fn info(
    file: Option<&[u8]>,
    context: Option<&Received>,
    manifest: Option<&Manifest>,
    inspected: Option<&Inspected>,
) -> ContextInfo {
    let Some(inspected) = inspected else {
        let bytes = file.unwrap_or_default();
        return ContextInfo {
            kind: ContextKind::File,
            bytes: bytes.len() as u64,
            files: 1,
            sha256: hex::encode(Sha256::digest(bytes)),
            digest: Some(of_dockerfile("Dockerfile", bytes)),
            kept_bytes: None,
            git: None,
        };
    };
    let (bytes, sha256) = match context {
        Some(received) => (received.bytes(), received.sha256().to_owned()),
        // Of bytes that never came as one: what names them stands in for their hash.
        None => (inspected.expanded_bytes, inspected.digest.trim_start_matches("sha256:").to_owned()),
    };
    ContextInfo {
        kind: inspected.kind,
        bytes,
        files: inspected.files,
        sha256,
        digest: Some(inspected.digest.clone()),
        kept_bytes: manifest.map(|manifest| manifest.kept_bytes),
        git: None,
    }
}

/// One error for all faults; it has the code of the fault where there is but one kind.
pub(super) fn told_together(faults: Vec<Fault>) -> Error {
    let first = faults.first().map_or("invalid_request", |fault| fault.code);
    let code = if faults.iter().all(|fault| fault.code == first) { first } else { "invalid_request" };
    let mut fields: Vec<FieldError> = Vec::new();
    for fault in faults {
        if !fields.contains(&fault.field) {
            fields.push(fault.field);
        }
    }
    Error::Invalid { code, fields }
}
