//! One name for the same files, however they were sent.

use dockwright::context::archive::{ArchiveLimits, DockerfileAt, inspect, of_dockerfile};
use dockwright::context::blobs::Coding;
use dockwright::domain::Owner;
use serde_json::json;

use super::collecting::{received, storage};
use super::pieces::{file, lines};
use crate::context::make::{Tar, ZipEntry, gzip, stored, zip, zstd};

fn digest(bytes: &[u8]) -> String {
    let at = DockerfileAt { path: "Dockerfile", replaced: false };
    inspect(stored(bytes).path(), &ArchiveLimits::default(), at).unwrap_or_else(|e| panic!("must pass: {e}")).digest
}

#[tokio::test]
async fn context_digests_are_equal_for_the_same_files() {
    let text: &[u8] = b"FROM scratch\n";
    let tar = Tar::new().file("./Dockerfile", text).executable("bin/run", b"x").symlink("link", "/etc").dir("d/").end();
    let whole = digest(&tar);
    // Another order, no `./`, a folder that is named, and a hard link in place of a second file.
    let other = Tar::new().dir("d/").symlink("link", "/etc").executable("bin/run", b"x").file("Dockerfile", text).end();
    assert_eq!(digest(&other), whole);
    assert_eq!((digest(&gzip(&tar)), digest(&zstd(&tar))), (whole.clone(), whole.clone()));
    let zipped = zip(&[
        ZipEntry::mode("Dockerfile", text, 0o100_644),
        ZipEntry::mode("bin/run", b"x", 0o100_755),
        ZipEntry::mode("link", b"/etc", 0o120_777),
        ZipEntry::mode("d/", b"", 0o040_750),
    ]);
    assert_eq!(digest(&zipped), whole);
    let mut run = file("bin/run", b"x");
    run["mode"] = json!("755");
    let manifest = [
        run,
        file("Dockerfile", text),
        json!({"path": "d", "type": "dir", "mode": "0750", "mtime": 12}),
        json!({"path": "link", "type": "symlink", "target": "/etc"}),
    ];
    let (_folder, storage) = storage();
    let owner: Owner = "ada".parse().expect("a name");
    let declare = |bytes: Vec<u8>, coding| {
        let (storage, owner) = (storage.clone(), owner.clone());
        async move {
            let received = received(&storage, &bytes).await;
            storage.blobs().declare(&owner, received, coding, ArchiveLimits::default()).await.expect("passes").digest
        }
    };
    let text = lines(&manifest).into_bytes();
    assert_eq!(declare(gzip(&text), Coding::Gzip).await, whole);
    assert_eq!(declare(zstd(&text), Coding::Zstd).await, whole);
    assert_eq!(declare(text, Coding::Identity).await, whole);
}

#[test]
fn context_digests_tell_files_apart() {
    let base = || Tar::new().file("Dockerfile", b"FROM scratch\n");
    let all = [
        base().file("a", b"1").end(),
        base().file("a", b"2").end(),
        base().file("b", b"1").end(),
        base().executable("a", b"1").end(),
        base().symlink("a", "1").end(),
        base().dir("a/").end(),
        base().file("a/b", b"1").end(),
        base().end(),
    ];
    let mut digests: Vec<String> = all.iter().map(|tar| digest(tar)).collect();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), all.len());
    assert_eq!(of_dockerfile("Dockerfile", b"FROM scratch\n"), digest(&base().end()), "alone or in an archive");
    let (linked, twice) = (base().hard_link("copy", "Dockerfile").end(), base().file("copy", b"FROM scratch\n").end());
    assert_eq!(digest(&linked), digest(&twice), "a hard link is the file that it is");
}

/// The form that `docs/uploads.md` describes, computed by hand.
#[test]
fn context_digests_are_what_the_documentation_says() {
    use sha2::{Digest, Sha256};
    let tar = Tar::new().file("d/Dockerfile", b"x").symlink("l", "t").end();
    let content = hex::encode(Sha256::digest(b"x"));
    let texts =
        [format!("d/Dockerfile\0file\x00644\x001\0{content}"), "d\0dir\x00755\x000\0".into(), "l\0symlink\x00777\x000\0t".into()];
    let mut sums: Vec<_> = texts.iter().map(Sha256::digest).collect();
    sums.sort();
    let mut whole = Sha256::new_with_prefix("dockwright context 1\n");
    sums.iter().for_each(|sum| whole.update(sum));
    assert_eq!(digest(&tar), format!("sha256:{}", hex::encode(whole.finalize())));
}
