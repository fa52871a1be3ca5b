//! What of a repository becomes the context.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::{Value, json};

use super::{DOCKERFILE, from, refused, service};
use crate::pipeline::on_both_stores;
use crate::support::git::{GitHost, Manners};
use crate::support::service::{Backend, Running, id};

/// The entries of the context that was kept: `MODE TIME` and the text, or where a link points.
fn kept(service: &Running, build: &Value) -> BTreeMap<String, (String, String)> {
    let file = std::fs::File::open(service.config.data_dir.join("contexts").join(id(build))).expect("the kept context");
    let mut archive = tar::Archive::new(file);
    let entries = archive.entries().expect("a tar").map(|entry| {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        let header = entry.header();
        let facts = format!("{:o} {}", header.mode().expect("a mode"), header.mtime().expect("a time"));
        let link = entry.link_name().expect("a target").map(|target| format!("-> {}", target.display()));
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).expect("text");
        (path, (facts, link.unwrap_or(text)))
    });
    entries.collect()
}

fn paths(service: &Running, build: &Value) -> Vec<String> {
    kept(service, build).into_keys().collect()
}

on_both_stores!(
    a_branch_a_tag_a_commit_and_a_folder,
    modes_links_and_times_are_those_of_the_commit,
    submodules_come_along,
    an_old_server_gives_commits_that_have_a_name,
);

async fn a_branch_a_tag_a_commit_and_a_folder(backend: Backend) {
    let (host, service) = (GitHost::start().await, service(backend).await);
    let repository = host.repository("team/app");
    let first = repository.commit(&[("Dockerfile", DOCKERFILE), ("version", "1"), ("api/Dockerfile", "FROM busybox\n")]);
    repository.git(&["tag", "-a", "v1", "-m", "one"]);
    repository.git(&["branch", "feature/x"]);
    let second = repository.commit(&[("Dockerfile", DOCKERFILE), ("version", "2"), ("api/Dockerfile", "FROM busybox\n")]);
    let url = &repository.url;
    for (fragment, commit, reference) in [
        ("", &second, Value::Null),
        ("#main", &second, "main".into()),
        ("#refs/heads/main", &second, "refs/heads/main".into()),
        ("#v1", &first, "v1".into()),
        ("#feature/x", &first, "feature/x".into()),
        (&*format!("#{first}"), &first, first.as_str().into()),
    ] {
        let build = service.submit(from(&format!("{url}{fragment}"))).await;
        let git =
            json!({"url": url, "ref": reference, "commit": commit, "subdir": null, "committed_at": "2024-05-06T07:08:09.000Z"});
        assert_eq!((&build["context"]["git"], &build["context"]["kind"]), (&git, &"tar".into()), "{build}");
        assert_eq!(build["context"]["files"], 3, "nothing of .git: {build}");
        assert_eq!(kept(&service, &build)["version"].1, if commit == &first { "1" } else { "2" });
        assert_eq!(build["options"]["project"], url.strip_suffix(".git").expect("a suffix"));
    }
    for fragment in ["#main:api", "#main:/api/", "#:api"] {
        let build = service.submit(from(&format!("{url}{fragment}"))).await;
        assert_eq!((&build["context"]["git"]["subdir"], paths(&service, &build)), (&"api".into(), vec!["Dockerfile".into()]));
    }
    let named = service.submit(from(url).text("dockerfile", "api/Dockerfile").text("project", "mine")).await;
    let dockerfile = service.text(&format!("/api/v1/builds/{}/dockerfile", id(&named))).await;
    assert_eq!((&*dockerfile, &named["options"]["project"]), ("FROM busybox\n", &"mine".into()));
    let replaced = from(url).part("file", reqwest::multipart::Part::text("FROM scratch\nCOPY version /\n"));
    let replaced = service.submit(replaced).await;
    assert_eq!(service.text(&format!("/api/v1/builds/{}/dockerfile", id(&replaced))).await, "FROM scratch\nCOPY version /\n");
}

async fn modes_links_and_times_are_those_of_the_commit(backend: Backend) {
    let (host, service) = (GitHost::start().await, service(backend).await);
    let repository = host.repository("modes");
    repository.commit_with(|work| {
        std::fs::write(work.join("Dockerfile"), DOCKERFILE).expect("written");
        std::fs::create_dir(work.join("bin")).expect("a folder");
        std::fs::write(work.join("bin/run"), "#!/bin/sh\n").expect("written");
        std::fs::set_permissions(work.join("bin/run"), std::fs::Permissions::from_mode(0o755)).expect("a mode");
        symlink("/etc/passwd", work.join("bin/users")).expect("a link");
        std::fs::write(work.join("äöü "), "x").expect("written");
        // What would change or leave out files wherever git checks out or packs.
        std::fs::write(work.join(".gitattributes"), "* export-ignore filter=evil text eol=crlf\n").expect("written");
    });
    let build = service.submit(from(&repository.url)).await;
    let entries = kept(&service, &build);
    let entry = |path: &str| (entries[path].0.as_str(), entries[path].1.as_str());
    assert_eq!(entry("bin/"), ("755 1714979289", ""));
    assert_eq!(entry("bin/run"), ("755 1714979289", "#!/bin/sh\n"));
    assert_eq!(entry("bin/users"), ("777 1714979289", "-> /etc/passwd"));
    assert_eq!((entry("Dockerfile").0, entry("äöü ").1), ("644 1714979289", "x"));
    assert_eq!(entries.len(), 6);
    let again = service.submit(from(&repository.url)).await;
    assert_eq!(again["context"]["sha256"], build["context"]["sha256"], "the same commit is the same context");
}

async fn submodules_come_along(backend: Backend) {
    let (host, service) = (GitHost::start().await, service(backend).await);
    let [inner, lib, app] = ["deep/inner", "lib", "team/app"].map(|name| host.repository(name));
    let inner_commit = inner.commit(&[("inner.txt", "inner")]);
    lib.commit(&[("lib.txt", "lib"), (".gitmodules", "[submodule \"i\"]\n\tpath = third party/i\n\turl = ../deep/inner.git\n")]);
    lib.link("third party/i", &inner_commit);
    let lib_commit = lib.record("with a submodule");
    // What is no longer the newest is fetched all the same.
    lib.commit(&[("lib.txt", "newer")]);
    let modules = format!("[submodule \"a.b\"]\n\tpath = api/lib\n\turl = {}\n", lib.url);
    app.commit(&[("Dockerfile", DOCKERFILE), ("api/Dockerfile", DOCKERFILE), (".gitmodules", &modules)]);
    app.link("api/lib", &lib_commit);
    app.record("with a submodule");
    let build = service.submit(from(&app.url)).await;
    let all = [
        ".gitmodules",
        "Dockerfile",
        "api/",
        "api/Dockerfile",
        "api/lib/",
        "api/lib/.gitmodules",
        "api/lib/lib.txt",
        "api/lib/third party/",
        "api/lib/third party/i/",
        "api/lib/third party/i/inner.txt",
    ];
    assert_eq!(paths(&service, &build), all);
    assert_eq!(kept(&service, &build)["api/lib/lib.txt"].1, "lib");
    let build = service.submit(from(&format!("{}#main:api", app.url))).await;
    assert_eq!(kept(&service, &build)["lib/third party/i/inner.txt"].1, "inner", "also below a folder");
}

async fn an_old_server_gives_commits_that_have_a_name(backend: Backend) {
    let manners = Manners { old: true, ..Manners::default() };
    let (host, service) = (GitHost::start_on("127.0.0.1:0", manners).await, service(backend).await);
    let repository = host.repository("old");
    let first = repository.commit(&[("Dockerfile", DOCKERFILE), ("version", "1")]);
    repository.commit(&[("Dockerfile", DOCKERFILE), ("version", "2")]);
    let nowhere = "0123456789abcdef0123456789abcdef01234567";
    refused(&service, from(&format!("{}#{nowhere}", repository.url)), 400, "git_ref_missing").await;
    let build = service.submit(from(&format!("{}#{first}", repository.url))).await;
    assert_eq!((&build["context"]["git"]["commit"], &*kept(&service, &build)["version"].1), (&first.as_str().into(), "1"));
}
