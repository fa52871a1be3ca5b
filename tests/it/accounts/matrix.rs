//! Every route of the contract × who calls. The routes are read from the running service, so that none can be forgotten.

use std::sync::LazyLock;

use dockwright::domain::{Owner, Permission, Permissions, Role};
use dockwright::http::access::{Need, RULES, Rule};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::people::{PASSWORD, log_in, nobody, past, person, queued, quiet, send, token, with_password, without};
use crate::support::harbor::harbor;
use crate::support::service::{Backend, Running, dockerfile};
use crate::support::{published_image, seen, unique};

/// What stands in a path's braces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Object {
    /// The path names none.
    None,
    Build,
    Manifest,
    EndedBuild,
    Registry,
    Webhook,
    Delivery,
    Token,
    User,
    App,
    Run,
    Container,
    Volume,
    Network,
    Image,
}

/// What is sent along.
enum Body {
    Empty,
    Json(Value),
    Upload(&'static str),
}

/// How a route is called so that its owner succeeds. A route that is not here fails the test.
fn case(rule: &Rule) -> (Object, Body) {
    let upload = |field| Body::Upload(field);
    match (rule.method, rule.path) {
        (
            _,
            "/api/v1/builds/{id}"
            | "/api/v1/builds/{id}/dockerfile"
            | "/api/v1/builds/{id}/logs"
            | "/api/v1/builds/{id}/steps"
            | "/api/v1/builds/{id}/cancel",
        ) => (Object::Build, Body::Empty),
        ("POST", "/api/v1/builds/{id}/retry") => (Object::EndedBuild, Body::Empty),
        ("POST", "/api/v1/builds") => (Object::None, upload("image")),
        ("POST", "/api/v1/contexts") => (Object::None, Body::Empty),
        (_, "/api/v1/contexts/{id}" | "/api/v1/contexts/{id}/blobs") => (Object::Manifest, Body::Empty),
        ("POST", "/api/dockerfile-build/") => (Object::None, upload("docker_repo")),
        (_, "/api/dockerfile-build/") => (Object::Build, Body::Empty),
        ("PUT", "/api/v1/registries/{name}") => {
            (Object::None, Body::Json(json!({"server": "127.0.0.1:1", "username": "u", "password": "p"})))
        }
        (_, "/api/v1/registries/{name}" | "/api/v1/registries/{name}/check") => (Object::Registry, Body::Empty),
        ("PUT", "/api/v1/retention") => (Object::None, Body::Json(json!({"project": "shop", "keep_builds": 9}))),
        ("DELETE", "/api/v1/retention" | "/api/v1/builds") => (Object::None, Body::Empty),
        ("POST", "/api/v1/webhooks") => (Object::None, Body::Json(json!({"url": HOOK}))),
        ("PATCH", "/api/v1/webhooks/{id}") => (Object::Webhook, Body::Json(json!({"enabled": true}))),
        ("POST", "/api/v1/webhooks/{id}/deliveries/{delivery}/redeliver") => (Object::Delivery, Body::Empty),
        (_, path) if path.starts_with("/api/v1/webhooks/{id}") => (Object::Webhook, Body::Empty),
        ("DELETE", "/api/v1/tokens/{id}") => (Object::Token, Body::Empty),
        ("POST", "/api/v1/tokens") => (Object::None, Body::Json(json!({"name": "made", "expires_in": "90d"}))),
        ("POST", "/api/v1/users") => (Object::None, Body::Json(json!({"name": unique("made")}))),
        ("PATCH", "/api/v1/users/{name}") => (Object::User, Body::Json(json!({"disabled": true}))),
        (_, "/api/v1/users/{name}") => (Object::User, Body::Empty),
        ("POST", "/api/v1/session") => (Object::None, Body::Json(json!({"name": "known", "password": PASSWORD}))),
        ("PUT", "/api/v1/me/password") => (Object::None, Body::Json(json!({"new_password": PASSWORD}))),
        ("POST", "/api/v1/apps") => (Object::None, Body::Json(named(sleeper()))),
        ("PUT" | "PATCH", "/api/v1/apps/{app}") => (Object::App, Body::Json(sleeper())),
        (_, "/api/v1/apps/{app}" | "/api/v1/apps/{app}/runs") => (Object::App, Body::Empty),
        ("POST", "/api/v1/containers") => (Object::None, Body::Json(sleeper())),
        (_, path) if path.starts_with("/api/v1/runs/{run}") => (Object::Run, Body::Empty),
        (_, path) if path.starts_with("/api/v1/containers/{container}") => (Object::Container, Body::Empty),
        ("POST", "/api/v1/volumes" | "/api/v1/networks") => (Object::None, Body::Json(json!({"name": unique("made")}))),
        (_, "/api/v1/volumes/{volume}") => (Object::Volume, Body::Empty),
        (_, "/api/v1/networks/{network}") => (Object::Network, Body::Empty),
        ("POST", "/api/v1/images/pull") => (Object::None, Body::Json(json!({"image": image()}))),
        ("POST", "/api/v1/images/tag") => (Object::Image, Body::Json(json!({"tag": format!("matrix/{}", unique("tag"))}))),
        ("POST", "/api/v1/images/push") => (Object::Image, Body::Json(json!({}))),
        (_, "/api/v1/images/{reference}") => (Object::Image, Body::Empty),
        ("POST", "/api/v1/keys/rotate") => (Object::None, Body::Empty),
        ("DELETE", "/api/v1/session") => (Object::None, Body::Empty),
        (
            "GET",
            "/healthz" | "/readyz" | "/api/v1/me" | "/api/v1/tokens" | "/api/v1/users" | "/api/v1/audit" | "/api/v1/audit/head"
            | "/api/v1/registries" | "/api/v1/webhooks" | "/api/v1/retention" | "/api/v1/builds" | "/api/v1/apps"
            | "/api/v1/runs" | "/api/v1/containers" | "/api/v1/volumes" | "/api/v1/networks" | "/api/v1/images"
            | "/api/v1/system" | "/api/v1/events" | "/api/openapi.json" | "/api/docs",
        ) => (Object::None, Body::Empty),
        (method, path) => panic!("{method} {path} is new: say here how it is called, so that it is tried as everybody"),
    }
}

/// Where nobody listens, and `quiet` lets webhooks go.
const HOOK: &str = "http://127.0.0.8:1/";

/// A container that stays until it is told to end.
fn sleeper() -> Value {
    json!({"image": "busybox", "command": ["sleep", "600"], "network": "none"})
}

fn named(mut app: Value) -> Value {
    app["name"] = unique("app").into();
    app
}

/// One image for all, which each owner must pull before it is its own.
fn image() -> &'static str {
    static IMAGE: LazyLock<String> = LazyLock::new(|| published_image("matrix"));
    &IMAGE
}

/// Routes that need an engine.
fn is_of_containers(rule: &Rule) -> bool {
    ["apps", "runs", "containers", "volumes", "networks", "images"].iter().any(|kind| rule.path.split('/').nth(3) == Some(*kind))
}

struct Answer {
    status: u16,
    /// What is said with a status from 400 on.
    error: String,
}

impl Answer {
    async fn of(request: RequestBuilder) -> Self {
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        // Any other may be a stream without an end.
        let error = if status < 400 { String::new() } else { answer.text().await.expect("a body") };
        Self { status, error }
    }
}

/// Two accounts, with one object of each kind that belongs to the first.
struct World<'a> {
    service: &'a Running,
    owner: Owner,
    token: String,
    other: String,
    admin: String,
    object: Object,
    id: String,
}

impl<'a> World<'a> {
    async fn new(service: &'a Running, rule: &Rule) -> Self {
        // Where a route is for admins, its owner is one.
        let role = if rule.need == Need::Scope(Permission::Admin) { Role::Admin } else { Role::User };
        let all = Permissions::of_role;
        let owner = person(service, &unique("ada"), role).await;
        let bob = person(service, &unique("bob"), Role::User).await;
        let chief = person(service, &unique("chief"), Role::Admin).await;
        let mine = token(service, &owner, all(role), None).await;
        let (other, admin) =
            (token(service, &bob, all(Role::User), None).await, token(service, &chief, all(Role::Admin), None).await);
        let mut world = Self { service, owner, token: mine, other, admin, object: case(rule).0, id: String::new() };
        world.id = world.fresh().await;
        world
    }

    /// Another object of the first account.
    async fn fresh(&self) -> String {
        match self.object {
            Object::None => unique("new"),
            Object::Build => queued(self.service, &self.token).await,
            Object::Manifest => {
                let made = self.service.request_as(&self.token, Method::POST, "/api/v1/contexts");
                send(made).await.1["id"].as_str().expect("an id").to_owned()
            }
            Object::EndedBuild => {
                let build = queued(self.service, &self.token).await;
                self.service.cancel(&json!({"id": build})).await;
                build
            }
            Object::Registry => {
                let name = unique("kept");
                let form = json!({"server": "127.0.0.1:1", "username": "u", "password": "p"});
                let put = self.service.request_as(&self.token, Method::PUT, &format!("/api/v1/registries/{name}"));
                assert!(send(put.json(&form)).await.0.is_success());
                name
            }
            Object::Webhook => self.made("webhooks", json!({"url": HOOK}), "id").await,
            Object::Delivery => {
                let webhook = self.made("webhooks", json!({"url": HOOK}), "id").await;
                let test = self.made(&format!("webhooks/{webhook}/test"), Value::Null, "id").await;
                format!("{webhook}/deliveries/{test}")
            }
            Object::Token => {
                let made = self.service.request_as(&self.token, Method::POST, "/api/v1/tokens").json(&json!({"name": "x"}));
                send(made).await.1["id"].as_str().expect("an id").to_owned()
            }
            Object::App => self.made("apps", named(sleeper()), "id").await,
            Object::Run => self.made("containers", sleeper(), "id").await,
            Object::Container => {
                let run = self.made("containers", sleeper(), "id").await;
                let path = format!("/api/v1/containers/{run}");
                let running = seen("it runs", async || {
                    let (_, container) = send(self.service.request_as(&self.token, Method::GET, &path)).await;
                    (container["state"] == "running").then_some(container)
                });
                running.await["id"].as_str().expect("an id").to_owned()
            }
            Object::Volume => self.made("volumes", json!({"name": unique("vol")}), "name").await,
            Object::Network => self.made("networks", json!({"name": unique("net")}), "name").await,
            Object::Image => self.made("images/pull", json!({"image": image()}), "reference").await,
            Object::User => person(self.service, &unique("carl"), Role::User).await.to_string(),
        }
    }

    /// What names a new thing of the first account.
    async fn made(&self, kind: &str, form: Value, name: &str) -> String {
        let make = self.service.request_as(&self.token, Method::POST, &format!("/api/v1/{kind}")).json(&form);
        let (status, made) = send(make).await;
        assert!(status.is_success(), "{kind}: {status} {made}");
        made[name].as_str().expect("a name").to_owned()
    }

    fn request(&self, rule: &Rule, id: &str, token: Option<&str>) -> RequestBuilder {
        let mut path = match (rule.path.find('{'), rule.path.rfind('}')) {
            (Some(open), Some(close)) => format!("{}{id}{}", &rule.path[..open], &rule.path[close + 1..]),
            _ => rule.path.to_owned(),
        };
        let mut query = Vec::new();
        if rule.method == "DELETE" && matches!(self.object, Object::Container | Object::App) {
            query.push(("force", "true"));
        }
        if rule.method == "DELETE" && rule.path == "/api/v1/builds" {
            query.extend([("state", "failed"), ("older_than", "7d")]);
        }
        // An admin says whose names it means.
        if token == Some(&self.admin) && matches!(self.object, Object::Volume | Object::Network | Object::Image) {
            query.push(("owner", self.owner.as_str()));
        }
        if path == "/api/dockerfile-build/" && self.object == Object::Build {
            path = format!("{path}?dockerfile_build_id={id}");
        }
        let method = Method::from_bytes(rule.method.as_bytes()).expect("a method");
        let request = match token {
            Some(token) => self.service.request_as(token, method, &path),
            None => nobody(self.service, method, &path),
        };
        let request = if query.is_empty() { request } else { request.query(&query) };
        let request = if path.ends_with("/exec") { as_websocket(request) } else { request };
        match case(rule).1 {
            Body::Empty => request,
            Body::Json(mut json) => {
                if self.object == Object::Image {
                    json["image"] = id.into();
                }
                request.json(&json)
            }
            Body::Upload(field) => request.multipart(dockerfile("FROM busybox\n").text(field, "127.0.0.1:1/team/app")),
        }
    }

    async fn ask(&self, rule: &Rule, id: &str, token: Option<&str>) -> Answer {
        Answer::of(self.request(rule, id, token)).await
    }

    /// As [`Self::ask`]; where names are of one account alone, that is named too.
    async fn ask_named(&self, rule: &Rule, id: &str, token: &str) -> Answer {
        let owner = [("owner", self.owner.as_str())];
        let named = if self.object == Object::Registry { &owner[..] } else { &[] };
        Answer::of(self.request(rule, id, Some(token)).query(named)).await
    }

    /// An image is tagged and pushed, and a manifest is used, by its owner alone.
    fn admin_may(&self, rule: &Rule) -> bool {
        let own = ["/api/v1/images/tag", "/api/v1/images/push"].contains(&rule.path);
        !own && self.object != Object::Manifest
    }

    /// What came of each caller that is not as it must be.
    async fn wrong(&self, rule: &Rule) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut expect = |who: &str, want: &str, Answer { status, error }: Answer| {
            // 101: a WebSocket that opens.
            let fits = if want == "2xx" { status == 101 || (200..300).contains(&status) } else { status.to_string() == want };
            if !fits {
                wrong.push(format!("{} {} as {who}: {status}, not {want}: {error}", rule.method, rule.path));
            }
        };
        let open = rule.need == Need::Nothing;
        let refused = if open { "2xx" } else { "401" };
        expect("nobody", refused, self.ask(rule, &self.id, None).await);
        let role = if rule.need == Need::Scope(Permission::Admin) { Role::Admin } else { Role::User };
        let expired = token(self.service, &self.owner, Permissions::of_role(role), past()).await;
        expect("an expired token", refused, self.ask(rule, &self.id, Some(&expired)).await);
        expect("a token that is none", refused, self.ask(rule, &self.id, Some("dw_0")).await);
        if let Need::Scope(scope) = rule.need {
            let less = token(self.service, &self.owner, without(role, scope), None).await;
            expect("a token without the scope", "403", self.ask(rule, &self.id, Some(&less)).await);
        }
        if let Need::Either(one, other) = rule.need {
            for scope in [one, other] {
                let alone = token(self.service, &self.owner, [scope].into_iter().collect(), None).await;
                expect("a token with one of the scopes", "2xx", self.ask(rule, &self.id, Some(&alone)).await);
            }
            let neither = Permissions::of_role(role).iter().filter(|scope| ![one, other].contains(scope)).collect();
            let less = token(self.service, &self.owner, neither, None).await;
            expect("a token with neither scope", "403", self.ask(rule, &self.id, Some(&less)).await);
        }
        let foreign = match (rule.need, self.object) {
            (Need::Scope(Permission::Admin), _) => "403",
            (_, Object::None) => "2xx",
            _ => "404",
        };
        expect("another user", foreign, self.ask(rule, &self.id, Some(&self.other)).await);
        if foreign == "404" {
            let hidden = send(self.request(rule, &self.id, Some(&self.other))).await.1.to_string();
            let some = || uuid::Uuid::now_v7().to_string();
            let absent = match self.object {
                Object::Registry => unique("none"),
                Object::Delivery => format!("{}/deliveries/{}", some(), some()),
                _ => some(),
            };
            let none = send(self.request(rule, &absent, Some(&self.other))).await.1.to_string();
            // As it is told of what is not there at all, but for the ids in it.
            assert_eq!(plain(&hidden, &self.id), plain(&none, &absent), "{} {}", rule.method, rule.path);
        }
        expect("its owner", "2xx", self.ask(rule, &self.id, Some(&self.token)).await);
        let again = self.fresh().await;
        expect("an admin", if self.admin_may(rule) { "2xx" } else { "404" }, self.ask_named(rule, &again, &self.admin).await);
        if self.object == Object::Registry {
            let again = self.fresh().await;
            expect("an admin that names nobody", "404", self.ask(rule, &again, Some(&self.admin)).await);
            expect("another user that names the owner", "404", self.ask_named(rule, &again, &self.other).await);
            expect("the owner that names itself", "2xx", self.ask_named(rule, &again, &self.token).await);
        }
        wrong
    }
}

fn as_websocket(request: RequestBuilder) -> RequestBuilder {
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let headers =
        [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13"), ("sec-websocket-key", key)];
    headers.into_iter().fold(request, |request, (name, value)| request.header(name, value))
}

/// Without the object's id and the request's.
fn plain(answer: &str, id: &str) -> String {
    let mut answer: Value = serde_json::from_str(&answer.replace(id, "ID")).expect("JSON");
    answer["request_id"] = Value::Null;
    answer.to_string()
}

async fn every_route_as_everybody(backend: Backend) {
    let service = quiet(backend).await;
    with_password(&service, "known", "user").await;
    log_in(&service, "known").await;
    let mut wrong = Vec::new();
    for rule in RULES {
        // Whether this very service is ready is no question of who asks.
        if rule.path != "/readyz" && !is_of_containers(rule) {
            wrong.extend(World::new(&service, rule).await.wrong(rule).await);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_as_everybody_with_the_embedded_store() {
    every_route_as_everybody(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_as_everybody_with_redis() {
    every_route_as_everybody(Backend::Redis).await;
}

async fn every_route_of_containers_as_everybody(backend: Backend) {
    let harbor = harbor(backend).await;
    let mut wrong = Vec::new();
    for rule in RULES.iter().filter(|rule| is_of_containers(rule)) {
        wrong.extend(World::new(&harbor, rule).await.wrong(rule).await);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_containers_as_everybody_with_the_embedded_store() {
    every_route_of_containers_as_everybody(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_containers_as_everybody_with_redis() {
    every_route_of_containers_as_everybody(Backend::Redis).await;
}
