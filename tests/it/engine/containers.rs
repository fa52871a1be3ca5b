//! A container's life, and what is told of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dockwright::domain::{Healthcheck, RestartPolicy};
use dockwright::engine::containers::{
    APP, ContainerDetails, ContainerState, Containers, EngineMount, FileChange, FileChangeKind, Health, OWNER, Volumes,
};
use futures::StreamExt;
use secrecy::SecretString;

use super::cli;
use super::own::{Own, published, two_free_ports};
use crate::support::unique;

const GRACE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn each_deed_can_be_done_twice() {
    let own = Own::new().await;
    let id = own.docker.create(own.request(&["sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.1; done"])).await;
    let id = id.expect("creates");
    let made = own.details(&id).await;
    assert_eq!((made.summary.state, made.started_at, made.finished_at), (ContainerState::Created, None, None));
    for _ in 0..2 {
        own.docker.start(&id).await.expect("starts");
    }
    own.line(&id, "up").await;
    let runs = own.details(&id).await;
    assert_eq!(runs.summary.state, ContainerState::Running);
    assert!(runs.started_at.is_some(), "{runs:?}");
    for _ in 0..2 {
        own.docker.stop(&id, GRACE).await.expect("stops");
    }
    let ended = own.details(&id).await;
    assert_eq!((ended.summary.state, ended.exit_code), (ContainerState::Exited, 5), "it was asked, not killed");
    assert!(ended.finished_at > runs.started_at, "{ended:?}");
    for _ in 0..2 {
        own.docker.restart(&id, GRACE).await.expect("restarts");
    }
    own.docker.kill(&id, "SIGKILL").await.expect("kills");
    assert_eq!(own.ended(&id).await.exit_code, 137);
    assert_eq!(own.docker.kill(&id, "SIGKILL").await.expect_err("it does not run").code, "container_not_running");
    assert!(own.docker.remove(&id, false).await.expect("goes"));
    assert!(!own.docker.remove(&id, false).await.expect("is no error"));
    assert_eq!(own.docker.inspect(&id, false).await.expect("answers"), None);
    assert_eq!(own.docker.containers(Some(&id)).await.expect("answers"), []);
    assert_eq!(own.docker.start(&id).await.expect_err("is gone").code, "container_not_found");
}

#[tokio::test]
async fn a_process_that_does_not_listen_is_killed_after_its_grace() {
    let own = Own::new().await;
    let id = own.shell("trap '' TERM; echo up; while :; do sleep 0.1; done").await;
    own.line(&id, "up").await;
    let asked = Instant::now();
    own.docker.stop(&id, Duration::from_millis(1500)).await.expect("stops");
    assert!(asked.elapsed() >= Duration::from_millis(1500), "{:?}", asked.elapsed());
    assert_eq!(own.details(&id).await.exit_code, 137);
}

#[tokio::test]
async fn a_running_container_is_removed_by_force_only_and_by_many_at_once() {
    let own = Own::new().await;
    let id = own.shell("sleep 1000").await;
    assert_eq!(own.docker.remove(&id, false).await.expect_err("it runs").code, "container_running");
    let removals = (0..4).map(|_| own.docker.remove(&id, true));
    let removed = futures::future::join_all(removals).await;
    assert!(removed.iter().all(Result::is_ok), "{removed:?}");
    assert!(removed.iter().any(|one| matches!(one, Ok(true))), "{removed:?}");
    assert_eq!(own.docker.inspect(&id, false).await.expect("answers"), None, "it is gone when they answer");
}

#[tokio::test]
async fn what_was_asked_for_is_what_runs() {
    let own = Own::new().await;
    let volume = unique("v");
    own.docker.create_volume(&volume, &own.labels()).await.expect("makes");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("canary"), "from the host\n").expect("writes");
    let mut request = own.request(&[
        "-c",
        "exec 2>&1; id -u; id -g; pwd; hostname; echo $WORD; cat /host/canary; echo kept > /v/f; cat /v/f; touch /x || touch /host/x || tty",
    ]);
    request.entrypoint = vec!["/bin/sh".into()];
    request.env = vec![("WORD".into(), SecretString::from("two  words=$x"))];
    request.user = Some("0:7".into());
    request.workdir = Some("/tmp".into());
    request.read_only = true;
    request.mounts = vec![
        EngineMount::Volume { name: volume.clone(), path: "/v".into(), read_only: false },
        EngineMount::Bind { source: folder.path().display().to_string(), path: "/host".into(), read_only: true },
    ];
    let name = request.name.clone();
    let said = own.says(request).await;
    assert_eq!(said[..7], ["0", "7", "/tmp", "box", "two words=$x", "from the host", "kept"], "{said:#?}");
    assert_eq!(said.iter().filter(|line| line.contains("Read-only file system")).count(), 2, "{said:#?}");
    assert_eq!(said.last().map(String::as_str), Some("not a tty"));

    let details = own.details(&name).await;
    assert!(details.env_names.contains(&"WORD".to_owned()), "{:?}", details.env_names);
    assert!(!format!("{details:?}").contains("two  words"), "a value is no name");
    let mut mounts = details.summary.mounts.clone();
    mounts.sort();
    let mut expected = vec![(volume, "/v".to_owned()), (folder.path().display().to_string(), "/host".to_owned())];
    expected.sort();
    assert_eq!((mounts, details.summary.networks, details.tty), (expected, vec!["none".to_owned()], false));
}

#[tokio::test]
async fn the_list_tells_what_runs_and_where() {
    let own = Own::new().await;
    let first = two_free_ports();
    let mut request = own.request(&["sleep", "1000"]);
    request.network = Some("bridge".into());
    request.ports = vec![published((first, first))];
    request.labels.insert("colour".into(), "blue".into());
    request.healthcheck = Some(Healthcheck {
        test: vec!["CMD-SHELL".into(), "echo well; exit $(cat /ill 2>/dev/null || echo 0)".into()],
        interval_ms: Some(100),
        timeout_ms: Some(5000),
        start_period_ms: None,
        retries: Some(1),
    });
    let name = request.name.clone();
    let id = own.start(request).await.expect("starts");
    let is_well = |details: &ContainerDetails| details.summary.health == Some(Health::Healthy) && !details.health_log.is_empty();
    let well = own.until(&id, is_well).await;
    assert!(well.health_log.iter().any(|(code, said)| (*code, said.as_str()) == (0, "well\n")), "{well:?}");
    let all = own.docker.containers(None).await.expect("lists");
    let listed = all.iter().find(|one| one.id == id).expect("is in it");
    assert_eq!((listed.name.as_str(), listed.state, listed.health), (&*name, ContainerState::Running, Some(Health::Healthy)));
    assert_eq!(listed.labels.get("colour").map(String::as_str), Some("blue"));
    assert_eq!(listed.networks, ["bridge"]);
    assert_eq!(listed.ports.len(), 1, "{:?}", listed.ports);
    let open = &listed.ports[0];
    assert_eq!((open.container, open.host), (80, Some(("127.0.0.1".parse().expect("an address"), first))));
    assert_eq!(own.docker.containers(Some(&id)).await.expect("lists").len(), 1);
    assert!(well.addresses.contains_key("bridge"), "{:?}", well.addresses);
    cli(&["exec", &id, "sh", "-c", "echo 1 > /ill"]);
    own.until(&id, |details| details.summary.health == Some(Health::Unhealthy)).await;
}

#[tokio::test]
async fn processes_changes_and_sizes_are_told() {
    let own = Own::new().await;
    let id = own.shell("echo hello > /new; rm /bin/vi; echo >> /etc/passwd; echo done; exec sleep 1000").await;
    own.line(&id, "done").await;
    let top = own.docker.processes(&id).await.expect("answers");
    assert!(top.titles.contains(&"PID".to_owned()), "{top:?}");
    assert!(top.rows.iter().flatten().any(|cell| cell.ends_with("sleep 1000")), "{top:?}");
    let changes = own.docker.changes(&id).await.expect("answers");
    for (path, kind) in
        [("/new", FileChangeKind::Added), ("/bin/vi", FileChangeKind::Deleted), ("/etc/passwd", FileChangeKind::Modified)]
    {
        assert!(changes.contains(&FileChange { path: path.into(), kind }), "{path}: {changes:?}");
    }
    let sized = own.docker.inspect(&id, true).await.expect("answers").expect("is there");
    let (own_layer, all) = sized.size.expect("was asked for");
    assert!(own_layer > 0 && all > own_layer, "{own_layer} {all}");
    assert_eq!(own.details(&id).await.size, None);
    own.docker.kill(&id, "SIGKILL").await.expect("ends");
    own.ended(&id).await;
    assert_eq!(own.docker.processes(&id).await.expect_err("it has none").code, "container_not_running");
}

#[tokio::test]
async fn one_that_fails_is_started_again_as_often_as_was_said() {
    let own = Own::new().await;
    let mut request = own.request(&["sh", "-c", "exit 3"]);
    request.restart = RestartPolicy::OnFailure(2);
    let id = own.start(request).await.expect("starts");
    let ended = own.until(&id, |details| details.restarts == 2 && details.summary.state == ContainerState::Exited).await;
    assert_eq!(ended.exit_code, 3);
}

#[tokio::test]
async fn an_images_labels_do_not_speak_for_us() {
    let own = Own::new().await;
    let tag = format!("{}:1", unique("spoof"));
    let parent = cli(&["create", "--label", &format!("dockwright.installation={}", own.token), "busybox", "true"]);
    cli(&["commit", "-c", &format!("LABEL {OWNER}=bob {APP}=his own=fine"), &parent, &tag]);
    let mut request = own.request(&["true"]);
    request.image = cli(&["inspect", "-f", "{{.Id}}", &tag]).parse().expect("a digest");
    request.labels.insert(OWNER.to_owned(), "ada".to_owned());
    let id = own.docker.create(request).await.expect("creates");
    let labels = own.details(&id).await.summary.labels;
    let expected = [("dockwright.installation", &*own.token), (OWNER, "ada"), ("own", "fine")];
    assert_eq!(
        labels,
        expected.map(|(label, value)| (label.to_owned(), value.to_owned())).into_iter().collect::<BTreeMap<_, _>>()
    );
    own.docker.remove(&id, true).await.expect("goes");
    cli(&["rmi", &tag]);
}

#[tokio::test]
async fn alone_a_thousand_containers_are_one_call() {
    let own = Own::new().await;
    let one = |_| own.docker.create(own.request(&["true"]));
    let made: Vec<_> = futures::stream::iter(0..1000).map(one).buffer_unordered(8).collect().await;
    assert!(made.iter().all(Result::is_ok), "{:?}", made.iter().find(|one| one.is_err()));
    let asked = Instant::now();
    let all = own.docker.containers(None).await.expect("lists");
    let took = asked.elapsed();
    let ours = all.iter().filter(|one| one.labels.values().any(|value| *value == own.token)).count();
    assert_eq!(ours, 1000);
    assert!(took < Duration::from_secs(3), "{took:?}");
}
