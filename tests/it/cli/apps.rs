//! Apps, runs and containers from the command line.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use serde_json::{Value, json};

use super::person::Person;
use crate::support::harbor::{Harbor, fetched, harbor, word};
use crate::support::service::{Backend, docker};
use crate::support::unique;

/// A service, and ada at the command line.
async fn ada() -> (Harbor, Person) {
    let harbor = harbor(Backend::Sqlite).await;
    let token = harbor.user("ada").await;
    let ada = Person::of(&harbor, &token);
    (harbor, ada)
}

/// What stands behind a field of one object that is shown.
fn field<'a>(shown: &'a str, name: &str) -> &'a str {
    let line = shown.lines().find(|line| line.split_whitespace().next() == Some(name));
    line.unwrap_or_else(|| panic!("no {name}: {shown}"))[name.len()..].trim()
}

const WEB: &str = "mkdir -p /www; echo $GREETING > /www/index.html; exec httpd -f -p 8080 -h /www";

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_made_started_changed_and_removed() {
    let (_harbor, ada) = ada().await;
    let create =
        "app create web --image busybox -e GREETING=servus -p 8080 -v www:/data:ro -m 64m --cpus 0.5 --label a=b -- sh -c";
    let made = ada.with(create, WEB).well().out;
    assert_eq!((field(&made, "memory"), field(&made, "cpus"), field(&made, "state.live")), ("64m", "0.5", "-"), "{made}");
    ada.with(create, WEB).refused("name_taken, 409");
    let shown = ada.shows("app show web");
    assert_eq!((field(&shown, "env"), field(&shown, "labels")), (r#"{"GREETING":"servus"}"#, r#"{"a":"b"}"#));
    let started = ada.run("app run web --wait").well().out;
    assert_eq!((field(&started, "state"), field(&started, "status"), field(&started, "app.name")), ("running", "R", "web"));
    let listed = ada.shows("ps");
    let (name, id) = (field(&started, "container_name").to_owned(), field(&started, "container").to_owned());
    assert!(listed.contains(&name) && listed.contains(&id[..12]) && listed.contains("->8080/tcp"), "{listed}");
    let inspected = ada.shows(&format!("inspect {name}"));
    assert_eq!((field(&inspected, "id"), field(&inspected, "limits.memory"), field(&inspected, "app")), (&*id, "64m", "web"));
    let port = field(&inspected, "ports").split("->").next().expect("a port").to_owned();
    assert_eq!(fetched(&format!("http://127.0.0.1:{port}/")).await, "servus\n");
    let changed = ada.run("app set web -e GREETING=hallo --pids 50").well().out;
    assert_eq!(
        (field(&changed, "state.restart_needed"), field(&changed, "pids"), field(&changed, "memory")),
        ("true", "50", "64m")
    );
    let table = ada.shows("app list");
    let row: Vec<&str> = table.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(row[..5], ["ada", "web", "docker.io/library/busybox:latest", "1", "true"], "{table}");
    ada.run("app rm web").refused("app_runs, 409");
    assert_eq!(ada.run("app rm web -f").well().err, "removed\n");
    ada.run("app show web").refused("there is no such app (not_found, 404)");
    assert_eq!(ada.run("ps -a --json").json(), json!([]));
    assert_eq!(ada.run("ps -a").well().out.lines().count(), 1, "the head alone");
    assert_eq!(docker(&["ps", "-aq", "--no-trunc", "--filter", &format!("id={id}")]), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_stopped_started_signalled_and_removed() {
    let (_harbor, ada) = ada().await;
    let script = "trap 'echo hup' HUP; trap 'echo term; exit 5' TERM; echo begun; while :; do sleep 0.1; done";
    let run = ada.with("run once --image busybox --network none --wait --json -- sh -c", script).json();
    let name = word(&run["container_name"]).to_owned();
    let mut follow = ada.command("logs -f", &[&name]).stdout(Stdio::piped()).spawn().expect("the binary runs");
    let mut lines = BufReader::new(follow.stdout.take().expect("piped")).lines().map(|line| line.expect("text"));
    assert_eq!(lines.next().as_deref(), Some("begun"));
    ada.run(&format!("kill -s HUP {name}")).well();
    assert_eq!(lines.next().as_deref(), Some("hup"));
    ada.run(&format!("kill -s NOPE {name}")).refused("signal: \"NOPE\" is no signal");
    let stopped = ada.run(&format!("stop -g 20s {name}")).well().out;
    assert_eq!((field(&stopped, "state"), field(&stopped, "exit_code")), ("exited", "5"));
    assert_eq!((lines.next().as_deref(), lines.next()), (Some("term"), None), "what is followed ends with the container");
    assert_eq!(follow.wait().expect("ends").code(), Some(0));
    assert_eq!(ada.run("ps --json").json(), json!([]));
    assert!(ada.shows("ps -a").contains(&name));
    assert_eq!(field(&ada.run(&format!("start {name}")).well().out, "state"), "running");
    assert_eq!(field(&ada.run(&format!("restart -g 1s {name}")).well().out, "state"), "running");
    ada.run(&format!("stop -g 1h {name}")).refused("grace: may be 10m at most");
    ada.run(&format!("rm {name}")).refused("container_runs, 409");
    ada.run(&format!("rm -f {name}")).well();
    ada.run(&format!("logs {name}")).refused("there is no such container");
    let id = word(&run["id"]);
    let history = ada.shows(&format!("run show {id}"));
    assert_eq!((field(&history, "container_removed"), field(&history, "status")), ("true", "F"));
    assert!(ada.run(&format!("run logs {id}")).well().out.contains("begun"), "the run keeps them");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_listed_stopped_and_removed_and_a_failed_one_is_told() {
    let (_harbor, ada) = ada().await;
    ada.run("app create one --image busybox --network none -- sleep 100000").well();
    let run = ada.run("app run one --wait --json").json();
    let id = word(&run["id"]);
    ada.run("run once --image busybox --network none --wait -- true").well();
    let table = ada.shows("run list");
    assert_eq!(table.lines().count(), 3, "{table}");
    let table = ada.shows("run list --app one");
    assert!(table.lines().count() == 2 && table.contains(id) && table.contains(" R "), "{table}");
    assert_eq!(field(&ada.run(&format!("run stop {id}")).well().out, "state"), "stopped");
    ada.run(&format!("run stop {id}")).refused("already_finished, 409");
    ada.run(&format!("run rm {id}")).well();
    ada.run(&format!("run show {id}")).refused("there is no such run");
    ada.run("run show nonsense").refused("run: ");
    let line = "run once --image 127.0.0.1:5000/no/such --wait";
    let ended = ada.run(line);
    assert_eq!((field(&ended.out, "state"), field(&ended.out, "error.code")), ("failed", "image_not_found"));
    ended.refused("manifest");
    let failed = ada.run(&format!("{line} --json"));
    assert_eq!(serde_json::from_str::<Value>(&failed.out).expect("JSON alone")["error"]["code"], "image_not_found");
    failed.refused("error: the run has failed: ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_read_from_its_end_with_times_and_by_its_app() {
    let (_harbor, ada) = ada().await;
    ada.with("app create count --image busybox --network none -- sh -c", "for i in 1 2 3 4; do echo line $i; done; echo err >&2")
        .well();
    ada.run("logs count").refused("the app has no container");
    let run = ada.run("app run count --json").json();
    let id = word(&run["id"]).to_owned();
    let followed = ada.run(&format!("run logs -f {id}")).well().out;
    // The two pipes of a container are two: only within each there is an order.
    let counted =
        |log: &str| log.lines().filter(|line| line.starts_with("line ")).collect::<String>() == "line 1line 2line 3line 4";
    assert!(counted(&followed) && followed.contains("ended with exit code 0"), "notes and output: {followed}");
    let all = ada.run("logs count").well().out;
    assert!(counted(&all) && all.contains("err\n") && all.lines().count() == 5, "{all}");
    assert_eq!(ada.run("logs -n 2 count").well().out.lines().count(), 2);
    assert_eq!(ada.run("logs -f count").well().out, all, "it has ended, and so does who follows");
    let timed = ada.run("logs -t --tail 1 count").well().out;
    assert!(timed.split(' ').next().is_some_and(|at| at.len() == 24 && at.ends_with('Z')), "{timed}");
    ada.run("logs count --tail 100001").refused("tail: ");
    // A reader that has enough ends it without a complaint.
    let endless = ada.run("run once --image busybox --network none --wait --json -- yes").json();
    let mut child = ada.command("logs -f", &[word(&endless["container_name"])]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    child.stdout.take().expect("piped").read_exact(&mut [0; 100]).expect("begins");
    let output = child.wait_with_output().expect("ends");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    ada.run(&format!("run rm {}", word(&endless["id"]))).well();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_container_uses_is_told_until_it_ends() {
    let (_harbor, ada) = ada().await;
    ada.run("app create busy --image busybox --network none -m 64m -- sleep 100000").well();
    let name = word(&ada.run("app run busy --wait --json").json()["container_name"]).to_owned();
    let once = ada.shows("stats --once busy");
    assert_eq!(field(&once, "memory_limit_bytes"), (64 << 20).to_string(), "{once}");
    assert!(field(&once, "memory_bytes").parse::<u64>().is_ok_and(|bytes| bytes > 1000), "{once}");
    let mut stats = ada.command("stats", &[&name]).stdout(Stdio::piped()).spawn().expect("the binary runs");
    let mut lines = BufReader::new(stats.stdout.take().expect("piped")).lines().map(|line| line.expect("text"));
    let head = lines.next().expect("a head");
    assert!(head.starts_with("AT ") && head.contains(" MILLI_CPUS ") && head.contains(" PIDS "), "{head}");
    for _ in 0..2 {
        let sample = lines.next().expect("a sample");
        assert_eq!(sample.split_whitespace().count(), head.split_whitespace().count(), "{sample}");
        assert!(!sample.contains(" - "), "{sample}");
    }
    ada.run(&format!("stop -g 1s {name}")).well();
    assert!(lines.count() < 20, "it ends with the container");
    assert_eq!(stats.wait().expect("ends").code(), Some(0));
    ada.run(&format!("stats {name}")).refused("not_running, 409");
    ada.run("stats busy").refused("nothing of the app runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_and_networks_are_made_shown_and_removed_unless_they_are_used() {
    let (_harbor, ada) = ada().await;
    for (kind, mount, code) in
        [("volume", "-v mine:/mine --network none", "volume_in_use"), ("network", "--network mine", "network_in_use")]
    {
        ada.run(&format!("{kind} create mine")).well();
        ada.run(&format!("{kind} create mine")).refused("name_taken, 409");
        ada.run(&format!("{kind} create Not_A_Name")).refused("name");
        let run = ada.run(&format!("run once --image busybox {mount} --wait --json -- sleep 100000")).json();
        let shown = ada.shows(&format!("{kind} show mine"));
        assert_eq!((field(&shown, "owner"), field(&shown, "used_by")), ("ada", word(&run["container_name"])));
        assert!(ada.shows(&format!("{kind} list")).lines().any(|line| line.starts_with("ada    mine ")));
        ada.run(&format!("{kind} rm mine")).refused(code);
        ada.run(&format!("run rm {}", word(&run["id"]))).well();
        ada.run(&format!("{kind} rm mine")).well();
        ada.run(&format!("{kind} show mine")).refused(&format!("there is no such {kind} (not_found, 404)"));
    }
    ada.run("volume create large").well();
    assert!(ada.shows("volume list --usage").contains("BYTES"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_says_whose_app_is_meant() {
    let (harbor, ada) = ada().await;
    let (bob, admin) = (Person::of(&harbor, &harbor.user("bob").await), Person::of(&harbor, &harbor.token));
    for person in [&ada, &bob] {
        person.run("app create same --image busybox --network none -- sleep 100000").well();
        person.run("volume create same").well();
    }
    let table = admin.run("app list").well().out;
    assert!(table.contains("\nada ") && table.contains("\nbob "), "{table}");
    assert_eq!(admin.run("app list --owner bob --json").json().as_array().map(Vec::len), Some(1));
    admin.run("app show same").refused("not_found");
    assert_eq!(admin.run("app show same --owner bob --json").json()["owner"], "bob");
    admin.run("app set same --owner bob -m 32m").well();
    assert_eq!(
        (field(&bob.shows("app show same"), "memory"), field(&ada.shows("app show same"), "memory") == "32m"),
        ("32m", false)
    );
    admin.run("app run same --owner bob --wait").well();
    assert_eq!(admin.run("ps --owner bob --app same --json").json().as_array().map(Vec::len), Some(1));
    assert_eq!(admin.run("run list --app same --owner bob --json").json()[0]["owner"], "bob");
    assert_eq!((ada.run("ps --json").json(), ada.run("run list --json").json()), (json!([]), json!([])));
    admin.run("app rm same --owner bob --force").well();
    admin.run("volume rm same --owner bob").well();
    assert_eq!(bob.run("volume list --json").json(), json!([]));
    assert_eq!(ada.run("volume list --json").json().as_array().map(Vec::len), Some(1));
}

/// A secret is said once, on standard input, and told to nobody but the container.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_in_nothing_that_is_shown() {
    let (_harbor, ada) = ada().await;
    let secret = unique("canary");
    let line = "app create keeper --image busybox --network none -e PLAIN=seen --secrets-stdin -- sleep 100000";
    let mut told = String::new();
    let mut tell = |ended: super::person::Ended| {
        told += &ended.out;
        told += &ended.err;
    };
    tell(ada.say(&format!("TOKEN={secret}=x\n\nOTHER={secret}\n"), line).well());
    tell(ada.say(&format!("ONE=fine\n{secret}\n"), "app set keeper --secrets-stdin"));
    tell(ada.say(&format!("1BAD={secret}\n"), "app set keeper --secrets-stdin"));
    let run = ada.run("app run keeper --wait --json").json();
    let (id, name) = (word(&run["id"]), word(&run["container_name"]));
    let lines = [format!("run show {id}"), format!("run logs {id}"), format!("inspect {name}"), format!("logs {name}")];
    for line in ["app show keeper", "app list", "run list", "ps"].into_iter().chain(lines.iter().map(String::as_str)) {
        tell(ada.run(line).well());
        tell(ada.run(&format!("{line} --json")));
    }
    assert!(!told.contains(&secret), "{told}");
    assert!(told.contains("line 2 of standard input is not NAME=VALUE") && told.contains("env.1BAD"), "{told}");
    assert!(told.contains(r#""TOKEN":{"secret":true}"#) && told.contains("seen"), "{told}");
    assert_eq!(ada.with("exec keeper sh -c", "echo $TOKEN $OTHER").well().out, format!("{secret}=x {secret}\n"));
}
