//! Where the real parts are. Each answers or the test fails and says how to start it.

pub mod client;
pub mod cluster;
pub mod container;
pub mod engine;
pub mod gate;
pub mod git;
pub mod harbor;
pub mod installed;
pub mod process;
pub mod redis;
pub mod service;
pub mod watch;

use std::net::TcpStream;
use std::sync::LazyLock;

pub use watch::{seen, watch};

/// A client for this machine's plain HTTP, which reads no certificates. Each request has a connection of its own.
pub fn http() -> reqwest::Client {
    static HTTP: LazyLock<reqwest::Client> = LazyLock::new(|| {
        let client = reqwest::Client::builder().tls_certs_only([]).pool_max_idle_per_host(0);
        client.build().expect("builds")
    });
    HTTP.clone()
}

fn var(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn must_listen(address: &str, what: &str) {
    TcpStream::connect(address)
        .unwrap_or_else(|e| panic!("{what} does not answer on {address} ({e}); start it with: scripts/services up"));
}

/// `host:port` of a registry without a password.
pub fn registry() -> String {
    let address = var("DOCKWRIGHT_TEST_REGISTRY", "127.0.0.1:5000");
    must_listen(&address, "the registry");
    address
}

/// `host:port`, user name and password of a registry that asks for them.
pub fn private_registry() -> (String, String, String) {
    let address = var("DOCKWRIGHT_TEST_PRIVATE_REGISTRY", "127.0.0.1:5001");
    must_listen(&address, "the registry with a password");
    let user = var("DOCKWRIGHT_TEST_PRIVATE_REGISTRY_USER", "robot");
    // `?`, `>` and `~` make a base64 form with `+` and `/`, which a faulty client sends wrongly.
    (address, user, var("DOCKWRIGHT_TEST_PRIVATE_REGISTRY_PASSWORD", "pass?>~?>~word"))
}

/// URL of a Redis server with AOF on. Tests keep apart by a key prefix of their own.
pub fn redis_url() -> String {
    let address = var("DOCKWRIGHT_TEST_REDIS", "127.0.0.1:6390");
    must_listen(&address, "Redis");
    format!("redis://{address}/")
}

/// A name that no other test uses, fit for a repository, an owner or a key prefix.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{}", uuid::Uuid::new_v4().simple())
}

/// A Dockerfile whose steps no other build shares: what the engine runs once for two builds it tells the second one in part.
pub fn own(steps: &str) -> String {
    format!("FROM busybox\nENV own={}\n{steps}", unique("step"))
}

/// An image of its own at the registry, and no longer on the engine.
pub fn published_image(name: &str) -> String {
    let image = format!("{}/{}:1", registry(), unique(name));
    let dockerfile = format!("FROM busybox\nRUN echo {image} >/made-of\n");
    let docker = |args: &[&str], input: &str| {
        use std::io::Write;
        let mut child = std::process::Command::new("docker")
            .args(args)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the docker client");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("takes it");
        assert!(child.wait().expect("ends").success(), "docker {args:?}");
    };
    docker(&["build", "-t", &image, "-"], &dockerfile);
    docker(&["push", &image], "");
    docker(&["rmi", &image], "");
    image
}
