use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dockwright::context::archive::ArchiveLimits;
use dockwright::context::stream::{Assemble, Source, open};
use dockwright::domain::BuilderKind;
use futures::{StreamExt, TryStreamExt};

use super::archives::honest;
use super::make::{Tar, ZipEntry, gzip, header, stored, zip, zstd};

/// What another program reads out of the stream: type, mode, link, data.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Read1 {
    kind: tar::EntryType,
    mode: u32,
    link: String,
    data: Vec<u8>,
}

fn plan(builder: BuilderKind) -> Assemble {
    Assemble { dockerfile: "Dockerfile".into(), builder, limits: ArchiveLimits::default() }
}

async fn tar_of(source: Source, plan: Assemble) -> Vec<u8> {
    let chunks: Vec<Bytes> = open(source, plan).try_collect().await.expect("the stream is whole");
    assert!(chunks.iter().all(|chunk| chunk.len() <= 256 * 1024), "chunks are small");
    chunks.concat()
}

fn read(tar: &[u8]) -> BTreeMap<String, Read1> {
    let mut entries = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let path = String::from_utf8(entry.path_bytes().into_owned()).expect("UTF-8");
        let link = String::from_utf8(entry.link_name_bytes().unwrap_or_default().into_owned()).expect("UTF-8");
        let header = entry.header();
        assert_eq!((header.uid().expect("a uid"), header.gid().expect("a gid")), (0, 0), "{path} belongs to root");
        let mut read = Read1 { kind: header.entry_type(), mode: header.mode().expect("a mode"), link, data: Vec::new() };
        entry.read_to_end(&mut read.data).expect("its data");
        assert!(entries.insert(path.clone(), read).is_none() || path.ends_with('/'), "{path} comes twice");
    }
    entries
}

async fn sent(archive: &[u8], replacement: Option<&[u8]>, plan: Assemble) -> BTreeMap<String, Read1> {
    let file = stored(archive);
    let source = Source::Archive { path: file.path().into(), replacement: replacement.map(<[u8]>::to_vec) };
    read(&tar_of(source, plan).await)
}

fn names(entries: &BTreeMap<String, Read1>) -> Vec<&str> {
    entries.keys().map(String::as_str).collect()
}

#[tokio::test]
async fn context_stream_of_a_dockerfile_holds_it_and_nothing_else() {
    let source = Source::Dockerfile(b"FROM x\n".to_vec());
    let entries = read(&tar_of(source, plan(BuilderKind::Buildkit)).await);
    assert_eq!(names(&entries), ["Dockerfile"]);
    assert_eq!((entries["Dockerfile"].data.as_slice(), entries["Dockerfile"].mode), (&b"FROM x\n"[..], 0o644));
}

#[tokio::test]
async fn context_stream_is_the_same_whatever_packs_the_archive() {
    let tar = honest().end();
    let entries = sent(&tar, None, plan(BuilderKind::Buildkit)).await;
    for packed in [gzip(&tar), zstd(&tar)] {
        assert_eq!(sent(&packed, None, plan(BuilderKind::Buildkit)).await, entries);
    }
    let long = format!("{}/end", "directory".repeat(15));
    assert_eq!(
        names(&entries),
        ["Case", "Dockerfile", "bin/again", "bin/run", "bin/third", "case", &long, "empty/", "etc", "up", "üñï/päx"]
    );
    assert_eq!((entries["bin/run"].mode, entries["empty/"].mode), (0o755, 0o750));
    assert_eq!((entries["etc"].kind, entries["etc"].link.as_str()), (tar::EntryType::Symlink, "/etc"));
    assert_eq!((entries["bin/third"].kind, entries["bin/third"].link.as_str()), (tar::EntryType::Link, "bin/run"));
    assert_eq!(entries["üñï/päx"].data, b"pax");
}

/// GNU tar unpacks what is sent, links included, to the very same tree.
#[tokio::test]
async fn context_stream_is_understood_by_the_systems_tar() {
    let file = stored(&gzip(&honest().end()));
    let source = Source::Archive { path: file.path().into(), replacement: None };
    let tar = tar_of(source, plan(BuilderKind::Buildkit)).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = Command::new("tar")
        .args(["--extract", "--no-same-owner", "--preserve-permissions", "--file=-", "--directory"])
        .arg(folder.path())
        .stdin(Stdio::piped())
        .spawn()
        .expect("tar is installed");
    child.stdin.take().expect("a pipe").write_all(&tar).expect("tar reads");
    assert!(child.wait().expect("tar ends").success());
    let at = |path: &str| folder.path().join(path);
    let text = |path: &str| std::fs::read(at(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    assert_eq!(text("bin/third"), b"#!/bin/sh\n");
    assert_eq!(text(&format!("{}/end", "directory".repeat(15))), b"gnu");
    assert_eq!(text("üñï/päx"), b"pax");
    assert_eq!(std::fs::read_link(at("up")).expect("a link"), std::path::Path::new("../../x"));
    let modified = std::fs::metadata(at("üñï/päx")).expect("there").modified().expect("a time");
    assert_eq!(modified.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs(), 1_700_000_000);
}

#[tokio::test]
async fn context_stream_of_a_zip_keeps_modes_and_links() {
    let archive = zip(&[
        ZipEntry::new("Dockerfile", b"FROM x\n"),
        ZipEntry::mode("bin/", b"", 0o040_711),
        ZipEntry::mode("bin/run", b"#!/bin/sh\n", 0o100_755),
        ZipEntry::mode("link", b"/etc/passwd", 0o120_777),
    ]);
    let entries = sent(&archive, None, plan(BuilderKind::Buildkit)).await;
    assert_eq!(names(&entries), ["Dockerfile", "bin/", "bin/run", "link"]);
    assert_eq!((entries["bin/run"].mode, entries["bin/run"].data.as_slice()), (0o755, &b"#!/bin/sh\n"[..]));
    assert_eq!((entries["bin/"].mode, entries["Dockerfile"].mode), (0o711, 0o644));
    assert_eq!((entries["link"].kind, entries["link"].link.as_str()), (tar::EntryType::Symlink, "/etc/passwd"));
}

fn ignoring(name: &str, patterns: &str) -> Vec<u8> {
    // The ignore file comes last: it must count for what came before it.
    Tar::new()
        .file("Dockerfile", b"FROM x\n")
        .dir("src/")
        .file("src/main", b"m")
        .file("src/main.log", b"l")
        .file("keep.log", b"k")
        .file(name, patterns.as_bytes())
        .end()
}

#[tokio::test]
async fn context_stream_leaves_out_what_is_ignored() {
    let archive = ignoring(".dockerignore", "**/*.log\n!keep.log\nDockerfile\n.dockerignore\n");
    let entries = sent(&archive, None, plan(BuilderKind::Buildkit)).await;
    assert_eq!(names(&entries), ["Dockerfile", "keep.log", "src/", "src/main"]);
    let entries = sent(&archive, None, plan(BuilderKind::Classic)).await;
    assert_eq!(names(&entries), [".dockerignore", "Dockerfile", "keep.log", "src/", "src/main"]);
}

#[tokio::test]
async fn context_stream_prefers_the_dockerfiles_own_ignore_file() {
    let both = Tar::new()
        .file(".dockerignore", b"a\n")
        .file("a", b"")
        .file("b", b"")
        .file("docker/D", b"FROM x\n")
        .file("docker/D.dockerignore", b"b\n")
        .end();
    let plan = Assemble { dockerfile: "./docker/D".into(), ..plan(BuilderKind::Buildkit) };
    assert_eq!(names(&sent(&both, None, plan).await), [".dockerignore", "a", "docker/D", "docker/D.dockerignore"]);
}

#[tokio::test]
async fn context_stream_has_the_replacement_in_place_of_the_dockerfile() {
    let archive = Tar::new().file("a", b"1").file("Dockerfile", b"old").hard_link("copy", "Dockerfile").end();
    let entries = sent(&archive, Some(b"new"), plan(BuilderKind::Buildkit)).await;
    assert_eq!(names(&entries), ["Dockerfile", "a", "copy"]);
    assert_eq!(entries["Dockerfile"].data, b"new");
    assert_eq!((entries["copy"].kind, entries["copy"].data.as_slice()), (tar::EntryType::Regular, &b"old"[..]));
    let absent = sent(&Tar::new().symlink("Dockerfile", "/etc/passwd").end(), Some(b"new"), plan(BuilderKind::Buildkit)).await;
    assert_eq!((absent["Dockerfile"].kind, absent["Dockerfile"].data.as_slice()), (tar::EntryType::Regular, &b"new"[..]));
    assert_eq!(names(&sent(&Tar::new().end(), Some(b"new"), plan(BuilderKind::Buildkit)).await), ["Dockerfile"]);
}

#[tokio::test]
async fn context_stream_has_the_bytes_of_a_hard_link_whose_file_is_ignored() {
    let archive = Tar::new()
        .file(".dockerignore", b"hidden\nalso-hidden\n")
        .executable("hidden", b"bytes")
        .hard_link("also-hidden", "hidden")
        .hard_link("first", "also-hidden")
        .hard_link("second", "hidden")
        .end();
    for archive in [archive.clone(), gzip(&archive)] {
        let entries = sent(&archive, None, plan(BuilderKind::Buildkit)).await;
        assert_eq!(names(&entries), [".dockerignore", "first", "second"]);
        let first = &entries["first"];
        assert_eq!((first.kind, first.mode, first.data.as_slice()), (tar::EntryType::Regular, 0o755, &b"bytes"[..]));
        assert_eq!((entries["second"].kind, entries["second"].link.as_str()), (tar::EntryType::Link, "first"));
    }
}

#[tokio::test]
async fn context_stream_keeps_the_mode_of_an_ignored_directory_with_exceptions() {
    let archive = Tar::new()
        .file(".dockerignore", b"docs\n!docs/a/README\n")
        .dir("docs/")
        .dir("docs/a/")
        .dir("docs/b/")
        .file("docs/a/README", b"r")
        .file("docs/a/other", b"o")
        .end();
    let entries = sent(&archive, None, plan(BuilderKind::Buildkit)).await;
    assert_eq!(names(&entries), [".dockerignore", "docs/", "docs/a/", "docs/a/README"]);
    assert_eq!(entries["docs/a/"].mode, 0o750);
}

#[tokio::test]
async fn context_stream_of_what_is_not_there_fails() {
    let source = Source::Archive { path: "/nonexistent/context".into(), replacement: None };
    let chunks: Vec<_> = open(source, plan(BuilderKind::Buildkit)).collect().await;
    assert_eq!(chunks.len(), 1);
    assert_eq!(chunks[0].as_ref().expect_err("an error").kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn context_stream_ends_its_task_when_it_is_dropped() {
    let size = 6_u64 << 30;
    let file = stored(&Tar::new().raw(&header(b"big", b'0', size, b"")).cut());
    file.as_file().set_len(512 + size + 1024).expect("a hole");
    let limits = ArchiveLimits { expanded_bytes: 8 << 30, ..ArchiveLimits::default() };
    let plan = Assemble { limits, ..plan(BuilderKind::Buildkit) };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let start = Instant::now();
    runtime.block_on(async {
        let mut stream = open(Source::Archive { path: file.path().into(), replacement: None }, plan);
        stream.next().await.expect("a chunk").expect("a good one");
    });
    // Waits for the blocking task; reading six gigabytes to the end would take its time.
    drop(runtime);
    assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
}

fn packed(folder: &str) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/contexts").join(folder);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", folder).expect("the fixture packs");
    builder.into_inner().expect("memory takes it")
}

#[tokio::test]
async fn context_fixtures_are_sent_as_their_ignore_files_say() {
    let entries = sent(&packed("ignoring"), None, plan(BuilderKind::Buildkit)).await;
    let files: Vec<_> = names(&entries).into_iter().filter(|name| !name.ends_with('/')).collect();
    assert_eq!(files, [".dockerignore", "Dockerfile", "app/main.sh", "docs/README.md", "keep.log"]);
    let plan = Assemble { dockerfile: "docker/prod.Dockerfile".into(), ..plan(BuilderKind::Buildkit) };
    let entries = sent(&packed("own-ignore"), None, plan).await;
    assert!(entries.contains_key("wanted.txt") && !entries.contains_key("unwanted.txt"), "{:?}", names(&entries));
}
