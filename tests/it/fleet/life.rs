//! What a run is told to have done, from its beginning to its history.

use std::time::Duration;

use dockwright::apps::Deed;
use dockwright::domain::{Quota, RunId, RunState};
use dockwright::engine::containers::Containers;
use dockwright::error::Error;
use dockwright::fleet::{Whose, sweep_once};
use serde_json::json;

use super::{Node, ada, eventually, person};
use crate::engine::docker;
use crate::support::service::Backend;

async fn a_run_goes_to_its_end(backend: Backend) {
    let node = Node::start(backend).await;
    let run = node.run(json!({"command": ["sh", "-c", "echo out; echo err >&2; exit 3"]})).await;
    assert_eq!(run.state, RunState::Pending, "accepted at once");
    let run = node.comes_to(run.id, RunState::Exited).await;
    assert_eq!((run.exit_code, run.oom_killed, run.state.letter()), (Some(3), false, "F"));
    assert!(run.started_at.is_some() && run.started_at <= run.finished_at, "{run:#?}");
    let texts = node.texts(run.id).await;
    for line in ["out", "err", "ended with exit code 3"] {
        assert!(texts.iter().any(|text| text == line), "{line}: {texts:?}");
    }
    assert_eq!(texts.last().map(String::as_str), Some("ended with exit code 3"));
    // Its container stays until somebody removes it; the log stays longer.
    let container = run.container.clone().expect("it had a container");
    node.apps().remove_container(&ada(), &container, false).await.expect("removed");
    assert!(node.on_engine().await.is_empty());
    assert_eq!(node.texts(run.id).await, texts, "the log outlives the container");
    let held = node.fleet().records().holdings(&run.owner).await.expect("answers");
    assert_eq!(held.containers(), 0);
    node.apps().remove_run(&ada(), run.id).await.expect("removed");
    assert!(matches!(node.apps().run(&ada(), run.id).await, Err(Error::NotFound(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_goes_to_its_end_embedded() {
    a_run_goes_to_its_end(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_goes_to_its_end_with_redis() {
    a_run_goes_to_its_end(Backend::Redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_run_says_why_in_the_engines_words() {
    let node = Node::start(Backend::Sqlite).await;
    let run = node.run(json!({"command": ["no-such-program"]})).await;
    let run = node.comes_to(run.id, RunState::Failed).await;
    let error = run.error.clone().expect("told");
    assert_eq!(error.code, "command_failed_to_start", "{error:?}");
    assert!(error.message.contains("no-such-program"), "{error:?}");
    let run = node.run(json!({"image": "127.0.0.1:5000/never/pushed:1"})).await;
    let run = node.comes_to(run.id, RunState::Failed).await;
    let error = run.error.clone().expect("told");
    assert_eq!(error.code, "image_not_found", "{error:?}");
    assert!(error.message.contains("never/pushed"), "verbatim: {error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_does_at_the_engine_is_told() {
    let node = Node::start(Backend::Sqlite).await;
    let run = node.run(json!({"command": ["sleep", "300"]})).await;
    let container = node.comes_to(run.id, RunState::Running).await.container.expect("it has a container");
    docker().stop(&container, Duration::from_secs(10)).await.expect("stopped");
    let ended = node.comes_to(run.id, RunState::Exited).await;
    assert_eq!(ended.exit_code, Some(143), "SIGTERM");
    docker().start(&container).await.expect("started");
    let again = node.comes_to(run.id, RunState::Running).await;
    assert!(again.finished_at.is_none() && again.exit_code.is_none(), "{again:#?}");
    docker().remove(&container, true).await.expect("removed");
    let lost = node.comes_to(run.id, RunState::Failed).await;
    assert_eq!(lost.error.map(|error| error.code).as_deref(), Some("container_removed"));
    assert!(lost.removed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_is_stopped_started_restarted_and_killed() {
    let node = Node::start(Backend::Sqlite).await;
    let run = node.run(json!({"command": ["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 1 & wait; done"]})).await;
    node.comes_to(run.id, RunState::Running).await;
    let id = run.id.to_string();
    let act = |deed: Deed| {
        let id = id.clone();
        let apps = node.apps().clone();
        async move { apps.act(&ada(), &id, &deed).await.map(drop) }
    };
    act(Deed::Stop(None)).await.expect("stopped");
    let stopped = node.look(run.id).await;
    assert_eq!((stopped.state, stopped.exit_code), (RunState::Stopped, Some(7)), "it could end by itself");
    act(Deed::Start).await.expect("started");
    assert_eq!(node.look(run.id).await.state, RunState::Running);
    act(Deed::Restart(Some(Duration::ZERO))).await.expect("restarted");
    let again = node.look(run.id).await;
    assert_eq!(again.state, RunState::Running);
    act(Deed::Kill("SIGKILL".into())).await.expect("killed");
    let killed = node.look(run.id).await;
    assert_eq!((killed.state, killed.exit_code), (RunState::Stopped, Some(137)));
    assert!(matches!(act(Deed::Kill("SIGHUP".into())).await, Err(Error::Conflict { code: "not_running", .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_pull_serves_many_runs() {
    let node = Node::start(Backend::Sqlite).await;
    let image = crate::support::published_image("pulled");
    let runs = futures::future::join_all((0..4).map(|_| node.run(json!({"image": image, "command": ["true"]})))).await;
    for run in runs {
        let run = node.comes_to(run.id, RunState::Exited).await;
        assert!(run.image.as_deref().is_some_and(|image| image.contains("@sha256:")), "pinned: {run:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_that_runs_out_is_told() {
    let node = Node::start(Backend::Sqlite).await;
    // Looks for the end of a line that has none.
    let run = node.run(json!({"command": ["tail", "/dev/zero"], "memory": "16m"})).await;
    let run = node.comes_to(run.id, RunState::Exited).await;
    assert!(run.oom_killed, "{run:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_are_kept_and_given_back() {
    let node = Node::start(Backend::Sqlite).await;
    let bob = person("bob", Quota { containers: Some(2), memory_bytes: Some(64 << 20), ..Quota::default() });
    let sleeper = json!({"command": ["sleep", "300"], "memory": "48m"});
    let first = node.try_run(&bob, sleeper.clone()).await.expect("there is room");
    let over = node.try_run(&bob, sleeper.clone()).await.expect_err("no memory is left");
    assert!(over.to_string().contains("memory_bytes") && over.to_string().contains("67108864"), "{over}");
    node.apps()
        .wait_run(&bob, first.id, Duration::from_secs(60), &|run| run.body.state == RunState::Running)
        .await
        .expect("runs");
    node.apps().stop_run(&bob, first.id).await.expect("stopped");
    let second = node.try_run(&bob, sleeper.clone()).await.expect("its memory is given back");
    let over = node.try_run(&bob, json!({"command": ["true"], "memory": "8m"})).await.expect_err("two containers are there");
    assert!(over.to_string().contains("containers"), "{over}");
    node.apps().remove_run(&bob, first.id).await.expect("removed");
    node.apps().remove_run(&bob, second.id).await.expect("a live one is stopped first");
    node.try_run(&bob, sleeper).await.expect("there is room again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_of_ours_without_a_record_goes() {
    let node = Node::start(Backend::Sqlite).await;
    let run = node.run(json!({"command": ["sleep", "300"]})).await;
    let run = node.comes_to(run.id, RunState::Running).await;
    let stranger = std::process::Command::new("docker")
        .args(["run", "-d", "--label", &format!("dockwright.installation={}", node.installation())])
        .args(["--label", &format!("dockwright.run={}", RunId::new()), "busybox", "sleep", "300"])
        .output()
        .expect("the docker client");
    let stranger = String::from_utf8(stranger.stdout).expect("text").trim().to_owned();
    let fleet = node.fleet();
    let whose =
        || fleet.containers(&dockwright::domain::Scope::All).expect("known").into_iter().find(|c| c.summary.id == stranger);
    eventually("it is seen", || async { whose().is_some() }).await;
    assert_eq!(whose().map(|seen| seen.whose.clone()), Some(Whose::Orphan));
    sweep_once(fleet, Duration::from_secs(3600)).await.expect("a pass");
    assert!(docker().inspect(&stranger, false).await.expect("answers").is_some(), "it is too young");
    sweep_once(fleet, Duration::ZERO).await.expect("a pass");
    assert!(docker().inspect(&stranger, false).await.expect("answers").is_none());
    assert_eq!(node.look(run.id).await.state, RunState::Running, "what has a record is left alone");
}
