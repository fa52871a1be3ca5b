//! Time, bytes, entries and turns are bounded, and whatever was begun ends.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::Method;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::{DOCKERFILE, from, left, refused, service_with};
use crate::pipeline::on_both_stores;
use crate::support::git::{GitHost, Repository};
use crate::support::service::Backend;
use crate::support::watch;

/// A commit of objects that are made without a working tree: standard input in, a hash out.
fn object(repository: &Repository, arguments: &[&str], input: &[u8]) -> String {
    let folder = repository.git(&["rev-parse", "--absolute-git-dir"]);
    let mut command = Command::new("git");
    command.args(["--git-dir", &folder]).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("git is installed");
    child.stdin.take().expect("piped").write_all(input).expect("takes it");
    let mut hash = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut hash).expect("a hash");
    assert!(child.wait().expect("ends").success(), "git {arguments:?}");
    hash.trim().to_owned()
}

/// Bytes that do not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..bytes.div_ceil(8)).flat_map(|_| next()).take(bytes).collect()
}

on_both_stores!(
    bombs_stop_early,
    a_quota_bounds_what_is_fetched,
    a_server_that_hangs_is_given_up_and_others_do_not_wait_for_it,
    a_client_that_goes_away_ends_the_fetch,
);

async fn bombs_stop_early(backend: Backend) {
    let host = GitHost::start().await;
    let service = service_with(backend, |settings| {
        settings.max_upload = Some("2m".parse().expect("bytes"));
        settings.max_context = Some("4m".parse().expect("bytes"));
        settings.max_entries = Some(50);
    })
    .await;
    let with = |name: &str, path: &str, bytes: Vec<u8>| {
        let repository = host.repository(name);
        repository.commit_with(|work| {
            std::fs::write(work.join("Dockerfile"), DOCKERFILE).expect("written");
            std::fs::write(work.join(path), bytes).expect("written");
        });
        repository.url
    };
    refused(&service, from(&with("incompressible", "noise", noise(5 << 20))), 413, "git_too_large").await;
    refused(&service, from(&with("zeros", "zeros", vec![0; 32 << 20])), 413, "expanded_too_large").await;
    refused(&service, from(&with("larger", "zeros", vec![0; 3 << 20])), 413, "upload_too_large").await;
    let many: Vec<(String, &str)> = (0..60).map(|n| (format!("f{n}"), "x")).chain([("Dockerfile".into(), DOCKERFILE)]).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    let repository = host.repository("many");
    repository.commit(&many);
    refused(&service, from(&repository.url), 413, "too_many_entries").await;
    // Ten folders of ten folders of ten … : a few hundred bytes that name ten thousand million files.
    let bomb = host.repository("bomb");
    let mut hash = object(&bomb, &["hash-object", "-w", "--stdin"], b"x");
    let mut kind = "100644 blob";
    for _ in 0..10 {
        let entries: String = (0..10).map(|n| format!("{kind} {hash}\t{n}\n")).collect();
        hash = object(&bomb, &["mktree"], entries.as_bytes());
        kind = "040000 tree";
    }
    let commit = object(&bomb, &["-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", "-m", "x", &hash], b"");
    bomb.git(&["update-ref", "refs/heads/main", &commit]);
    let begun = Instant::now();
    refused(&service, from(&bomb.url), 413, "too_many_entries").await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

async fn a_quota_bounds_what_is_fetched(backend: Backend) {
    let host = GitHost::start().await;
    let service = service_with(backend, |_| {}).await;
    let repository = host.repository("app");
    repository.commit_with(|work| {
        std::fs::write(work.join("Dockerfile"), DOCKERFILE).expect("written");
        std::fs::write(work.join("noise"), noise(1 << 20)).expect("written");
    });
    let path = "/api/v1/users/ada";
    let token = service.user("ada").await;
    let quota = serde_json::json!({"quota": {"context_bytes": 100_000}});
    assert!(service.request(Method::PATCH, path).json(&quota).send().await.expect("an answer").status().is_success());
    let answer = service.request_as(&token, Method::POST, "/api/v1/builds").multipart(from(&repository.url)).send().await;
    let (status, problem) = {
        let answer = answer.expect("an answer");
        (answer.status().as_u16(), answer.json::<serde_json::Value>().await.expect("JSON"))
    };
    assert_eq!((status, problem["code"].as_str()), (413, Some("quota_exceeded")), "{problem}");
    assert_eq!(left(&service), [] as [String; 0]);
}

/// A server that takes connections and says nothing.
async fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/x.git", listener.local_addr().expect("an address"));
    (listener, url)
}

async fn a_server_that_hangs_is_given_up_and_others_do_not_wait_for_it(backend: Backend) {
    let (listener, url) = silent().await;
    let service = service_with(backend, |settings| {
        settings.git_timeout = Some("3s".parse().expect("a span"));
        settings.max_fetches = Some(2);
    })
    .await;
    let hung = service.request(Method::POST, "/api/v1/builds").multipart(from(&url)).send();
    let hung = tokio::spawn(hung);
    let (mut connection, _) = listener.accept().await.expect("a connection");
    // The share of one account is one of two.
    let busy = service.post(from(&url)).await;
    assert_eq!((busy.status().as_u16(), busy.headers().contains_key("retry-after")), (429, true));
    let host = GitHost::start().await;
    let repository = host.repository("app");
    repository.commit(&[("Dockerfile", DOCKERFILE)]);
    let token = service.user("bob").await;
    service.submit_as(&token, from(&repository.url)).await;
    let answer = hung.await.expect("no panic").expect("an answer");
    let problem: serde_json::Value = answer.json().await.expect("JSON");
    assert_eq!((&problem["status"], &problem["code"]), (&504.into(), &"git_timeout".into()), "{problem}");
    let mut asked = Vec::new();
    connection.read_to_end(&mut asked).await.expect("the other end is gone");
    assert!(left(&service).iter().all(|path| path.contains("contexts")), "{:?}", left(&service));
}

async fn a_client_that_goes_away_ends_the_fetch(backend: Backend) {
    let (listener, url) = silent().await;
    let service = service_with(backend, |_| {}).await;
    let asked = tokio::spawn(service.request(Method::POST, "/api/v1/builds").multipart(from(&url)).send());
    let (mut connection, _) = listener.accept().await.expect("a connection");
    assert_eq!(left(&service).len(), 1, "the folder that it works in");
    asked.abort();
    let gone = async { connection.read_to_end(&mut Vec::new()).await };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("its processes end").expect("the other end is gone");
    watch("the folder is removed", || left(&service).is_empty()).await;
}
