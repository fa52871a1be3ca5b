//! `dockwright build`, in a pipe.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::person::{Ended, Person};
use crate::pipeline::on_both_stores;
use crate::support::service::{self, Backend, Running, tag_digest, tar};
use crate::support::{registry, unique};

on_both_stores!(
    a_folder_becomes_a_published_image_and_files_tell_of_it,
    the_exit_code_says_whose_fault_it_is,
    standard_input_is_a_dockerfile_or_an_archive,
    events_are_lines_of_json_and_nothing_else,
);

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

pub async fn admin(backend: Backend) -> (Running, Person) {
    let service = service::start(backend).await;
    let admin = Person::of(&service, &service.token);
    (service, admin)
}

async fn a_folder_becomes_a_published_image_and_files_tell_of_it(backend: Backend) {
    let (_service, admin) = admin(backend).await;
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

async fn the_exit_code_says_whose_fault_it_is(backend: Backend) {
    let (service, admin) = admin(backend).await;
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
    for line in ["build - --no-push --patience 0s", "cancel 01a1fcc6-00db-778f-aa50-18c1c74c2480"] {
        assert_eq!(nowhere.say("FROM busybox\n", line).code, 3, "{line}");
    }
    let none = tempfile::tempdir().expect("a folder");
    let ended = admin.with("build --no-push", text(none.path()));
    assert!(ended.code == 1 && ended.err.contains("there is no Dockerfile"), "{}", ended.err);
}

async fn standard_input_is_a_dockerfile_or_an_archive(backend: Backend) {
    let (_service, admin) = admin(backend).await;
    let quiet = admin.say("FROM busybox\nRUN true\n", "build -q --no-push -").well();
    assert!(quiet.out.starts_with("sha256:") && quiet.out.trim_end().len() == 71 && quiet.err.is_empty(), "{}", quiet.err);
    let archive = tar(&[("other", "FROM busybox\nCOPY a /\nRUN grep -q in-tar /a\n"), ("a", "in-tar")]);
    let archive = String::from_utf8(archive).expect("ASCII");
    admin.say(&archive, "build --no-push -f other -").well();
    let context = folder(&[("a", "in-folder"), ("Dockerfile", "FROM nowhere.invalid/x\n")]);
    let line = format!("build --no-push -f - {}", text(context.path()));
    admin.say("FROM busybox\nCOPY a /\nRUN grep -q in-folder /a\n", &line).well();
}

async fn events_are_lines_of_json_and_nothing_else(backend: Backend) {
    let (_service, admin) = admin(backend).await;
    let built = admin.say("FROM busybox\nRUN echo in-the-log\n", "build --json --no-push --no-cache -").well();
    let events: Vec<Value> = built.out.lines().map(|line| serde_json::from_str(line).expect("JSON alone")).collect();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().expect("a name")).collect();
    assert_eq!((names[0], names[names.len() - 1]), ("submitted", "end"));
    assert_eq!(events[events.len() - 1]["build"]["state"], "built");
    assert!(events.iter().any(|event| event["event"] == "log" && event["text"] == "in-the-log"), "{}", built.out);
    let seqs: Vec<u64> = events.iter().filter_map(|event| event["seq"].as_u64()).collect();
    assert!(seqs.is_sorted() && seqs.len() > 3, "{seqs:?}");
}
