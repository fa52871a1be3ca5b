//! What a client can ask of a build, and contexts of many files.

use std::io::Write;

use reqwest::multipart::Form;
use serde_json::Value;

use crate::support::service::{self, Backend, Running, context, docker, dockerfile, has_local_tag, id, tar};
use crate::support::{unique, watch};

/// Builds without a push, to the end; the build and its log.
async fn build(service: &Running, form: Form) -> (Value, String) {
    let build = service.submit(form.text("push", "false")).await;
    let ended = service.ended(&build).await;
    let log = service.log(&build).await;
    (ended, log)
}

fn line<'a>(log: &'a str, holds: &str) -> &'a str {
    log.lines().find(|line| line.starts_with(holds)).unwrap_or_else(|| panic!("no line begins with {holds:?}: {log}"))
}

const LIST: &str = "FROM busybox\nWORKDIR /x\nCOPY . .\nRUN echo files: $(find . -type f | sort)\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_context_is_built_without_what_dockerignore_names() {
    let service = service::start(Backend::Sqlite).await;
    let mark = unique("mark");
    let files = tar(&[
        ("Dockerfile", LIST),
        (".dockerignore", "# comment\n**/*.log\n!keep.log\nsecrets\n.dockerignore\n"),
        ("a.txt", &mark),
        ("b.log", "x"),
        ("deep/c.log", "x"),
        ("keep.log", "x"),
        ("secrets/key", "x"),
    ]);
    let (ended, log) = build(&service, context(files)).await;
    assert_eq!((&ended["state"], &ended["context"]["kind"]), (&"built".into(), &"tar".into()), "{ended}\n{log}");
    assert_eq!(line(&log, "files:"), "files: ./Dockerfile ./a.txt ./keep.log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_is_a_context_and_a_file_beside_it_is_its_dockerfile() {
    let service = service::start(Backend::Sqlite).await;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in [("docker/app.Dockerfile", "FROM busybox\nRUN false\n"), ("data.txt", &unique("data"))] {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).expect("in memory");
        zip.write_all(text.as_bytes()).expect("in memory");
    }
    let bytes = zip.finish().expect("in memory").into_inner();
    let (ended, log) = build(&service, context(bytes.clone()).text("dockerfile", "docker/app.Dockerfile")).await;
    assert_eq!((&ended["error"]["code"], &ended["context"]["kind"]), (&"step_failed".into(), &"zip".into()), "{ended}\n{log}");
    let part = reqwest::multipart::Part::bytes(LIST.as_bytes().to_vec()).file_name("Dockerfile");
    let (ended, log) = build(&service, context(bytes).text("dockerfile", "docker/app.Dockerfile").part("file", part)).await;
    assert_eq!(ended["state"], "built", "{ended}\n{log}");
    assert_eq!(line(&log, "files:"), "files: ./data.txt ./docker/app.Dockerfile");
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_labels_and_target_reach_the_build() {
    let service = service::start(Backend::Sqlite).await;
    let text = format!("FROM busybox AS one\nARG COLOUR=none\nRUN echo colour:$COLOUR {}\nFROM one\nRUN false\n", unique("x"));
    let form = dockerfile(&text).text("build_arg", "COLOUR=a=b c").text("label", "org.example.team=blue").text("target", "one");
    let (ended, log) = build(&service, form).await;
    assert_eq!(ended["state"], "built", "the stage behind the target is not built: {ended}\n{log}");
    assert!(line(&log, "colour:").starts_with("colour:a=b c "));
    let options = &ended["options"];
    assert_eq!((&options["build_args"]["COLOUR"], &options["target"]), (&"a=b c".into(), &"one".into()));
    let labels =
        docker(&["image", "inspect", "--format", "{{json .Config.Labels}}", &format!("dockwright.local/build:{}", id(&ended))]);
    assert_eq!(labels, r#"{"org.example.team":"blue"}"#, "the client's labels and none of ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_is_used_unless_it_is_refused() {
    let service = service::start(Backend::Sqlite).await;
    let text = format!("FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /x # {}\n", unique("x"));
    let first = build(&service, dockerfile(&text)).await.0;
    let second = build(&service, dockerfile(&text)).await.0;
    let third = build(&service, dockerfile(&text).text("no_cache", "true")).await.0;
    assert!(first["image_id"].is_string() && first["image_id"] == second["image_id"], "{first} {second}");
    assert!(third["image_id"].is_string() && third["image_id"] != first["image_id"], "{third}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_without_network_sees_no_interface_but_its_own() {
    let service = service::start(Backend::Sqlite).await;
    let text = format!(
        "FROM busybox\nRUN echo nets: $(ls /sys/class/net | grep -v -e tunl -e sit -e gre -e erspan -e ip) # {}\n",
        unique("x")
    );
    let (ended, log) = build(&service, dockerfile(&text).text("network", "none")).await;
    assert_eq!((&ended["state"], line(&log, "nets:")), (&"built".into(), "nets: lo"), "{ended}");
    let (ended, log) = build(&service, dockerfile(&text)).await;
    assert!(line(&log, "nets:").contains("eth0"), "{ended}\n{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_is_built_or_refused() {
    let service = service::start(Backend::Sqlite).await;
    let text = format!("FROM busybox\nRUN true # {}\n", unique("x"));
    let (ended, log) = build(&service, dockerfile(&text).text("platform", "linux/amd64")).await;
    assert_eq!(ended["state"], "built", "{ended}\n{log}");
    let (ended, log) = build(&service, dockerfile(&text).text("platform", "linux/arm64").text("memory", "64m")).await;
    assert_eq!(
        (&ended["state"], &ended["error"]["code"]),
        (&"failed".into(), &"platform_not_supported".into()),
        "{ended}\n{log}"
    );
    assert!(!has_local_tag(&ended));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_memory_holds() {
    let service = service::start(Backend::Sqlite).await;
    let limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
    let text = format!("FROM busybox\nRUN echo limit:$({limit}) # {}\n", unique("x"));
    let (ended, log) = build(&service, dockerfile(&text).text("memory", "64m").text("cpus", "0.5")).await;
    assert_eq!((&ended["state"], &ended["builder"]), (&"built".into(), &"classic".into()), "{ended}\n{log}");
    assert_eq!(line(&log, "limit:"), "limit:67108864");
    let hungry = format!("FROM busybox\nRUN tail /dev/zero # {}\n", unique("x"));
    let (ended, log) = build(&service, dockerfile(&hungry).text("memory", "16m")).await;
    let error = &ended["error"];
    assert_eq!((&error["kind"], &error["code"]), (&"limit".into(), &"out_of_memory".into()), "{ended}\n{log}");
}

/// Whether any process of the machine has this in its command line. (A shell that has nothing to do after its last command becomes
/// that command: a step to be found ends with `&& true`.)
pub fn runs(mark: &str) -> bool {
    let processes =
        std::fs::read_dir("/proc").expect("/proc").filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
    processes.into_iter().any(|line| String::from_utf8_lossy(&line).contains(mark))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_takes_too_long_is_ended() {
    let service = service::start(Backend::Sqlite).await;
    let mark = unique("mark");
    let (ended, log) =
        build(&service, dockerfile(&format!("FROM busybox\nRUN echo {mark} && sleep 300 && true\n")).text("timeout", "5s")).await;
    let error = &ended["error"];
    assert_eq!(
        (&ended["state"], &error["kind"], &error["code"]),
        (&"failed".into(), &"limit".into(), &"timeout".into()),
        "{ended}\n{log}"
    );
    assert!(error["message"].as_str().is_some_and(|message| message.contains("5s")), "{error}");
    assert!(log.contains(&format!("{mark}\n")), "what it did until then is told: {log}");
    watch("its step ends", || !runs(&mark)).await;
    assert!(!has_local_tag(&ended));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_higher_priority_goes_first() {
    let away = |s: &mut dockwright::config::Settings| {
        s.engine = Some("unix:///nowhere.sock".into());
        s.workers = Some(1);
    };
    let service = service::start_with(Backend::Sqlite, away).await;
    let mut builds = Vec::new();
    for priority in ["0", "-5", "10", "0"] {
        builds.push(service.submit(dockerfile("FROM busybox\n").text("push", "false").text("priority", priority)).await);
    }
    let mut positions = Vec::new();
    for build in &builds {
        positions.push(service.get(&format!("/api/v1/builds/{}", id(build))).await["queue"]["position"].clone());
    }
    assert_eq!(positions, [1, 3, 0, 2]);
    let mut config = service.config.clone();
    config.engine = None;
    let _data = service.stop().await;
    let service = service::start_on(config).await;
    let mut order = Vec::new();
    for (index, build) in builds.iter().enumerate() {
        order.push((service.ended(build).await["started_at"].as_str().expect("a time").to_owned(), index));
    }
    order.sort();
    assert_eq!(order.iter().map(|(_, index)| *index).collect::<Vec<_>>(), [2, 0, 3, 1]);
}
