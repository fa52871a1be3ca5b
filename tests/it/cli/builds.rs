//! `dockwright build`, in a pipe.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::person::{Ended, Person};
use crate::support::service::{self, Backend, Running, tag_digest, tar};
use crate::support::{private_registry, registry, unique};

/// A folder with these files.
pub fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    for (path, text) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, text).expect("written");
    }
    root
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// How a command ended that nothing is said to.
pub fn ended(mut command: Command) -> Ended {
    let output = command.stdin(Stdio::null()).output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ended { out: text(output.stdout), err: text(output.stderr), code: output.status.code().expect("no signal") }
}

async fn admin() -> (Running, Person) {
    let service = service::start(Backend::Sqlite).await;
    let admin = Person::of(&service, &service.token);
    (service, admin)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_becomes_a_published_image_and_files_tell_of_it() {
    let (_service, admin) = admin().await;
    let dockerfile = "FROM busybox AS one\nARG A\nARG B\nCOPY . /app\n\
        RUN test \"$A$B\" = from-environment-said && test ! -e /app/left-out && test -x /app/run.sh && test -L /app/link && echo all-is-there\n\
        FROM one\nRUN false\n";
    let context =
        folder(&[("ci/Dockerfile", dockerfile), (".dockerignore", "left-out\nci"), ("left-out", "x"), ("run.sh", "echo hi")]);
    let at = context.path();
    std::fs::set_permissions(at.join("run.sh"), std::fs::Permissions::from_mode(0o755)).expect("set");
    std::os::unix::fs::symlink("/nowhere", at.join("link")).expect("a link");
    let _socket = std::os::unix::net::UnixListener::bind(at.join("a-socket")).expect("a socket");
    let out = tempfile::tempdir().expect("a folder");
    let (iid, metadata) = (out.path().join("iid"), out.path().join("metadata"));
    std::fs::write(&iid, "of an earlier build").expect("written");
    let name = format!("{}/{}", registry(), unique("cli"));
    let line = format!(
        "build --file ci/Dockerfile -t {name}:1 -t {name}:latest --build-arg A --build-arg B=-said --build-arg NOT_SET_ANYWHERE \
         --label team=a --target one --iidfile {} --metadata-file {}",
        text(&iid),
        text(&metadata)
    );
    let mut command = admin.command(&line, &[text(at)]);
    command.env("A", "from-environment");
    let built = ended(command).well();
    let digest = tag_digest(&format!("{name}:1"), None).await.expect("published");
    assert_eq!(built.out, format!("{name}:1@{digest}\n{name}:latest@{digest}\n"));
    let plain: Vec<&str> = built.err.lines().collect();
    assert!(plain.iter().any(|line| line.contains("\"a-socket\" is a socket")), "{}", built.err);
    let step = plain.iter().find(|line| line.contains("RUN test ")).expect("the step is told");
    let number = step.split(' ').next().expect("its number");
    assert!(plain.iter().any(|line| line.starts_with(number) && line.ends_with(" all-is-there")), "{}", built.err);
    assert!(!built.err.contains('\u{1b}') && !built.err.contains('\r'), "plain in a pipe: {:?}", built.err);
    let told: Value = serde_json::from_slice(&std::fs::read(&metadata).expect("is there")).expect("JSON");
    assert_eq!(
        (&told["containerimage.digest"], &told["image.name"]),
        (&digest.into(), &format!("{name}:1,{name}:latest").into())
    );
    let id = told["dockwright.build.id"].as_str().expect("an id");
    let build = admin.run(&format!("inspect {id} --json")).json();
    assert_eq!(std::fs::read_to_string(&iid).expect("is there"), build["image_id"].as_str().expect("an id"));
    assert_eq!(build["options"]["labels"]["team"], "a");
    assert_eq!(build["context"]["files"], 4, "what is left out never travelled: {build}");
    // A build that fails leaves no file of another one.
    let ended = ended(admin.command(&format!("build --no-push -q --file ci/Dockerfile --iidfile {}", text(&iid)), &[text(at)]));
    assert!(ended.code == 1 && ended.out.is_empty() && !iid.exists(), "{} {}{}", ended.code, ended.out, ended.err);
    assert!(ended.err.contains("step_failed"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_says_whose_fault_it_is() {
    let (service, admin) = admin().await;
    let from = |input: &str, line: &str| admin.say(input, line);
    let step = from("FROM busybox\n\nRUN echo gone-wrong; exit 7\n", "build - --no-push");
    assert!(step.code == 1 && step.err.contains("line 3 of the Dockerfile") && step.err.contains("gone-wrong"), "{}", step.err);
    let refused = from("FROM busybox\nRUNN x\n", "build - --no-push");
    assert!(refused.code == 1 && refused.out.is_empty() && refused.err.contains("RUNN"), "{}", refused.err);
    for usage in ["build -", "build - -t UPPER", "build - --no-push --progress loud", "build git@host:x.git --no-push"] {
        assert_eq!(from("FROM busybox\n", usage).code, 2, "{usage}");
    }
    let registry = from("FROM busybox\n", "build - -t 127.0.0.1:1/x:1 -q");
    assert!(registry.code == 3 && registry.err.contains("registry_unreachable"), "{} {}", registry.code, registry.err);
    let stranger = Person::of(&service, "dw_nobody");
    assert_eq!(stranger.say("FROM busybox\n", "build - --no-push").code, 1);
    let nowhere = Person::at("http://127.0.0.1:1", "token");
    for line in ["build - --no-push", "cancel 01a1fcc6-00db-778f-aa50-18c1c74c2480"] {
        assert_eq!(nowhere.say("FROM busybox\n", line).code, 3, "{line}");
    }
    let none = tempfile::tempdir().expect("a folder");
    let ended = admin.with("build --no-push", text(none.path()));
    assert!(ended.code == 1 && ended.err.contains("there is no Dockerfile"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_is_a_dockerfile_or_an_archive() {
    let (_service, admin) = admin().await;
    let quiet = admin.say("FROM busybox\nRUN true\n", "build -q --no-push -").well();
    assert!(quiet.out.starts_with("sha256:") && quiet.out.trim_end().len() == 71 && quiet.err.is_empty(), "{}", quiet.err);
    let archive = tar(&[("other", "FROM busybox\nCOPY a /\nRUN grep -q in-tar /a\n"), ("a", "in-tar")]);
    let archive = String::from_utf8(archive).expect("ASCII");
    admin.say(&archive, "build --no-push -f other -").well();
    let context = folder(&[("a", "in-folder"), ("Dockerfile", "FROM nowhere.invalid/x\n")]);
    let line = format!("build --no-push -f - {}", text(context.path()));
    admin.say("FROM busybox\nCOPY a /\nRUN grep -q in-folder /a\n", &line).well();
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_lines_of_json_and_nothing_else() {
    let (_service, admin) = admin().await;
    let built = admin.say("FROM busybox\nRUN echo in-the-log\n", "build --json --no-push --no-cache -").well();
    let events: Vec<Value> = built.out.lines().map(|line| serde_json::from_str(line).expect("JSON alone")).collect();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().expect("a name")).collect();
    assert_eq!((names[0], names[names.len() - 1]), ("submitted", "end"));
    assert_eq!(events[events.len() - 1]["build"]["state"], "built");
    assert!(events.iter().any(|event| event["event"] == "log" && event["text"] == "in-the-log"), "{}", built.out);
    let seqs: Vec<u64> = events.iter().filter_map(|event| event["seq"].as_u64()).collect();
    assert!(seqs.is_sorted() && seqs.len() > 3, "{seqs:?}");
}

/// A Docker configuration whose helper notes who is asked for.
fn helper(server: &str, user: &str, password: &str) -> tempfile::TempDir {
    let at = folder(&[("config.json", r#"{"credsStore": "dockwright-cli", "auths": {}}"#)]);
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

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_docker_login_is_used_for_the_images_host_alone() {
    use base64::Engine as _;
    let (_service, admin) = admin().await;
    let (server, user, password) = private_registry();
    let context = folder(&[("Dockerfile", "FROM busybox\nRUN true\n")]);
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let file = folder(&[("config.json", &format!(r#"{{"auths": {{"{server}": {{"auth": "{auth}"}}}}}}"#))]);
    let asked = helper(&server, &user, &password);
    let path = format!("{}:{}", text(asked.path()), std::env::var("PATH").expect("a path"));
    let mut told = String::new();
    for config in [&file, &asked] {
        let image = format!("{server}/{}:1", unique("login"));
        let mut command = admin.command(&format!("build -t {image}"), &[text(context.path())]);
        command.env("DOCKER_CONFIG", config.path()).env("PATH", &path);
        let built = ended(command).well();
        assert!(tag_digest(&image, Some((&user, &password))).await.is_some());
        told += &format!("{}{}", built.out, built.err);
    }
    assert!(!told.contains(&password) && !told.contains(&auth), "{told}");
    let hosts = std::fs::read_to_string(asked.path().join("asked")).expect("it was asked");
    assert!(hosts.lines().all(|host| host.contains(&server)), "{hosts}");
    // For another host nothing is asked for that one, and a helper that fails is told.
    let mut command = admin.command(&format!("build -t {}/{}:1", registry(), unique("login")), &[text(context.path())]);
    command.env("DOCKER_CONFIG", file.path());
    ended(command).well();
    let broken = folder(&[("config.json", r#"{"credsStore": "not-installed-anywhere"}"#)]);
    let mut command = admin.command(&format!("build -t {server}/{}:1", unique("login")), &[text(context.path())]);
    command.env("DOCKER_CONFIG", broken.path());
    let refused = ended(command);
    assert_eq!(refused.code, 1, "the registry refuses: {}", refused.err);
    assert!(refused.err.contains("docker-credential-not-installed-anywhere"), "{}", refused.err);
}
