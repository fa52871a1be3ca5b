//! Manifests and blobs that lie.

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::pieces::{blobs, declare, declared, entry, file, give, lines, manifest, submit, sum};
use crate::accounts::people::quiet;
use crate::pipeline::on_both_stores;
use crate::support::service::{Backend, start_with};

on_both_stores!(
    hostile_manifests_are_refused_by_name,
    manifests_over_a_limit_are_413_and_a_full_disk_is_507,
    blobs_that_lie_are_refused_and_never_seen,
);

fn told((status, problem): (StatusCode, Value)) -> (u16, String) {
    (status.as_u16(), problem["code"].as_str().unwrap_or_default().to_owned())
}

async fn hostile_manifests_are_refused_by_name(backend: Backend) {
    let service = quiet(backend).await;
    let link = json!({"path": "l", "type": "symlink", "target": "/etc"});
    let with = |key: &str, value: Value| {
        let mut line = file("a", b"abc");
        line[key] = value;
        lines(&[line])
    };
    let (a, b) = (file("a", b"abc"), file("a/b", b"abc"));
    for (text, code) in [
        (lines(&[file("../a", b"abc")]), "path_escapes"),
        (lines(&[file("x/../../a", b"abc")]), "path_escapes"),
        (lines(&[file("/etc/passwd", b"abc")]), "absolute_path"),
        (lines(&[a.clone(), a.clone()]), "duplicate_path"),
        (lines(&[a.clone(), file("./a", b"abd")]), "duplicate_path"),
        (lines(&[link.clone(), file("l/passwd", b"abc")]), "path_through_link"),
        (lines(&[a.clone(), b]), "path_through_file"),
        (with("path", json!("")), "invalid_path"),
        (with("path", json!("a\u{0}b")), "invalid_path"),
        (with("path", json!("x".repeat(300))), "path_too_long"),
        (with("type", json!("fifo")), "invalid_manifest"),
        (with("type", json!("dir")), "invalid_manifest"),
        (with("mode", json!("9")), "invalid_manifest"),
        (with("mode", json!("17777")), "invalid_manifest"),
        (with("size", json!(-1)), "invalid_manifest"),
        (with("size", json!(0)), "blob_size"),
        (with("sha256", json!(sum(b""))), "blob_size"),
        (with("sha256", json!(sum(b"abc").to_uppercase())), "invalid_manifest"),
        (with("sha256", json!("../../../etc/passwd")), "invalid_manifest"),
        (with("owner", json!("root")), "invalid_manifest"),
        ("{}\n".into(), "invalid_manifest"),
        ("not JSON\n".into(), "invalid_manifest"),
        (format!("{}\n", "x".repeat(70_000)), "invalid_manifest"),
    ] {
        let refused = declare(&service, &service.token, text.clone()).await;
        assert_eq!(told(refused), (400, code.into()), "{text}");
    }
    let two_sizes = json!({"path": "b", "type": "file", "size": 4, "sha256": sum(b"abc")});
    assert_eq!(told(declare(&service, &service.token, lines(&[a, two_sizes])).await), (400, "blob_size".into()));
    let coded = service.request(reqwest::Method::POST, "/api/v1/contexts").header("content-encoding", "br").body("x");
    assert_eq!(coded.send().await.expect("an answer").status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

async fn manifests_over_a_limit_are_413_and_a_full_disk_is_507(backend: Backend) {
    let service = start_with(backend, |settings| {
        settings.engine = Some("unix:///nonexistent/engine".into());
        settings.max_entries = Some(10);
        settings.max_context = Some("1m".parse().expect("an amount"));
    })
    .await;
    let token = &service.token;
    let many: Vec<Value> = (0..11).map(|n| file(&format!("f{n}"), b"x")).collect();
    assert_eq!(told(declare(&service, token, lines(&many)).await), (413, "too_many_entries".into()));
    let large = json!({"path": "a", "type": "file", "size": 2 << 20, "sha256": sum(b"x")});
    assert_eq!(told(declare(&service, token, lines(&[large])).await), (413, "expanded_too_large".into()));
    // 65 MiB of nothing, packed small.
    let bomb = crate::context::make::zstd(&vec![b' '; 65 << 20]);
    let packed = service.request(reqwest::Method::POST, "/api/v1/contexts").header("content-encoding", "zstd").body(bomb);
    let answer = packed.send().await.expect("an answer");
    assert!([400, 413].contains(&answer.status().as_u16()), "{}", answer.text().await.expect("text"));

    let full = start_with(backend, |settings| settings.min_free_disk = Some("1000t".parse().expect("an amount"))).await;
    assert_eq!(told(declare(&full, &full.token, manifest(&[("a", b"x")])).await).0, 507);
}

async fn blobs_that_lie_are_refused_and_never_seen(backend: Backend) {
    let service = quiet(backend).await;
    let token = &service.token;
    let dockerfile: &[u8] = b"FROM busybox\n";
    let (good, large): (&[u8], Vec<u8>) = (b"good", vec![7; 3 << 20]);
    let wanted = declared(&service, token, manifest(&[("Dockerfile", dockerfile), ("a", good), ("large", &large)])).await;
    let folder = service.config.data_dir.join("blobs/admin");
    let names = || {
        let entries = std::fs::read_dir(&folder).expect("a folder");
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect::<Vec<_>>()
    };
    let lie = entry(&sum(good), b"evil");
    for (tar, code) in [
        (blobs(&[b"nobody asked for it"]), "blob_not_asked"),
        (entry(&sum(good), b"longer"), "blob_size"),
        (lie.clone(), "blob_hash"),
        (entry("../../../../etc/passwd-", good), "invalid_path"),
        (entry(&format!("./x/{}", sum(good)), good), "invalid_path"),
        (b"this is no tar, but long enough to be a header of one: ".repeat(20), "corrupt_archive"),
        // Cut in the middle of a blob.
        (entry(&sum(&large), &large)[..1 << 20].to_vec(), "truncated_archive"),
    ] {
        assert_eq!(told(give(&service, token, &wanted, tar).await), (400, code.into()));
        assert_eq!(names(), [""; 0], "{code}");
    }
    // What was right before the lie is kept; the lie never is.
    let tar = [entry(&sum(dockerfile), dockerfile), lie, entry(&sum(&large), &large)].concat();
    assert_eq!(told(give(&service, token, &wanted, tar).await), (400, "blob_hash".into()));
    assert_eq!(names(), [sum(dockerfile)]);
    let (status, refused) = submit(&service, token, &wanted).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(refused["missing"], json!([sum(good), sum(&large)]));
    // One blob again and again is more than all of them.
    let flood: Vec<u8> = (0..3).flat_map(|_| entry(&sum(&large), &large)).collect();
    assert_eq!(told(give(&service, token, &wanted, flood).await).0, 413);
    let incoming = std::fs::read_dir(service.config.data_dir.join("incoming")).expect("a folder").count();
    assert_eq!(incoming, 0, "nothing is left of what was refused");
}
