//! From an upload to an accepted build.

use std::path::{Path, PathBuf};

use secrecy::SecretString;
use sha2::{Digest as _, Sha256};

use super::options::{Fault, Faults, Texts};
use super::same::identity;
use super::{Builds, TextPart};
use crate::auth::Principal;
use crate::context::ContextError;
use crate::context::archive::{ArchiveLimits, DockerfileAt, Inspected, inspect};
use crate::context::dockerfile::{self, Outline};
use crate::context::storage::{Incoming, Received, free_bytes};
use crate::domain::{
    BuildId, BuildRecord, BuildSpec, ContextInfo, ContextKind, Credentials, LegacyUpload, Quota, Timestamp, limits,
};
use crate::error::{Error, FieldError, Result};
use crate::store::{NewBuild, Stored};

/// An upload as it comes in, part by part, in any order.
#[derive(Default)]
pub struct Draft {
    texts: Texts,
    file: Option<Vec<u8>>,
    context: Option<Received>,
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

    /// What tells this upload from another: the parts in any order, each by its content.
    #[must_use]
    pub fn fingerprint(&self) -> Vec<u8> {
        let mut parts = self.texts.digests();
        parts.extend(self.file.as_ref().map(|file| format!("file {}", hex::encode(Sha256::digest(file)))));
        parts.extend(self.context.as_ref().map(|context| format!("context {}", context.sha256())));
        parts.sort();
        parts.join("\n").into_bytes()
    }

    /// Its texts alone, and what was wrong with other parts.
    pub(super) fn into_texts(self) -> (Texts, Faults) {
        (self.texts, self.faults)
    }

    pub fn fault(&mut self, code: &'static str, field: &str, message: impl Into<String>) {
        self.faults.add(code, field, message);
    }
}

/// A draft of which nothing is wrong.
pub(super) struct Checked {
    spec: BuildSpec,
    pub(super) credentials: Vec<Credentials>,
    pub(super) dockerfile: Vec<u8>,
    info: ContextInfo,
    context: Option<Received>,
    legacy: Option<LegacyUpload>,
    /// Whether a build of the very same may be answered instead.
    pub(super) reuse: bool,
}

impl Checked {
    pub(super) fn record(&self, caller: &Principal, id: BuildId) -> BuildRecord {
        let (spec, info, owner) = (self.spec.clone(), self.info.clone(), caller.owner.clone());
        let mut record = BuildRecord::new(id, owner, spec, info, self.legacy.clone(), Timestamp::now());
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
        self.enough(self.contexts.free_bytes()?)
    }

    /// The same of another folder of this machine.
    ///
    /// # Errors
    /// As [`Builds::must_have_room`].
    pub fn must_have_room_in(&self, folder: &Path) -> Result<()> {
        self.enough(free_bytes(folder)?)
    }

    fn enough(&self, free: u64) -> Result<()> {
        if free < self.policy.min_free_disk.0 {
            return Err(Error::StorageFull(format!("less than {} are free, so nothing is accepted", self.policy.min_free_disk)));
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
        let given = &checked.credentials;
        let sealed = (!given.is_empty()).then(|| self.vault.seal_for_build(&caller.owner, id, given));
        let new = NewBuild { record, dockerfile: checked.dockerfile, sealed, quota: caller.quota };
        self.accept(&new).await
    }

    /// Accepts what is ready, and ends what it takes the place of.
    pub(super) async fn accept(&self, new: &NewBuild) -> Result<(Stored, Option<u64>)> {
        let id = new.record.id;
        match self.store.submit_placed(new).await {
            Ok(placed) => {
                self.supersede_older(&new.record).await;
                Ok(placed)
            }
            // Whether it was written is not known when the store went away: the janitor looks for contexts without a record.
            Err(error @ crate::store::StoreError::Unavailable(_)) => Err(error.into()),
            Err(error) => {
                self.contexts.remove(id).await?;
                Err(error.into())
            }
        }
    }

    /// If it was asked for. What fails now is done when the build is claimed.
    pub(super) async fn supersede_older(&self, by: &BuildRecord) {
        if by.spec.supersede
            && let Err(error) = self.store.supersede_older(by).await
        {
            tracing::warn!(build = %by.id, %error, "older builds are not ended yet");
        }
    }

    pub(super) async fn check(&self, caller: &Principal, draft: Draft) -> Result<Checked> {
        let Draft { texts, file, context, mut faults, legacy } = draft;
        let reuse = texts.flag(TextPart::Reuse, false, &mut faults);
        let asks_time = texts.first(TextPart::Timeout).is_some();
        let (mut spec, own) = texts.spec(&self.policy, file.is_some(), context.is_some(), &mut faults);
        let credentials = self.credentials(&caller.owner, &spec.registries, own, &mut faults).await?;
        caller_may_push(caller, &spec, &mut faults);
        Self::bound_time(&caller.quota, &mut spec, asks_time)?;
        let inspected = match &context {
            Some(received) => match self.inspect(received.path().to_owned(), &spec).await? {
                Ok(inspected) => Some(inspected),
                Err(ContextError::Refused(fault)) if !fault.too_large => {
                    faults.add(fault.code, "context", fault.detail);
                    None
                }
                Err(error) => return Err(error.into()),
            },
            None => None,
        };
        let context_refused = context.is_some() && inspected.is_none();
        let info = info(file.as_deref(), context.as_ref().zip(inspected.as_ref()));
        let dockerfile = match (file, inspected) {
            (Some(file), _) => Some((file, "file")),
            (None, Some(Inspected { dockerfile: Some(text), .. })) => Some((text, "context")),
            (None, Some(_)) => {
                faults.add("dockerfile_missing", "context", format!("holds no file {:?}", spec.dockerfile));
                None
            }
            (None, None) => {
                let source_refused = faults.0.iter().any(|fault| ["file", "git"].contains(&fault.field.field.as_str()));
                if !context_refused && !source_refused {
                    faults.add("source_missing", "file", "send a Dockerfile as file, or an archive as context");
                }
                None
            }
        };
        if let Some((text, field)) = &dockerfile {
            check_dockerfile(text, field, &spec, &mut faults);
        }
        match (dockerfile, faults.0.is_empty()) {
            (Some((dockerfile, _)), true) => Ok(Checked { spec, credentials, dockerfile, info, context, legacy, reuse }),
            _ => Err(told_together(faults.0)),
        }
    }

    async fn inspect(&self, path: PathBuf, spec: &BuildSpec) -> Result<std::result::Result<Inspected, ContextError>> {
        let bounds = ArchiveLimits {
            expanded_bytes: self.policy.max_context.0,
            entries: self.policy.max_entries,
            ..ArchiveLimits::default()
        };
        let (dockerfile, replaced) = (spec.dockerfile.clone(), spec.dockerfile_replaced);
        tokio::task::spawn_blocking(move || inspect(&path, &bounds, DockerfileAt { path: &dockerfile, replaced }))
            .await
            .map_err(Error::internal)
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

fn info(file: Option<&[u8]>, context: Option<(&Received, &Inspected)>) -> ContextInfo {
    match context {
        Some((received, inspected)) => ContextInfo {
            kind: inspected.kind,
            bytes: received.bytes(),
            files: inspected.files,
            sha256: received.sha256().to_owned(),
        },
        None => {
            let bytes = file.unwrap_or_default();
            ContextInfo {
                kind: ContextKind::File,
                bytes: bytes.len() as u64,
                files: 1,
                sha256: hex::encode(Sha256::digest(bytes)),
            }
        }
    }
}

fn check_dockerfile(text: &[u8], field: &str, spec: &BuildSpec, faults: &mut Faults) {
    if text.len() as u64 > limits::DOCKERFILE_BYTES {
        return faults.add(
            "dockerfile_too_large",
            field,
            format!("the Dockerfile may have at most {} bytes", limits::DOCKERFILE_BYTES),
        );
    }
    let outline = match dockerfile::check(text) {
        Ok(outline) => outline,
        Err(fault) => return faults.add(fault.code, field, fault.message),
    };
    if let Some(frontend) = outline.foreign_frontend() {
        let why = format!(
            "line {}: the frontend {:?} is not allowed; leave the # syntax= line out, or name docker/dockerfile",
            frontend.line, frontend.image
        );
        faults.add("frontend_not_allowed", field, why);
    }
    if let Some(image) = outline.reserved_image(&spec.build_args) {
        faults.add(
            "reserved_image",
            field,
            format!("line {}: {} names the service's own host, whose images cannot be used", image.line, image.text),
        );
    }
    if let Some(image) = outline.image_like_an_id(&spec.build_args).filter(|_| spec.has_limits()) {
        let why = format!(
            "line {}: with limits, {:?} could also be the id of anybody's image; write its tag, too: {}:latest",
            image.line, image.text, image.text
        );
        faults.add("image_by_id", field, why);
    }
    if let Some(target) = spec.target.as_deref().filter(|target| !has_stage(&outline, target)) {
        faults.add("target_not_found", "target", format!("the Dockerfile has no build stage {target:?}"));
    }
    if let Some(needs) = outline.buildkit_only.as_ref().filter(|_| spec.has_limits()) {
        let why = format!(
            "line {} of the Dockerfile uses {}, which only BuildKit knows, and BuildKit ignores limits of memory and CPU",
            needs.line, needs.what
        );
        faults.add("limits_need_classic", if spec.memory_bytes.is_some() { "memory" } else { "cpus" }, why);
    }
}

/// A stage is named, in any case of its letters, or counted from 0.
fn has_stage(outline: &Outline, target: &str) -> bool {
    let named = outline.stages.iter().any(|stage| stage.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(target)));
    named || target.parse::<usize>().is_ok_and(|index| index < outline.stages.len())
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
