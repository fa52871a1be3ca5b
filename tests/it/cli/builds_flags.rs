//! The flags of `dockwright build`: what the service gets of them, what they do, and which habits cannot be followed.

use std::os::unix::net::UnixListener;

use super::builds::{admin, ended, folder, text};
use super::builds_live::id_in;
use super::person::Person;
use crate::pipeline::on_both_stores;
use crate::support::git::GitHost;
use crate::support::service::{self, Backend, tag_digest};
use crate::support::{private_registry, published_image, registry, unique};

on_both_stores!(every_flag_reaches_the_build, limits_and_habits_reach_the_build, a_repository_is_built_by_its_url);

async fn every_flag_reaches_the_build(backend: Backend) {
    let (_service, admin) = admin(backend).await;
    let (server, user, password) = private_registry();
    let (name, canary) = (unique("flags"), unique("canary"));
    admin.say(&password, &format!("registry put {name} --server {server} --username {user}")).well();
    let (image, from) = (format!("{server}/{name}:1"), published_image("flags"));
    let outside = folder(&[("secret", &canary)]);
    let key = outside.path().join("key");
    let made = std::process::Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
    assert!(made.expect("ssh-keygen").success());
    let dockerfile = format!(
        "FROM {from} AS one\nARG A\n\
        RUN --mount=type=secret,id=token,required=true --mount=type=secret,id=of-env,required=true \
        --mount=type=ssh,id=deploy,required=true \
        test \"$(cat /run/secrets/token)\" = \"$(cat /run/secrets/of-env)\" && test -S \"$SSH_AUTH_SOCK\" && \
        ! ip route | grep -q default && echo all-is-seen-$A\n\
        FROM one\nRUN false\n"
    );
    let context = folder(&[("Dockerfile", &dockerfile)]);
    let line = format!(
        "build -t {image} --registry {name} --build-arg A=here --secret id=token,src={} --secret id=of-env,env=OF_ENV \
         --ssh deploy={} --cache-from type=registry,ref={from} --cache-to type=inline --platform linux/amd64 --pull=true --push \
         --target one --no-cache --cold --network none --timeout 9m --priority -3 --project {name} --supersede --reuse --label a=b",
        text(&outside.path().join("secret")),
        text(&key)
    );
    let mut command = admin.command(&line, &[text(context.path())]);
    command.env("OF_ENV", &canary);
    let built = ended(command).well();
    assert!(tag_digest(&image, Some((&user, &password))).await.is_some());
    let all = format!("{}{}", built.out, built.err);
    assert!(all.contains("all-is-seen-here") && !all.contains(&canary) && !all.contains("PRIVATE KEY"), "{all}");
    let build = admin.run(&format!("inspect --json {}", id_in(&built.err))).json();
    let options = &build["options"];
    let wanted = serde_json::json!({
        "registries": [name], "build_args": {"A": "here"}, "secrets": ["of-env", "token"], "ssh": ["deploy"],
        "cache_from": [from], "inline_cache": true, "platform": "linux/amd64", "pull": true, "push": true, "target": "one",
        "no_cache": true, "cold": true, "network": "none", "timeout": "9m", "priority": -3, "project": name, "supersede": true,
    });
    for (option, value) in wanted.as_object().expect("an object") {
        let mut got = options[option].clone();
        if let Some(list) = got.as_array_mut() {
            list.sort_by_key(ToString::to_string);
        }
        assert_eq!(&got, value, "{option}: {options}");
    }
    assert_eq!(options["labels"]["a"], "b");
}

async fn limits_and_habits_reach_the_build(backend: Backend) {
    let (_service, admin) = admin(backend).await;
    let limited = admin.say("FROM busybox\n", "build - --push=false --memory 64m --cpus 0.5 -q").well();
    assert!(limited.out.starts_with("sha256:"), "{}", limited.out);
    let build = admin.run("ps --builds --all --json").json()[0].clone();
    let options = &build["options"];
    assert_eq!((&options["memory"], &options["push"], &options["pull"]), (&(64 << 20).into(), &false.into(), &false.into()));
    assert_eq!(options["cpus"], "0.5", "{options}");
    // The same again, when that is asked for.
    let again = admin.say("FROM busybox\n", "build - --no-push --memory 64m --cpus 0.5 --reuse --json").well();
    assert!(again.out.contains(build["id"].as_str().expect("an id")) && again.out.contains("\"reused\":true"), "{}", again.out);
}

async fn a_repository_is_built_by_its_url(backend: Backend) {
    let service =
        service::start_with(backend, |settings| settings.allow_egress = Some(vec!["127.0.0.1".parse().expect("an address")]))
            .await;
    let admin = Person::of(&service, &service.token);
    let host = GitHost::start().await;
    let repository = host.repository("app");
    repository.commit(&[("sub/Dockerfile", "FROM busybox\nRUN false\n"), ("sub/other", "FROM busybox\nRUN echo of-the-other\n")]);
    let image = format!("{}/{}:1", registry(), unique("git"));
    let url = format!("{}#main:sub", repository.url);
    let built = ended(admin.command(&format!("build -f other --no-cache -t {image}"), &[&url])).well();
    assert!(built.err.contains("of-the-other") && tag_digest(&image, None).await.is_some(), "{}", built.err);
    let beside = admin.say("FROM busybox\nCOPY other /\n", &format!("build -f - --no-push {url}"));
    beside.well();
    // A host that does not answer is no fault of who asks.
    let gone = host.url("nothing-there");
    drop(host);
    let unreachable = ended(admin.command("build --no-push", &[&gone]));
    assert!(unreachable.code == 3 && unreachable.err.contains("git_"), "{} {}", unreachable.code, unreachable.err);
}

/// Nobody listens there: all of it is told before.
#[test]
fn what_cannot_be_done_as_docker_does_it_is_told_with_what_can() {
    let nowhere = Person::at("http://127.0.0.1:1", "token");
    let context = folder(&[("Dockerfile", "FROM busybox\n")]);
    let agent = context.path().join("agent");
    let _agent = UnixListener::bind(&agent).expect("a socket");
    for (flags, words) in [
        ("--ssh", "default|ID=FILE"),
        (&*format!("--ssh default={}", text(&agent)), "--ssh default=FILE"),
        ("--load", "pull it"),
        ("--cache-to type=registry,ref=a/b", "--inline-cache"),
        ("--network=host", "default and none"),
        ("--pull=maybe", "--pull"),
    ] {
        let refused = ended(nowhere.command(&format!("build {} --no-push {flags}", text(context.path())), &[]));
        assert!(refused.code == 2 && refused.err.contains(words), "{flags}: {} {}", refused.code, refused.err);
    }
    let refused = ended(nowhere.command("build --push=true", &[text(context.path())]));
    assert!(refused.code == 2 && refused.err.contains("--tag"), "{}", refused.err);
}
