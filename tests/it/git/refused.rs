//! Addresses, references and repositories that are refused, each by its name; and where nothing was ever asked.

use std::os::unix::fs::symlink;

use super::{DOCKERFILE, from, refused, service};
use crate::pipeline::on_both_stores;
use crate::support::git::{GitHost, Manners};
use crate::support::process::Process;
use crate::support::service::{self as plain, Backend, context, tar};

on_both_stores!(
    whatever_is_no_address_of_a_repository,
    nobody_is_followed_inside,
    what_is_not_there,
    hosts_of_this_machines_surroundings,
);

async fn whatever_is_no_address_of_a_repository(backend: Backend) {
    let (host, service) = (GitHost::start().await, service(backend).await);
    let url = host.repository("app").url;
    let marker = service.config.data_dir.join("pwned");
    let touch = format!("touch {}", marker.display());
    for given in [
        "ext::sh -c 'touch%/tmp/x'",
        "file:///etc",
        "/etc",
        "ssh://git@h.example/a.git",
        "git@h.example:a.git",
        "git://h.example/a",
        "--upload-pack=touch",
        "-u",
        "",
        "https://u:p@h.example/a",
    ] {
        refused(&service, from(given), 400, "git_url").await;
    }
    for ending in [
        "#--upload-pack=X",
        "#-o",
        "#$(X)",
        "#`X`",
        "#;X",
        "#a b",
        "#main:../..",
        "#main:-x/../y",
        "?x=$(X)",
        ";X",
        "|X",
        "/$(X)",
    ] {
        refused(&service, from(&format!("{url}{}", ending.replace('X', &touch))), 400, "git_url").await;
    }
    assert_eq!(host.requests(), [] as [String; 0], "nobody was asked");
    assert!(!marker.exists());
    // Names that are odd, but names.
    for ending in ["#main;id", "#$IFS", "#a'b\"c", "#main:--all", "#main:$(id)", "#main:a;b"] {
        let problem = refused(&service, from(&format!("{url}{ending}")), 400, "git_ref_missing").await;
        assert!(problem["errors"][0]["field"] == "git", "{problem}");
    }
    let both = from(&url).part("context", reqwest::multipart::Part::bytes(tar(&[("Dockerfile", DOCKERFILE)])));
    refused(&service, both, 400, "source_repeated").await;
    let with_file = context(tar(&[("Dockerfile", DOCKERFILE)])).text("push", "false").text("git", "x");
    refused(&service, with_file, 400, "invalid_request").await;
    let problem = refused(&service, from(&url).text("memory", "x").text("label", "x"), 400, "invalid_option").await;
    assert_eq!(problem["errors"].as_array().map(Vec::len), Some(2), "{problem}");
}

async fn hosts_of_this_machines_surroundings(backend: Backend) {
    let host = GitHost::start().await;
    let port = host.address.port();
    let service = plain::start(backend).await;
    for name in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1", "0.0.0.0"] {
        for scheme in ["https", "http"] {
            refused(&service, from(&format!("{scheme}://{name}:{port}/app.git")), 400, "git_host_refused").await;
        }
    }
    refused(&service, from("http://1.1.1.1/app.git"), 400, "git_host_refused").await;
    refused(&service, from("https://nowhere.invalid/app.git"), 502, "git_unreachable").await;
    assert_eq!(host.requests(), [] as [String; 0]);
}

async fn nobody_is_followed_inside(backend: Backend) {
    // Not where the operator lets requests go.
    let inside = GitHost::start_on("127.0.0.2:0", Manners::default()).await;
    let target = inside.repository("secret");
    target.commit(&[("Dockerfile", DOCKERFILE)]);
    let service = service(backend).await;
    let manners = Manners { redirect: Some(format!("http://{}", inside.address)), ..Manners::default() };
    let sender = GitHost::start_on("127.0.0.1:0", manners).await;
    refused(&service, from(&sender.url("secret")), 400, "git_redirect").await;
    let host = GitHost::start().await;
    for (n, (url, code)) in [
        (target.url.as_str(), "git_host_refused"),
        ("file:///etc", "git_url"),
        ("/etc", "git_url"),
        ("git@127.0.0.2:x", "git_host_refused"),
        ("ssh://git@127.0.0.2/x", "git_host_refused"),
        ("git@h.example:22/../x", "git_url"),
        ("../../../../../x", "git_url"),
        ("..//x@127.0.0.2/x", "git_unsafe"),
        ("ext::sh -c id", "git_url"),
        ("--upload-pack=id", "git_unsafe"),
    ]
    .into_iter()
    .enumerate()
    {
        let repository = host.repository(&format!("app{n}"));
        repository
            .commit(&[("Dockerfile", DOCKERFILE), (".gitmodules", &format!("[submodule \"s\"]\n\tpath = s\n\turl = {url}\n"))]);
        repository.link("s", "0123456789abcdef0123456789abcdef01234567");
        repository.record("with a submodule");
        refused(&service, from(&repository.url), 400, code).await;
    }
    let without = host.repository("without");
    without.commit(&[("Dockerfile", DOCKERFILE)]);
    without.link("s", "0123456789abcdef0123456789abcdef01234567");
    without.record("a link that .gitmodules does not know");
    refused(&service, from(&without.url), 400, "git_submodule").await;
    let option = host.repository("option");
    option.commit(&[("Dockerfile", DOCKERFILE), (".gitmodules", "[submodule \"s\"]\n\tpath = -s\n\turl = ../option.git\n")]);
    refused(&service, from(&option.url), 400, "git_unsafe").await;
    assert_eq!(inside.requests(), [] as [String; 0], "nobody came here");
}

async fn what_is_not_there(backend: Backend) {
    let (host, service) = (GitHost::start().await, service(backend).await);
    let repository = host.repository("app");
    refused(&service, from(&repository.url), 400, "git_ref_missing").await;
    repository.commit_with(|work| {
        std::fs::create_dir_all(work.join("a/b")).expect("a folder");
        std::fs::write(work.join("a/b/Dockerfile"), DOCKERFILE).expect("written");
        symlink("a", work.join("link")).expect("a link");
        symlink("/etc/passwd", work.join("Dockerfile")).expect("a link");
    });
    let at = |fragment: &str| from(&format!("{}{fragment}", repository.url));
    let problem = refused(&service, at("#v9"), 400, "git_ref_missing").await;
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("\"v9\"")), "{problem}");
    refused(&service, at("#0123456789abcdef0123456789abcdef01234567"), 400, "git_ref_missing").await;
    for folder in ["c", "a/b/c", "link", "link/b", "Dockerfile", "a/b/Dockerfile"] {
        let problem = refused(&service, at(&format!("#main:{folder}")), 400, "git_subdir_missing").await;
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(folder)), "{problem}");
    }
    refused(&service, at(""), 400, "dockerfile_is_link").await;
    refused(&service, at("#main:a"), 400, "dockerfile_missing").await;
    refused(&service, from(&host.url("other")), 400, "git_not_found").await;
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    refused(&service, from(&format!("http://{closed}/x.git")), 502, "git_unreachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_git_says_what_to_install() {
    let data = tempfile::tempdir().expect("a folder");
    let args = ["serve", "--listen", "127.0.0.1:0", "--allow-egress", "127.0.0.1"];
    let mut process = Process::start_with(&args, data.path(), &[("PATH", "/nonexistent")]);
    let address = process.address();
    let token = std::fs::read_to_string(data.path().join("admin-token")).expect("a token");
    let request = crate::support::http().post(format!("http://{address}/api/v1/builds")).bearer_auth(token.trim());
    let answer = request.multipart(from("http://127.0.0.1:9/x.git")).send().await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.headers().contains_key("retry-after")), (503, true));
    let problem: serde_json::Value = answer.json().await.expect("JSON");
    assert_eq!(problem["code"], "git_missing");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("apt-get install git")), "{problem}");
}
