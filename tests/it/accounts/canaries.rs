//! What must be secret is found nowhere, and what is sealed for one owner does not open for another.

use dockwright::config::Settings;
use dockwright::domain::{Owner, Replay, Scope, StoredRegistry};
use dockwright::store::objects::{Expect, Kind, Write};
use redis::{Commands, Connection};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::people::{quiet, send};
use super::recorder::Recorder;
use crate::credentials::{assert_not_in_folder, assert_nowhere, forms, login};
use crate::support::harbor::Swept;
use crate::support::process::Process;
use crate::support::redis::RedisServer;
use crate::support::service::{Backend, Running, docker, dockerfile, id};
use crate::support::{private_registry, unique};

/// A service as a process, spoken to as anybody.
struct Spoken {
    base: String,
    http: reqwest::Client,
}

impl Spoken {
    fn to(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    async fn done(&self, request: RequestBuilder) -> Value {
        let (status, told) = send(request).await;
        assert!(status.is_success(), "{status} {told}");
        told
    }
}

/// Everything that is in a Redis, as it is read.
pub fn everything(redis: &str) -> Vec<u8> {
    let mut link: Connection = redis::Client::open(redis).expect("a URL").get_connection().expect("Redis answers");
    let keys: Vec<String> = link.scan().expect("keys").filter_map(Result::ok).collect();
    assert!(keys.len() > 10, "{keys:?}");
    let mut all = Vec::new();
    for key in keys {
        let kind: String = redis::cmd("TYPE").arg(&key).query(&mut link).expect("a type");
        let value: Result<redis::Value, _> = match &*kind {
            "string" => link.get(&key),
            "hash" => link.hgetall(&key),
            "list" => link.lrange(&key, 0, -1),
            "set" => link.smembers(&key),
            "zset" => link.zrange_withscores(&key, 0, -1),
            "stream" => link.xrange_all(&key),
            other => panic!("{key} is a {other}"),
        };
        flatten(&value.expect("a value"), &mut all);
        all.extend_from_slice(key.as_bytes());
    }
    all
}

fn flatten(value: &redis::Value, all: &mut Vec<u8>) {
    match value {
        redis::Value::BulkString(bytes) => all.extend_from_slice(bytes),
        redis::Value::Array(values) | redis::Value::Set(values) => values.iter().for_each(|value| flatten(value, all)),
        redis::Value::Map(pairs) => pairs.iter().for_each(|(key, value)| {
            flatten(key, all);
            flatten(value, all);
        }),
        other => all.extend_from_slice(format!("{other:?}").as_bytes()),
    }
    all.push(b'\n');
}

/// Does all that a secret takes part in; answers every form in which the secrets could lie somewhere.
async fn use_secrets(api: &Spoken, admin: &str) -> Vec<String> {
    let (host, user, right) = private_registry();
    let [password, wrong, kept, own] = ["Account", "Guess", "Kept", "Own"].map(unique);
    api.done(api.to(Method::POST, "/api/v1/users").bearer_auth(admin).json(&json!({"name": "ada", "password": password}))).await;
    let log_in =
        |password: &str| api.to(Method::POST, "/api/v1/session").json(&json!({"name": "ada", "password": password})).send();
    assert_eq!(log_in(&wrong).await.expect("an answer").status(), StatusCode::UNAUTHORIZED);
    let cookie = log_in(&password).await.expect("an answer").headers()["set-cookie"].to_str().expect("text").to_owned();
    let cookie = cookie.split(';').next().expect("a cookie");
    let mut token = String::new();
    for _ in 0..2 {
        let made = api.to(Method::POST, "/api/v1/tokens").header("cookie", cookie).header("origin", &api.base);
        let made = api.done(made.header("idempotency-key", "one token").json(&json!({"name": "ci"}))).await;
        token = made["token"].as_str().expect("a token").to_owned();
    }
    api.done(api.to(Method::GET, "/api/v1/me").basic_auth("ada", Some(&password))).await;
    for (name, password) in [("right", &right), ("wrong", &kept)] {
        let form = json!({"server": host, "username": user, "password": password});
        api.done(api.to(Method::PUT, &format!("/api/v1/registries/{name}")).bearer_auth(&token).json(&form)).await;
        let checked = api.done(api.to(Method::POST, &format!("/api/v1/registries/{name}/check")).bearer_auth(&token)).await;
        assert_eq!(checked["ok"], name == "right", "{checked}");
    }
    let hooks = use_webhooks(api, &token).await;
    let form = || dockerfile("FROM busybox\n").text("image", format!("{host}/{}:1", unique("canary")));
    for (form, state) in [
        (form().text("registry", "right"), "published"),
        (form().text("registry", "wrong"), "failed"),
        (login(form(), &user, &own), "failed"),
    ] {
        let sent = api.to(Method::POST, "/api/v1/builds").bearer_auth(&token).header("idempotency-key", unique("key"));
        let build = api.done(sent.multipart(form)).await;
        let ended = format!("/api/v1/builds/{}?wait=60", id(&build));
        let ended = api.done(api.to(Method::GET, &ended).bearer_auth(&token)).await;
        assert_eq!(ended["state"], state, "{ended}");
    }
    let cookie = cookie.split_once('=').expect("a value").1.to_owned();
    let variables = use_variables(api, &token).await;
    let mut secrets = vec![
        (&user, &right),
        (&user, &kept),
        (&user, &own),
        (&token, &token),
        (&user, &password),
        (&user, &wrong),
        (&user, &cookie),
    ];
    secrets.extend(hooks.iter().chain(&variables).map(|variable| (&user, variable)));
    secrets.into_iter().flat_map(|(user, secret)| forms(user, secret)).collect()
}

/// A webhook with a secret of one's own, and one with a secret that is made for it; the builds to come are told to both, in vain.
async fn use_webhooks(api: &Spoken, token: &str) -> [String; 2] {
    let own = unique("Hook");
    let make = async |form: Value| {
        let made = api.to(Method::POST, "/api/v1/webhooks").bearer_auth(token).header("idempotency-key", unique("key"));
        api.done(made.json(&form)).await
    };
    let given = make(json!({"url": "http://127.0.0.8:1/", "secret": own})).await;
    api.done(api.to(Method::POST, &format!("/api/v1/webhooks/{}/test", id(&given))).bearer_auth(token)).await;
    let made = make(json!({"url": "http://127.0.0.8:1/"})).await;
    [own, made["secret"].as_str().expect("shown once").to_owned()]
}

/// Secret variables on every way into a container: of an app, changed, run, run once, and sent as a form.
async fn use_variables(api: &Spoken, token: &str) -> Vec<String> {
    let values: Vec<String> = ["First", "Second", "Once", "Built"].map(unique).into();
    let fields =
        |value: &str| json!({"image": "busybox", "command": ["true"], "network": "none", "env": {"KEY": {"secret": value}}});
    let to = |method: Method, path: &str| api.to(method, path).bearer_auth(token).header("idempotency-key", unique("key"));
    let mut app = fields(&values[0]);
    app["name"] = "one".into();
    api.done(to(Method::POST, "/api/v1/apps").json(&app)).await;
    let mut runs = vec![api.done(to(Method::POST, "/api/v1/apps/one/runs")).await];
    api.done(to(Method::PATCH, "/api/v1/apps/one").json(&json!({"env": {"KEY": {"secret": values[1]}}}))).await;
    runs.push(api.done(to(Method::POST, "/api/v1/apps/one/runs")).await);
    runs.push(api.done(to(Method::POST, "/api/v1/containers").json(&fields(&values[2]))).await);
    let form = dockerfile("FROM busybox\nCMD true\n").text("env", json!({"KEY": {"secret": values[3]}}).to_string());
    runs.push(api.done(to(Method::POST, "/api/v1/containers").multipart(form.text("network", "none"))).await);
    // A fault beside it does not tell it either.
    let mut faulty = fields(&values[2]);
    faulty["privileged"] = true.into();
    let (status, told) = send(to(Method::POST, "/api/v1/containers").json(&faulty)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let mut all = told.to_string();
    for (run, value) in runs.iter().zip([&values[0], &values[1], &values[2], &values[3]]) {
        let run = api.done(to(Method::GET, &format!("/api/v1/runs/{}?wait=60", id(run)))).await;
        assert_eq!((&run["state"], &run["exit_code"]), (&"exited".into(), &0.into()), "{run}");
        let container = run["container"].as_str().expect("a container");
        let env = docker(&["inspect", "-f", "{{.Config.Env}}", container]);
        assert!(env.contains(&format!("KEY={value}")), "it is really there");
        for path in [format!("/api/v1/containers/{container}"), format!("/api/v1/runs/{}/logs", id(&run))] {
            all.push_str(&api.done(to(Method::GET, &path)).await.to_string());
        }
    }
    for list in ["apps", "runs", "containers", "apps/one"] {
        all.push_str(&api.done(to(Method::GET, &format!("/api/v1/{list}"))).await.to_string());
    }
    for value in &values {
        assert!(!all.contains(value.as_str()), "{value} is told: {all}");
    }
    values
}

async fn leaves_no_trace(store: &[&str], redis: Option<&RedisServer>) {
    let data = tempfile::tempdir().expect("a folder");
    let mut args =
        vec!["serve", "--listen", "127.0.0.1:0", "--log-level", "trace", "--keep-hot-log", "1h", "--allow-egress", "127.0.0.8"];
    args.extend(store);
    let settings = Settings { data_dir: Some(data.path().to_owned()), store: redis.map(RedisServer::url), ..Settings::default() };
    let _swept = Swept::of(settings).await;
    let mut process = Process::start(&args, data.path());
    let address = tokio::task::block_in_place(|| process.address());
    let admin = std::fs::read_to_string(data.path().join("admin-token")).expect("a token").trim().to_owned();
    let api = Spoken { base: format!("http://{address}"), http: crate::support::http() };
    let all = use_secrets(&api, &admin).await;
    for path in
        ["/api/v1/audit?limit=200", "/api/v1/users", "/api/v1/tokens", "/api/v1/registries", "/api/v1/webhooks", "/api/v1/builds"]
    {
        let told = api.done(api.to(Method::GET, path).bearer_auth(&admin)).await;
        assert_nowhere(&all, told.to_string().as_bytes(), path);
    }
    assert!(assert_not_in_folder(&all, data.path()) > 1);
    if let Some(redis) = redis {
        assert_nowhere(&all, &everything(&redis.url()), "a key of Redis");
        // Its append-only file has every write that there ever was.
        assert!(assert_not_in_folder(&all, redis.dir()) > 1);
    }
    let log = process.ended_log();
    assert!(log.lines().count() > 50, "a log that tells everything");
    assert_nowhere(&all, log.as_bytes(), "the service's log");
    // Now that nothing is left in its journal.
    assert_not_in_folder(&all, data.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_leave_no_secret_anywhere_with_the_embedded_store() {
    leaves_no_trace(&[], None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_leave_no_secret_anywhere_with_redis() {
    let redis = RedisServer::start().await;
    leaves_no_trace(&["--store", &redis.url()], Some(&redis)).await;
}

/// Whoever can write into the store puts one owner's sealed credentials into another's row.
async fn moved_rows_do_not_open(backend: Backend) {
    let service = quiet(backend).await;
    let (ada, bob) = (service.user("ada").await, service.user("bob").await);
    let registry = Recorder::start("127.0.0.1", |_| "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into()).await;
    let put = async |token: &str, name: &str, password: &str| {
        let form = json!({"server": registry.host(), "username": "robot", "password": password});
        let put = service.request_as(token, Method::PUT, &format!("/api/v1/registries/{name}")).json(&form);
        assert_eq!(send(put).await.0, StatusCode::CREATED);
    };
    put(&ada, "hers", "her password").await;
    put(&ada, "other", "her other password").await;
    put(&bob, "hers", "his password").await;
    let owners: [Owner; 2] = ["ada", "bob"].map(|name| name.parse().expect("a name"));
    let stored = service.store.object::<StoredRegistry>(&Scope::All, Kind::Registry, "ada/hers").await;
    let hers = stored.expect("the store").expect("her registry").body;
    // As it is, and made to look like his; under another name of her own, too.
    let made_his = StoredRegistry { owner: owners[1].clone(), ..hers.clone() };
    let renamed = StoredRegistry { name: "other".into(), ..hers.clone() };
    for (id, owner, token, body) in [
        ("bob/hers", &owners[1], &bob, &hers),
        ("bob/hers", &owners[1], &bob, &made_his),
        ("ada/other", &owners[0], &ada, &renamed),
    ] {
        service.store.commit(&[Write::put(Kind::Registry, id, owner, Expect::Anything, body)]).await.expect("written");
        let name = id.split_once('/').expect("a name").1;
        let check = service.request_as(token, Method::POST, &format!("/api/v1/registries/{name}/check"));
        let (status, told) = send(check).await;
        assert_eq!((status.as_u16(), &told["code"]), (500, &"internal".into()), "{told}");
        let form = dockerfile("FROM busybox\n").text("image", format!("{}/x", registry.host())).text("registry", name.to_owned());
        let sent = service.request_as(token, Method::POST, "/api/v1/builds").multipart(form);
        assert_eq!(send(sent).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    }
    assert_eq!(registry.requests(), Vec::<String>::new(), "nothing was sent");
    let whole = service.request_as(&ada, Method::POST, "/api/v1/registries/hers/check");
    assert_eq!(send(whole).await.1["ok"], true, "hers is as it was");
    moved_answers_do_not_open(&service, &owners, &ada, &bob).await;
}

/// A kept answer may show a token: it is its owner's too.
async fn moved_answers_do_not_open(service: &Running, owners: &[Owner; 2], ada: &str, bob: &str) {
    let make = |token: &str| {
        let make = service.request_as(token, Method::POST, "/api/v1/tokens").header("idempotency-key", "same");
        send(make.json(&json!({"name": "ci"})))
    };
    let hers = make(ada).await.1;
    assert!(make(bob).await.0.is_success());
    let kept = async |owner: &Owner| service.store.all_objects::<Replay>(&Scope::Owner(owner.clone()), Kind::Replay).await;
    let mut found = kept(&owners[0]).await.expect("the store");
    let from = found.pop().expect("an answer");
    let to = kept(&owners[1]).await.expect("the store").pop().expect("an answer");
    service.store.commit(&[Write::put(Kind::Replay, to.id, &owners[1], Expect::Anything, &from.body)]).await.expect("written");
    let (status, told) = make(bob).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!told.to_string().contains(hers["token"].as_str().expect("a token")), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn moved_rows_do_not_open_with_the_embedded_store() {
    moved_rows_do_not_open(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moved_rows_do_not_open_with_redis() {
    moved_rows_do_not_open(Backend::Redis).await;
}
