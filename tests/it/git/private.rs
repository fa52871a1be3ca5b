//! Private repositories: credentials that the owner keeps, for their own host, and found nowhere.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use super::{DOCKERFILE, from};
use crate::credentials::{assert_not_in_folder, assert_nowhere, forms};
use crate::support::git::{GitHost, Manners};
use crate::support::process::Process;
use crate::support::redis::RedisServer;
use crate::support::unique;

const USER: &str = "robot";

/// A service as a process that logs everything.
struct Api {
    base: String,
    token: String,
}

impl Api {
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Value {
        let request = crate::support::http().request(method, format!("http://{}{path}", self.base)).bearer_auth(&self.token);
        let answer = body(request).send().await.expect("an answer");
        let text = answer.text().await.expect("text");
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }

    async fn build(&self, url: &str, registry: &str) -> Value {
        self.send(Method::POST, "/api/v1/builds", |request| request.multipart(from(url).text("registry", registry.to_owned())))
            .await
    }

    async fn keep(&self, name: &str, server: &str, password: &str) {
        let body = json!({"server": server, "username": USER, "password": password});
        let kept = self.send(Method::PUT, &format!("/api/v1/registries/{name}"), |request| request.json(&body)).await;
        assert_eq!(kept["server"], server, "{kept}");
    }
}

async fn leaves_no_trace(store: &[&str], redis_dir: Option<&Path>) {
    let [password, wrong] = ["Right", "Wrong"].map(unique);
    let manners = Manners { login: Some((USER.into(), password.clone())), ..Manners::default() };
    let private = GitHost::start_on("127.0.0.1:0", manners).await;
    let elsewhere = GitHost::start().await;
    let lib = elsewhere.repository("lib");
    let lib_commit = lib.commit(&[("lib.txt", "lib")]);
    let app = private.repository("app");
    app.commit(&[
        ("Dockerfile", DOCKERFILE),
        (".gitmodules", &format!("[submodule \"l\"]\n\tpath = lib\n\turl = {}\n", lib.url)),
    ]);
    app.link("lib", &lib_commit);
    app.record("with a submodule of another host");

    let data = tempfile::tempdir().expect("a folder");
    let common = ["serve", "--listen", "127.0.0.1:0", "--log-level", "trace", "--allow-egress", "127.0.0.1"];
    let mut process = Process::start(&[&common, store].concat(), data.path());
    let base = process.address();
    let token = std::fs::read_to_string(data.path().join("admin-token")).expect("a token").trim().to_owned();
    let api = Api { base, token };
    api.keep("right", &private.address.to_string(), &password).await;
    api.keep("wrong", &private.address.to_string(), &wrong).await;
    api.keep("other", &elsewhere.address.to_string(), &wrong).await;
    let mut all = forms(USER, &password);
    all.extend(forms(USER, &wrong));

    let mut told = Vec::new();
    for registry in ["wrong", "other"] {
        let problem = api.build(&app.url, registry).await;
        assert_eq!((&problem["status"], &problem["code"]), (&400.into(), &"git_authentication".into()), "{problem}");
        told.push(problem.to_string());
    }
    assert!(
        told[1].contains("asks for credentials") && told[1].contains(&private.address.to_string()),
        "says what to do: {told:?}"
    );
    assert!(private.requests().iter().all(|request| !request.contains(&forms(USER, &password)[4])), "shown to nobody yet");
    let url = app.url.replace("http://", &format!("http://{USER}:{wrong}@"));
    told.push(api.build(&url, "right").await.to_string());
    assert!(told[2].contains("\"git_url\"") && told[2].contains("/api/v1/registries/"), "{told:?}");

    let build = api.build(&app.url, "right").await;
    assert_eq!((&build["context"]["git"]["url"], &build["context"]["files"]), (&app.url.as_str().into(), &3.into()), "{build}");
    let one = format!("/api/v1/builds/{}", build["id"].as_str().expect("an id"));
    told.push(api.send(Method::GET, &format!("{one}?wait=60"), |request| request).await.to_string());
    told.push(api.send(Method::GET, &format!("{one}/logs"), |request| request).await.to_string());
    told.push(build.to_string());
    assert_nowhere(&all, told.concat().as_bytes(), "an answer");
    assert!(elsewhere.requests().iter().any(|request| request.starts_with("GET /lib.git")), "the submodule was fetched");
    assert_nowhere(&all, elsewhere.requests().concat().as_bytes(), "what another host was shown");
    let commands = private.commands();
    assert!(commands.windows(10).any(|words| words == b"git\0fetch\0"), "the fetch was seen among the programs");
    assert_nowhere(&all, &commands, "the arguments of a program");
    assert!(assert_not_in_folder(&all, data.path()) > 1);
    if let Some(dir) = redis_dir {
        assert!(assert_not_in_folder(&all, dir) > 1);
    }
    assert_nowhere(&all, process.ended_log().as_bytes(), "the service's log");
    crate::support::service::docker(&["rmi", &format!("dockwright.local/build:{}", build["id"].as_str().expect("an id"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repositorys_password_is_found_nowhere_with_the_embedded_store() {
    leaves_no_trace(&[], None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repositorys_password_is_found_nowhere_with_redis() {
    let redis = RedisServer::start().await;
    leaves_no_trace(&["--store", &redis.url()], Some(redis.dir())).await;
}
