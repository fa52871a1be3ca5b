//! Base images that a Dockerfile names by digest. BuildKit takes them from its cache without asking their registry, whoever brought them
//! there, and from any host that is named before the digest; so the registry is asked here, with the build's own credentials.

use std::collections::{BTreeMap, BTreeSet};

use super::pipeline::Job;
use crate::context::dockerfile;
use crate::domain::{BuilderKind, ImageRef, RunImage};
use crate::engine::{ContainerEngine, EngineInfo, Result};

/// # Errors
/// When the registry does not show an image that is named by digest, or cannot be asked for it.
pub(super) async fn check(job: &Job, builder: BuilderKind, text: &[u8]) -> Result<()> {
    let args = &job.record.spec.build_args;
    let may_name = text.contains(&b'@') || args.values().any(|value| value.contains('@'));
    // The classic builder asks the registry, with the credentials that it was handed.
    if builder == BuilderKind::Classic || !may_name {
        return Ok(());
    }
    let engine = &job.parts.engine;
    let info = engine.info().await?;
    for image in by_digest(text, args, job.record.spec.platform.as_deref(), &info) {
        let Some(digest) = &image.digest else { continue };
        if is_everybodys(engine.as_ref(), &image).await? {
            continue;
        }
        let own = job.credentials.iter().find(|one| one.host() == image.image.host());
        job.parts.registry.must_show(&image.image, digest, own).await?;
    }
    Ok(())
}

/// Whether the image has a tag of its repository on the engine, where everybody finds it. A digest alone is no such name: a push leaves it
/// there.
async fn is_everybodys(engine: &dyn ContainerEngine, image: &RunImage) -> Result<bool> {
    let Some(id) = engine.image_id(&image.reference()).await? else { return Ok(false) };
    let tags = engine.tags().await?;
    for tag in
        tags.iter().filter_map(|tag| tag.parse::<ImageRef>().ok()).filter(|tag| tag.repository() == image.image.repository())
    {
        if engine.image_id(&tag.to_string()).await?.as_ref() == Some(&id) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The images with digests that the file names, whichever values BuildKit gives to the variables that it sets itself.
fn by_digest(text: &[u8], args: &BTreeMap<String, String>, platform: Option<&str>, engine: &EngineInfo) -> Vec<RunImage> {
    let Ok(outline) = dockerfile::check(text) else { return Vec::new() };
    let own = format!("{}/{}", engine.os, engine.architecture);
    let platforms = [platform_args("BUILD", &own), platform_args("TARGET", platform.unwrap_or(&own))].concat();
    let mut over = args.clone();
    over.extend(platforms.iter().cloned());
    let mut under: BTreeMap<String, String> = platforms.into_iter().collect();
    under.extend(args.clone());
    let names: BTreeSet<String> = [args, &over, &under].into_iter().flat_map(|args| outline.image_names(args)).collect();
    names.iter().filter_map(|name| name.parse::<RunImage>().ok()).filter(|image| image.digest.is_some()).collect()
}

/// The arguments that BuildKit sets of a platform (`dockerfile2llb/platform.go`).
fn platform_args(kind: &str, platform: &str) -> Vec<(String, String)> {
    let mut parts = platform.splitn(3, '/');
    let mut arg = |name: &str| (format!("{kind}{name}"), parts.next().unwrap_or_default().to_owned());
    let (os, arch, variant) = (arg("OS"), arg("ARCH"), arg("VARIANT"));
    vec![(format!("{kind}PLATFORM"), platform.to_owned()), os, arch, variant]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::NodeId;

    #[test]
    fn a_digest_is_found_however_it_is_written() {
        let digest = format!("sha256:{}4", "0".repeat(63));
        let exact = format!("h.example/team/app@{digest}");
        let engine = EngineInfo {
            node: NodeId::new("n"),
            version: String::new(),
            os: "linux".into(),
            architecture: "amd64".into(),
            storage_driver: String::new(),
            insecure_registries: Vec::new(),
            data_root: None,
        };
        let args: BTreeMap<String, String> = [("BASE".to_owned(), exact.clone())].into();
        let (head, tail) = exact.split_at(exact.len() - 1);
        for text in [
            format!("FROM {exact}\n"),
            format!("FROM {}:1@{digest}\n", exact.split('@').next().expect("a name")),
            "ARG BASE\nFROM $BASE\n".to_owned(),
            format!("ARG X={exact}\nFROM ${{X}}\n"),
            format!("FROM scratch\nCOPY --from={exact} / /\n"),
            format!("FROM scratch\nRUN --mount=type=bind,from={exact},target=/x true\n"),
            format!("FROM scratch\nONBUILD COPY --from={exact} / /\n"),
            format!("FROM {head}${{TARGETARCH#amd6}}\n"),
            format!("FROM {head}${{BUILDOS:+{tail}}}\n"),
            // An engine without heredocs reads on inside of them.
            format!("FROM scratch\nRUN <<EOF\nFROM {exact}\nEOF\n"),
        ] {
            let found = by_digest(text.as_bytes(), &args, None, &engine);
            assert_eq!(found.iter().map(RunImage::reference).collect::<Vec<_>>(), [exact.as_str()], "{text}");
        }
        assert!(by_digest(b"FROM h.example/team/app:1\n", &args, None, &engine).is_empty());
    }
}
