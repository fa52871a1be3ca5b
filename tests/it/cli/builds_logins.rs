//! Whose logins `dockwright build` and `retry` publish with.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine as _;

use super::builds::{admin, ended, folder, text};
use super::builds_live::id_in;
use super::front::Front;
use super::person::{Ended, Person};
use crate::pipeline::on_both_stores;
use crate::support::git::{GitHost, Manners};
use crate::support::service::{self, Backend, tag_digest};
use crate::support::{private_registry, registry, unique};

on_both_stores!(
    the_callers_docker_login_is_used_for_the_images_host_alone,
    a_retry_publishes_what_is_missing_with_the_callers_login,
    a_retry_builds_again_with_its_secrets_sent_again,
    a_login_does_not_travel_where_others_can_read_it,
    credentials_for_a_repository_leave_the_images_login_in_use,
);

const DOCKERFILE: (&str, &str) = ("Dockerfile", "FROM busybox\nRUN true\n");

/// A Docker configuration with a login.
fn login(server: &str, user: &str, password: &str) -> tempfile::TempDir {
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    folder(&[("config.json", &format!(r#"{{"auths": {{"{server}": {{"auth": "{auth}"}}}}}}"#))])
}

/// A Docker configuration that names a helper, which notes who is asked for.
fn helper(config: &str, (server, user, password): (&str, &str, &str)) -> tempfile::TempDir {
    let at = folder(&[("config.json", config)]);
    let script = format!(
        "#!/bin/sh\nread -r host || true\necho \"$host\" >>{0}/asked\n[ \"$host\" = {server} ] || {{ echo 'credentials not found in native keychain'; exit 1; }}\n\
         printf '{{\"ServerURL\":\"%s\",\"Username\":\"%s\",\"Secret\":\"%s\"}}' \"$host\" '{user}' '{password}'\n",
        text(at.path())
    );
    let program = at.path().join("docker-credential-dockwright-cli");
    std::fs::write(&program, script).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("set");
    at
}

/// Runs a command of somebody with this Docker configuration.
fn with(person: &Person, config: &Path, line: &str, last: &[&str]) -> Ended {
    let mut command = person.command(line, last);
    let path = format!("{}:{}", text(config), std::env::var("PATH").expect("a path"));
    command.env("DOCKER_CONFIG", config).env("PATH", path);
    ended(command)
}

async fn the_callers_docker_login_is_used_for_the_images_host_alone(backend: Backend) {
    let (_service, admin) = admin(backend).await;
    let (server, user, password) = private_registry();
    let context = folder(&[DOCKERFILE]);
    let file = login(&server, &user, &password);
    let store = helper(r#"{"credsStore": "dockwright-cli", "auths": {}}"#, (&server, &user, &password));
    let of_host = format!(r#"{{"credHelpers": {{"{server}": "dockwright-cli", "other.example": "not-installed"}}}}"#);
    let of_host = helper(&of_host, (&server, &user, &password));
    let mut told = String::new();
    for config in [&file, &store, &of_host] {
        let image = format!("{server}/{}:1", unique("login"));
        let built = with(&admin, config.path(), &format!("build -t {image}"), &[text(context.path())]).well();
        assert!(tag_digest(&image, Some((&user, &password))).await.is_some());
        told += &format!("{}{}", built.out, built.err);
    }
    assert!(!told.contains(&password), "{told}");
    for asked in [&store, &of_host] {
        let hosts = std::fs::read_to_string(asked.path().join("asked")).expect("it was asked");
        assert!(hosts.lines().all(|host| host.contains(&server)), "{hosts}");
    }
    // For another host nothing is asked for that one, and a helper that fails is told.
    with(&admin, file.path(), &format!("build -t {}/{}:1", registry(), unique("login")), &[text(context.path())]).well();
    let broken = folder(&[("config.json", r#"{"credsStore": "not-installed-anywhere"}"#)]);
    let refused = with(&admin, broken.path(), &format!("build -t {server}/{}:1", unique("login")), &[text(context.path())]);
    assert_eq!(refused.code, 1, "the registry refuses: {}", refused.err);
    assert!(refused.err.contains("docker-credential-not-installed-anywhere"), "{}", refused.err);
}

async fn a_retry_publishes_what_is_missing_with_the_callers_login(backend: Backend) {
    let (_service, admin) = admin(backend).await;
    let (server, user, password) = private_registry();
    let (right, wrong) = (login(&server, &user, &password), login(&server, &user, "not-the-password"));
    let context = folder(&[DOCKERFILE]);
    let own = |name: &str| format!("{server}/{}:1", unique(name));
    // With a login that is refused: what came with it was erased at its end.
    let image = own("again");
    let first = with(&admin, wrong.path(), &format!("build -t {image}"), &[text(context.path())]);
    assert_eq!(first.code, 1, "{}", first.err);
    let line = format!("retry --follow {}", id_in(&first.err));
    let bare = admin.run(&line);
    assert!(bare.code == 1 && bare.err.contains("credentials_needed"), "{} {}", bare.code, bare.err);
    let again = with(&admin, right.path(), &line, &[]).well();
    assert!(again.out.contains(&image) && !format!("{}{}", again.out, again.err).contains(&password), "{}", again.out);
    assert!(tag_digest(&image, Some((&user, &password))).await.is_some());
    // On several hosts, of which one is missing: the login for that one.
    let (open, image) = (format!("{}/{}:1", registry(), unique("again")), own("again"));
    let first = with(&admin, right.path(), &format!("build -t {open} -t {image}"), &[text(context.path())]);
    assert!(first.code == 1 && first.err.contains("several hosts"), "{} {}", first.code, first.err);
    let id = id_in(&first.err).to_owned();
    with(&admin, right.path(), &format!("retry --follow {id}"), &[]).well();
    assert!(tag_digest(&image, Some((&user, &password))).await.is_some());
    // Kept credentials take the place of the caller's own.
    let name = unique("kept");
    admin.say(&password, &format!("registry put {name} --server {server} --username {user}")).well();
    with(&admin, wrong.path(), &format!("retry --follow --registry {name} {id}"), &[]).well();
    let image = own("again");
    let kept = with(&admin, wrong.path(), &format!("build -t {image} --registry {name}"), &[text(context.path())]).well();
    let id = id_in(&kept.err);
    with(&admin, wrong.path(), &format!("retry --follow {id}"), &[]).well();
    assert_eq!(admin.run(&format!("inspect --json {id}")).json()["options"]["registries"], serde_json::json!([name]));
}

async fn a_retry_builds_again_with_its_secrets_sent_again(backend: Backend) {
    let (_service, admin) = admin(backend).await;
    let image = format!("{}/{}:1", registry(), unique("again"));
    let step = "RUN --mount=type=secret,id=token grep -q right /run/secrets/token && cat /proc/sys/kernel/random/uuid >/x";
    let context = folder(&[("Dockerfile", &format!("FROM busybox\nLABEL a={image}\n{step}\n"))]);
    let secrets = folder(&[("wrong", "wrong"), ("right", "right")]);
    let secret = |name: &str| format!("--secret id=token,src={}", text(&secrets.path().join(name)));
    let first = admin.run(&format!("build -t {image} {} {}", secret("wrong"), text(context.path())));
    assert_eq!(first.code, 1, "the step fails: {}", first.err);
    let retry = |more: &str| format!("retry --follow {more} {}", id_in(&first.err));
    let without = admin.run(&retry(""));
    assert!(without.code == 1 && without.err.contains("cannot_build_again"), "{} {}", without.code, without.err);
    let unknown = admin.run(&retry(&format!("{} --secret id=other,src=/dev/null", secret("right"))));
    assert!(unknown.code == 1 && unknown.err.contains("secret_unknown"), "{} {}", unknown.code, unknown.err);
    admin.run(&retry(&secret("right"))).well();
    let published = tag_digest(&image, None).await;
    assert!(published.is_some());
    // A younger build has the tag then: only by force does an older one take it back.
    let other = folder(&[("Dockerfile", "FROM busybox\nLABEL a=younger\n")]);
    admin.run(&format!("build -t {image} {}", text(other.path()))).well();
    let younger = tag_digest(&image, None).await;
    assert_ne!(younger, published);
    let left = admin.run(&retry(&secret("right")));
    assert!(left.err.contains("Superseded"), "{}", left.err);
    assert_eq!(tag_digest(&image, None).await, younger);
    admin.run(&retry(&format!("--force {}", secret("right")))).well();
    assert_ne!(tag_digest(&image, None).await, younger);
}

async fn a_login_does_not_travel_where_others_can_read_it(backend: Backend) {
    let (service, _) = admin(backend).await;
    let (server, user, password) = private_registry();
    // Not one of the names of this machine itself.
    let front = Front::before(service.address, "127.0.0.2:0", 0, true).await;
    let away = Person::at(&front.url(), &service.token);
    let (context, config) = (folder(&[DOCKERFILE]), login(&server, &user, &password));
    let refused = with(&away, config.path(), &format!("build -t {server}/{}:1", unique("plain")), &[text(context.path())]);
    assert!(refused.code == 1 && refused.err.contains("is not encrypted"), "{} {}", refused.code, refused.err);
    let id = id_in(&refused.err);
    let again = with(&away, config.path(), &format!("retry --follow {id}"), &[]);
    assert!(again.code == 1 && again.err.contains("is not encrypted"), "{} {}", again.code, again.err);
    assert!(front.was_sent(server.as_bytes()) && !front.was_sent(password.as_bytes()));
}

async fn credentials_for_a_repository_leave_the_images_login_in_use(backend: Backend) {
    let service =
        service::start_with(backend, |settings| settings.allow_egress = Some(vec!["127.0.0.1".parse().expect("an address")]))
            .await;
    let admin = Person::of(&service, &service.token);
    let (server, user, password) = private_registry();
    let manners = Manners { login: Some(("git".into(), "its-password".into())), ..Manners::default() };
    let host = GitHost::start_on("127.0.0.1:0", manners).await;
    let repository = host.repository("app");
    repository.commit(&[DOCKERFILE]);
    let name = unique("git");
    admin.say("its-password", &format!("registry put {name} --server {} --username git", host.address)).well();
    let (image, config) = (format!("{server}/{}:1", unique("of-git")), login(&server, &user, &password));
    let built = with(&admin, config.path(), &format!("build -t {image} --registry {name}"), &[&repository.url]).well();
    assert!(tag_digest(&image, Some((&user, &password))).await.is_some(), "{}", built.err);
}
