//! What is asked of a container is what runs.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::gate::Gate;
use crate::support::harbor::{Harbor, fetched, harbor, harbor_with, web, word};
use crate::support::seen;
use crate::support::service::{Backend, docker, id};
use crate::support::watch::until;

async fn a_web_server_is_reached_through_its_port(backend: Backend) {
    let harbor = harbor(backend).await;
    let ada = harbor.user("ada").await;
    let app = harbor.app(&ada, "web", web("hello")).await;
    assert_eq!((&app["owner"], &app["name"], &app["generation"]), (&"ada".into(), &"web".into(), &1.into()), "{app}");
    assert_eq!(app["state"], json!({"live": [], "restart_needed": false, "restart_fields": [], "last_run": null}));
    let run = harbor.start_app(&ada, "web").await;
    assert_eq!((&run["status"], &run["app"]["name"]), (&"R".into(), &"web".into()), "{run}");
    let run = harbor.runs(&ada, &run).await;
    // The id works in Docker's own tools, too.
    let container = word(&run["container"]).to_owned();
    assert_eq!(docker(&["inspect", "-f", "{{.Name}}", &container]), format!("/{}", word(&run["container_name"])));
    let shown = harbor.read(&ada, &format!("/api/v1/containers/{container}")).await;
    let port = &shown["ports"][0];
    assert_eq!((&port["container"], &port["protocol"], &port["address"]), (&8080.into(), &"tcp".into(), &"127.0.0.1".into()));
    assert_eq!(port["url"], format!("http://127.0.0.1:{}", port["host"]));
    assert!((20_000..=29_999).contains(&port["host"].as_u64().expect("a port")), "{port}");
    assert_eq!(fetched(word(&port["url"])).await, "hello\n");
    assert_eq!((&shown["networks"], &shown["managed"], &shown["app"]), (&json!(["default"]), &true.into(), &"web".into()));
    let state = harbor.read(&ada, "/api/v1/apps/web").await["state"].clone();
    assert_eq!(state, json!({"live": [id(&run)], "restart_needed": false, "restart_fields": [], "last_run": id(&run)}));
    let stopped = harbor.done(&ada, Method::POST, &format!("/api/v1/runs/{}/stop", id(&run)), Value::Null).await;
    assert_eq!((&stopped["state"], &stopped["status"]), (&"stopped".into(), &"F".into()), "{stopped}");
    let again = harbor.call(&ada, Method::POST, &format!("/api/v1/runs/{}/stop", id(&run)), Value::Null).await;
    assert_eq!((again.0, &again.1["code"]), (StatusCode::CONFLICT, &"already_finished".into()));
    assert!(reqwest::get(word(&port["url"])).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_server_is_reached_through_its_port_with_the_embedded_store() {
    a_web_server_is_reached_through_its_port(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_server_is_reached_through_its_port_with_redis() {
    a_web_server_is_reached_through_its_port(Backend::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn command_entrypoint_user_workdir_and_env_are_what_was_said() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    let said = json!({"entrypoint": ["sh", "-c"], "command": ["id -u; id -g; pwd; echo $PLAIN; echo $HIDDEN; touch /x 2>&1 || echo no"],
        "user": "1000:1001", "workdir": "/var/spool", "read_only": true, "network": "none",
        "env": {"PLAIN": "as it is", "HIDDEN": {"secret": "pst"}}});
    let run = harbor.run(&ada, said).await;
    let over = harbor.over(&ada, &run).await;
    assert_eq!((&over["state"], &over["exit_code"]), (&"exited".into(), &0.into()), "{over}");
    let told = harbor.output(&ada, &run).await;
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[..5], ["1000", "1001", "/var/spool", "as it is", "pst"], "{told}");
    assert!(told.contains("Read-only file system") && lines.contains(&"no"), "{told}");
    // A secret goes in, and never comes out again.
    let masked = json!({"PLAIN": "as it is", "HIDDEN": {"secret": true}});
    assert_eq!(over["spec"]["env"], masked);
    let shown = harbor.read(&ada, &format!("/api/v1/containers/{}", id(&run))).await;
    assert_eq!((&shown["env"]["HIDDEN"], &shown["env"]["PATH"]), (&json!({"secret": true}), &Value::Null), "{shown}");
    for path in ["/api/v1/runs", "/api/v1/containers", &format!("/api/v1/runs/{}/logs?tail=0", id(&run))] {
        assert!(!harbor.call(&ada, Method::GET, path, Value::Null).await.1.to_string().contains("pst"), "{path}");
    }
    assert_eq!(docker(&["inspect", "-f", "{{.HostConfig.NetworkMode}}", word(&over["container"])]), "none");
}

/// Whether the engine knows why the kernel has killed a container; what is told is what it knows.
async fn out_of_memory(harbor: &Harbor, token: &str) -> bool {
    let greedy = json!({"command": ["sh", "-c", "x=a; while true; do x=$x$x; done"], "memory": "16m", "network": "none"});
    let greedy = harbor.run(token, greedy).await;
    let greedy = harbor.over(token, &greedy).await;
    assert_eq!((&greedy["state"], &greedy["exit_code"]), (&"exited".into(), &137.into()), "{greedy}");
    let known = docker(&["inspect", "-f", "{{.State.OOMKilled}}", word(&greedy["container"])]) == "true";
    assert_eq!(greedy["oom_killed"], known, "{greedy}");
    assert_eq!(harbor.run_log(token, &greedy).await.contains("out of memory"), known, "{greedy}");
    known
}

#[tokio::test(flavor = "multi_thread")]
async fn endings_are_told_as_they_were() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    let seven = harbor.run(&ada, json!({"command": ["sh", "-c", "exit 7"], "network": "none"})).await;
    let seven = harbor.over(&ada, &seven).await;
    assert_eq!((&seven["state"], &seven["exit_code"], &seven["oom_killed"]), (&"exited".into(), &7.into(), &false.into()));
    assert!(seven["started_at"].is_string() && seven["finished_at"].is_string() && seven["error"].is_null(), "{seven}");
    // Of 60 such containers on a busy machine the engine (20.10) itself never heard from the kernel why one of them was killed.
    let mut whys = Vec::new();
    while whys.last() != Some(&true) && whys.len() < 5 {
        whys.push(out_of_memory(&harbor, &ada).await);
    }
    assert_eq!(whys.last(), Some(&true), "{whys:?}");
    let bad = harbor.run(&ada, json!({"command": ["no-such-program"], "network": "none"})).await;
    let bad = harbor.over(&ada, &bad).await;
    assert_eq!(bad["state"], "failed", "{bad}");
    assert_eq!((&bad["error"]["kind"], &bad["error"]["code"]), (&"user".into(), &"command_failed_to_start".into()), "{bad}");
    assert!(word(&bad["error"]["message"]).contains("no-such-program"), "{bad}");
    let always = json!({"command": ["sh", "-c", "exit 3"], "restart": "on-failure:2", "network": "none"});
    let always = harbor.run(&ada, always).await;
    let always = harbor.over(&ada, &always).await;
    assert_eq!((&always["restarts"], &always["exit_code"]), (&2.into(), &3.into()), "{always}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_of_one_app_live_at_once() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    harbor.app(&ada, "web", web("one")).await;
    let (one, two) = tokio::join!(harbor.start_app(&ada, "web"), harbor.start_app(&ada, "web"));
    let (one, two) = (harbor.runs(&ada, &one).await, harbor.runs(&ada, &two).await);
    assert_ne!(one["container"], two["container"]);
    let (first, second) = (harbor.link(&ada, &one).await, harbor.link(&ada, &two).await);
    assert_ne!(first, second);
    assert_eq!((fetched(&first).await, fetched(&second).await), ("one\n".to_owned(), "one\n".to_owned()));
    // A change is followed by new runs alone.
    let changed = harbor.done(&ada, Method::PATCH, "/api/v1/apps/web", json!({"command": ["sh", "-c", "echo new"]})).await;
    assert_eq!((&changed["state"]["restart_needed"], &changed["generation"]), (&true.into(), &2.into()), "{changed}");
    let history = harbor.read(&ada, "/api/v1/apps/web/runs").await;
    assert_eq!(history["items"].as_array().expect("a list").len(), 2);
    let refused = harbor.call(&ada, Method::DELETE, "/api/v1/apps/web", Value::Null).await;
    assert_eq!((refused.0, &refused.1["code"]), (StatusCode::CONFLICT, &"app_runs".into()));
    harbor.done(&ada, Method::DELETE, "/api/v1/apps/web?force=true", Value::Null).await;
    assert_eq!(harbor.read(&ada, "/api/v1/containers").await["items"], json!([]));
    assert_eq!(harbor.read(&ada, "/api/v1/runs").await["items"], json!([]));
    assert_eq!(docker(&["ps", "-aq", "--no-trunc", "--filter", &format!("id={}", word(&one["container"]))]), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_container_says_of_its_health_is_shown() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    let fields = json!({"command": ["sleep", "600"], "network": "none", "healthcheck": {"test": "echo fine; test -e /tmp/well", "interval": "1s", "retries": 1}});
    let run = harbor.run(&ada, fields).await;
    let run = harbor.runs(&ada, &run).await;
    let path = format!("/api/v1/containers/{}", id(&run));
    let becomes = async |wanted: &str| {
        seen(wanted, async || Some(harbor.read(&ada, &path).await).filter(|shown| shown["health"] == wanted)).await
    };
    let ill = becomes("unhealthy").await;
    assert_eq!(ill["health_log"][0], json!({"exit_code": 1, "output": "fine\n"}), "{ill}");
    docker(&["exec", word(&run["container"]), "touch", "/tmp/well"]);
    becomes("healthy").await;
    // The list has it from the events.
    let listed = async || harbor.read(&ada, "/api/v1/containers").await["items"][0]["health"] == "healthy";
    until("the list has it", listed).await;
}

/// What is known of all containers follows the engine's events, which come later than its own answers.
async fn a_container_whose_start_is_not_yet_told_of_can_be_used(backend: Backend) {
    let gate = Gate::engine("/events", usize::MAX).await;
    let harbor = harbor_with(backend, |settings| settings.engine = Some(format!("tcp://{}", gate.address))).await;
    let ada = harbor.user("ada").await;
    let mut ended = Vec::new();
    for _ in 0..3 {
        let run = harbor.run(&ada, json!({"command": ["sleep", "600"], "network": "none"})).await;
        harbor.runs(&ada, &run).await;
        ended.push(harbor.done(&ada, Method::POST, &format!("/api/v1/runs/{}/stop", id(&run)), Value::Null).await);
    }
    gate.mute();
    for (run, (method, deed)) in
        ended.iter().zip([(Method::GET, "top"), (Method::GET, "stats"), (Method::POST, "kill?signal=CONT")])
    {
        let path = format!("/api/v1/containers/{}", id(run));
        let (status, told) = harbor.call(&ada, method.clone(), &format!("{path}/{deed}"), Value::Null).await;
        assert_eq!((status, &told["code"]), (StatusCode::CONFLICT, &"not_running".into()), "{deed}: {told}");
        docker(&["start", word(&run["container_name"])]);
        assert_eq!(harbor.read(&ada, &path).await["state"], "running");
        harbor.done(&ada, method, &format!("{path}/{deed}"), Value::Null).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_whose_start_is_not_yet_told_of_can_be_used_with_the_embedded_store() {
    a_container_whose_start_is_not_yet_told_of_can_be_used(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_whose_start_is_not_yet_told_of_can_be_used_with_redis() {
    a_container_whose_start_is_not_yet_told_of_can_be_used(Backend::Redis).await;
}
