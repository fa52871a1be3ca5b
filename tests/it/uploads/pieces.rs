//! A client of the protocol, written to `docs/uploads.md` alone.

use std::io::Write;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::accounts::people::send;
use crate::context::make::Tar;
use crate::support::service::Running;

pub fn sum(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A file's line of a manifest.
pub fn file(path: &str, bytes: &[u8]) -> Value {
    json!({"path": path, "type": "file", "size": bytes.len(), "sha256": sum(bytes)})
}

pub fn lines(entries: &[Value]) -> String {
    entries.iter().map(|entry| format!("{entry}\n")).collect()
}

/// A manifest of these files.
pub fn manifest(files: &[(&str, &[u8])]) -> String {
    lines(&files.iter().map(|(path, bytes)| file(path, bytes)).collect::<Vec<_>>())
}

/// One file of a tar, without the tar's end.
pub fn entry(name: &str, bytes: &[u8]) -> Vec<u8> {
    Tar::new().file(name, bytes).cut()
}

/// A tar of blobs by their hashes.
pub fn blobs(blobs: &[&[u8]]) -> Vec<u8> {
    let mut tar: Vec<u8> = blobs.iter().flat_map(|bytes| entry(&sum(bytes), bytes)).collect();
    tar.write_all(&[0; 1024]).expect("memory takes it");
    tar
}

pub async fn declare(service: &Running, token: &str, manifest: impl Into<String>) -> (StatusCode, Value) {
    let request = service.request_as(token, Method::POST, "/api/v1/contexts").header("content-type", "application/x-ndjson");
    send(request.body(manifest.into())).await
}

/// What has changed since the manifest `base`, in zstd as a client of many files sends it.
pub async fn change(service: &Running, token: &str, base: &Value, changes: &str) -> (StatusCode, Value) {
    let path = format!("/api/v1/contexts?base={}", base["id"].as_str().expect("an id"));
    let request = service.request_as(token, Method::POST, &path).header("content-encoding", "zstd");
    send(request.body(crate::context::make::zstd(changes.as_bytes()))).await
}

/// A manifest that must be taken.
pub async fn declared(service: &Running, token: &str, manifest: impl Into<String>) -> Value {
    let (status, told) = declare(service, token, manifest).await;
    assert_eq!(status, StatusCode::CREATED, "{told}");
    told
}

pub async fn give(service: &Running, token: &str, manifest: &Value, tar: Vec<u8>) -> (StatusCode, Value) {
    let path = format!("/api/v1/contexts/{}/blobs", manifest["id"].as_str().expect("an id"));
    send(service.request_as(token, Method::POST, &path).body(tar)).await
}

/// Sends what must be taken, all of it.
pub async fn given(service: &Running, token: &str, manifest: &Value, tar: Vec<u8>) {
    let (status, told) = give(service, token, manifest, tar).await;
    assert_eq!((status, &told["missing"]), (StatusCode::OK, &json!([])), "{told}");
}

/// The parts of a build from a manifest that is not pushed.
pub fn of(manifest: &Value) -> reqwest::multipart::Form {
    let id = manifest["id"].as_str().expect("an id").to_owned();
    reqwest::multipart::Form::new().text("manifest", id).text("push", "false")
}

pub async fn submit(service: &Running, token: &str, manifest: &Value) -> (StatusCode, Value) {
    send(service.request_as(token, Method::POST, "/api/v1/builds").multipart(of(manifest))).await
}
