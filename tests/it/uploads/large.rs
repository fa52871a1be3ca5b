//! What small uploads are for: the second one of a large context.

use std::time::Instant;

use reqwest::Method;
use serde_json::Value;

use super::pieces::{entry, manifest, of, sum};
use crate::context::make::zstd;
use crate::pipeline::on_both_stores;
use crate::support::service::{Backend, Running, start};
use crate::support::unique;

on_both_stores!(alone_a_second_upload_of_500_mb_moves_less_than_1_mb_and_starts_at_once);

const FILES: usize = 20_000;
const FILE_BYTES: usize = 25_000;

/// Bytes that do not compress, others for each seed.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = vec![0; FILE_BYTES];
    for word in bytes.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    bytes
}

async fn sent(service: &Running, path: &str, body: Vec<u8>) -> (Value, usize) {
    let bytes = body.len();
    let request = service.request(Method::POST, path).header("content-encoding", "zstd").body(body);
    let answer = request.send().await.expect("an answer");
    let status = answer.status();
    let told = answer.bytes().await.expect("a body");
    let all = bytes + told.len();
    let told: Value = serde_json::from_slice(&told).expect("JSON");
    assert!(status.is_success(), "{told}");
    (told, all)
}

/// Twenty thousand files of 500 MB together; then the same with one of them changed.
async fn alone_a_second_upload_of_500_mb_moves_less_than_1_mb_and_starts_at_once(backend: Backend) {
    let service = start(backend).await;
    let mark = unique("mark");
    let names: Vec<String> = (0..FILES).map(|n| format!("src/module-{}/file-{n}.txt", n % 100)).collect();
    let mut files: Vec<Vec<u8>> = (0..FILES as u64).map(noise).collect();
    let dockerfile = format!("FROM busybox\nCOPY Dockerfile /{mark}\n").into_bytes();
    let declare = async |files: &[Vec<u8>]| {
        let listed = names.iter().map(String::as_str).zip(files.iter().map(Vec::as_slice));
        let text = manifest(&listed.chain([("Dockerfile", dockerfile.as_slice())]).collect::<Vec<_>>());
        let begun = Instant::now();
        (begun, sent(&service, "/api/v1/contexts", zstd(text.as_bytes())).await)
    };
    let (begun, (first, bytes)) = declare(&files).await;
    assert_eq!(first["missing"].as_array().map(Vec::len), Some(FILES + 1));
    assert!(bytes < 4 << 20, "the first manifest and its answer: {bytes} bytes");
    let path = |manifest: &Value| format!("/api/v1/contexts/{}/blobs", manifest["id"].as_str().expect("an id"));
    let entries: Vec<Vec<u8>> = files.iter().chain([&dockerfile]).map(|bytes| entry(&sum(bytes), bytes)).collect();
    let tar = entries.concat();
    let (told, _) = sent(&service, &path(&first), zstd(&tar)).await;
    assert_eq!(told["missing"], serde_json::json!([]));
    let build = service.submit(of(&first)).await;
    let whole = begun.elapsed();
    assert_eq!(service.ended(&build).await["state"], "built");

    files[7] = noise(1 << 40);
    let (begun, (second, declared_bytes)) = declare(&files).await;
    assert_eq!(second["missing"], serde_json::json!([sum(&files[7])]));
    let (_, blob_bytes) = sent(&service, &path(&second), zstd(&entry(&sum(&files[7]), &files[7]))).await;
    let build = service.submit(of(&second)).await;
    service.until(&build, |build| build["state"] != "queued").await;
    let took = begun.elapsed();
    let bytes = declared_bytes + blob_bytes;
    assert!(bytes < 1_000_000, "the second upload moved {bytes} bytes");
    // Without optimisation, on a machine that may be busy, seconds say little: `scripts/bench --only pieces` measures those.
    assert!(took * 3 < whole, "it took {took:?} until the second build began; the first {whole:?}");
    assert_eq!(service.ended(&build).await["state"], "built");
}
