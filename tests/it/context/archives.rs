use std::time::{Duration, Instant};

use dockwright::context::archive::{ArchiveLimits, DockerfileAt, Inspected, inspect};
use dockwright::domain::ContextKind;
use sha2::{Digest, Sha256};

use super::make::{Tar, ZipEntry, gzip, header, stored, zip, zstd};

pub const DOCKERFILE: DockerfileAt<'static> = DockerfileAt { path: "Dockerfile", replaced: false };

fn found(bytes: &[u8]) -> Inspected {
    inspect(stored(bytes).path(), &ArchiveLimits::default(), DOCKERFILE).unwrap_or_else(|e| panic!("must pass: {e}"))
}

/// Everything that an honest archive may have.
pub fn honest() -> Tar {
    let long = format!("{}/end", "directory".repeat(15));
    Tar::new()
        .dir("./")
        .file("./Dockerfile", b"FROM scratch\n")
        .pax(b'g', &[("comment", "made by git archive")])
        .dir("empty/")
        .dir("empty/")
        .executable("bin/run", b"#!/bin/sh\n")
        .hard_link("bin/again", "bin/run")
        .hard_link("bin/third", "bin/again")
        .symlink("etc", "/etc")
        .symlink("up", "../../x")
        .gnu(b'L', &long)
        .file("cut", b"gnu")
        .pax(b'x', &[("path", "üñï/päx"), ("mtime", "1700000000.25"), ("SCHILY.xattr.user.x", "1")])
        .file("cut", b"pax")
        .file("Case", b"1")
        .file("case", b"2")
}

#[test]
fn context_honest_archives_pass_whatever_packs_them() {
    let tar = honest().end();
    let two_members = [gzip(&tar[..1000]), gzip(&tar[1000..])].concat();
    let two_frames = [zstd(&tar[..1000]), b"\x50\x2a\x4d\x18\x02\0\0\0xx".to_vec(), zstd(&tar[1000..])].concat();
    for (bytes, kind) in [
        (tar.clone(), ContextKind::Tar),
        (gzip(&tar), ContextKind::TarGz),
        (two_members, ContextKind::TarGz),
        (zstd(&tar), ContextKind::TarZst),
        (two_frames, ContextKind::TarZst),
    ] {
        let found = found(&bytes);
        assert_eq!((found.kind, found.files), (kind, 10));
        assert_eq!(found.dockerfile.as_deref(), Some(&b"FROM scratch\n"[..]));
        assert_eq!(found.expanded_bytes, 13 + 10 + 3 + 3 + 1 + 1);
        assert_eq!(found.warnings, ["extended attributes of 1 entries are left out"]);
    }
}

#[test]
fn context_zips_pass_with_modes_and_links() {
    let found = found(&zip(&[
        ZipEntry::new("d/", b""),
        ZipEntry::mode("d/run", b"#!/bin/sh\n", 0o100_755),
        ZipEntry::mode("link", b"/etc/passwd", 0o120_777),
        ZipEntry { deflate: false, ..ZipEntry::new("Dockerfile", b"FROM x\n") },
    ]));
    assert_eq!((found.kind, found.files, found.expanded_bytes), (ContextKind::Zip, 3, 17));
    assert_eq!(found.dockerfile.as_deref(), Some(&b"FROM x\n"[..]));
}

/// As programs write zips into a pipe: sizes after the data, and 64-bit ones where a file might have become large.
#[test]
fn context_zips_of_another_program_pass() {
    use std::io::Write;
    let mut out = Vec::new();
    let mut writer = ::zip::ZipWriter::new_stream(&mut out);
    let options = ::zip::write::SimpleFileOptions::default().compression_method(::zip::CompressionMethod::Deflated);
    writer.start_file("Dockerfile", options).expect("starts");
    writer.write_all(b"FROM x\n").expect("writes");
    writer.start_file("run", options.unix_permissions(0o755).large_file(true)).expect("starts");
    writer.write_all(&[b'x'; 3000]).expect("writes");
    writer.add_directory("d", options).expect("adds");
    writer.add_symlink("l", "/etc", options).expect("adds");
    writer.finish().expect("finishes");
    let found = found(&out);
    assert_eq!((found.files, found.expanded_bytes), (3, 3007));
    assert_eq!(found.dockerfile.as_deref(), Some(&b"FROM x\n"[..]));
}

#[test]
fn context_without_a_dockerfile_says_so() {
    assert_eq!(found(&Tar::new().file("a", b"").end()).dockerfile, None);
    assert_eq!(found(&Tar::new().end()).dockerfile, None, "an empty tar");
    assert_eq!(found(&zip(&[])).dockerfile, None, "an empty zip");
}

#[test]
fn context_dockerfiles_are_found_by_their_path() {
    let file = stored(&Tar::new().file("Dockerfile", b"1").file("docker/prod.Dockerfile", b"2").symlink("l", "docker").end());
    let text = |path, replaced| inspect(file.path(), &ArchiveLimits::default(), DockerfileAt { path, replaced });
    assert_eq!(text("./docker//prod.Dockerfile", false).expect("passes").dockerfile.as_deref(), Some(&b"2"[..]));
    assert_eq!(text("docker/prod.Dockerfile", true).expect("passes").dockerfile, None, "it is replaced");
    for (path, code) in [
        ("../x", "invalid_dockerfile_path"),
        ("/Dockerfile", "invalid_dockerfile_path"),
        ("", "invalid_dockerfile_path"),
        ("docker/", "invalid_dockerfile_path"),
        ("docker", "dockerfile_is_directory"),
        ("l/prod.Dockerfile", "dockerfile_is_link"),
        ("Dockerfile/x", "dockerfile_is_link"),
    ] {
        let error = text(path, true).expect_err(path);
        let dockwright::error::Error::Invalid { code: told, .. } = error.into() else { panic!("{path}: bad input") };
        assert_eq!(told, code, "{path}");
    }
}

#[test]
fn context_large_plain_tars_are_read_once() {
    const LARGE: u64 = 128 << 20;
    // A file with a hole, which costs nothing to store.
    let file = stored(&Tar::new().file("Dockerfile", b"FROM x\n").raw(&header(b"big", b'0', LARGE, b"")).cut());
    let end = file.as_file().metadata().expect("a length").len() + LARGE + 1024;
    file.as_file().set_len(end).expect("a hole");
    let start = Instant::now();
    let content = vec![0; 1 << 20];
    let zeros = (0..LARGE >> 20).fold(Sha256::new(), |hash, _| hash.chain_update(&content)).finalize();
    let hashing = start.elapsed();
    let start = Instant::now();
    let found = inspect(file.path(), &ArchiveLimits::default(), DOCKERFILE).expect("passes");
    assert_eq!((found.files, zeros.len()), (2, 32));
    // What is hashed has to be read, but no more than once.
    assert!(start.elapsed() < hashing * 4 + Duration::from_millis(500), "took {:?}, hashing {hashing:?}", start.elapsed());
}
