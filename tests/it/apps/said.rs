//! What an image says of its containers is held to the bounds of what may be asked for.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::harbor::{Harbor, harbor, word};
use crate::support::service::{Backend, docker, dockerfile, id};
use crate::support::unique;

/// Builds the Dockerfile, and runs it with these fields until it is over.
async fn run_of(harbor: &Harbor, token: &str, file: &str, fields: Value) -> (Value, Value) {
    let build = harbor.submit_as(token, dockerfile(file).text("push", "false")).await;
    let mut fields = fields;
    fields["build"] = build["id"].clone();
    fields["network"] = "none".into();
    let run = harbor.run(token, fields).await;
    (harbor.over(token, &run).await, build)
}

fn config(run: &Value) -> Value {
    serde_json::from_str(&docker(&["inspect", "-f", "{{json .Config}}", word(&run["container"])])).expect("JSON")
}

async fn clean(harbor: &Harbor, token: &str, run: &Value, build: &Value) {
    harbor.done(token, Method::DELETE, &format!("/api/v1/runs/{}", id(run)), Value::Null).await;
    harbor.delete(build).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_images_healthcheck_is_bounded() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    let mark = unique("check");
    let file = format!(
        "FROM busybox\nLABEL mark={mark}\nHEALTHCHECK --interval=1ms --timeout=2ms --start-period=99h --retries=5000 CMD true\nCMD true\n"
    );
    let second = 1_000_000_000_u64;
    let day = 24 * 3600 * second;
    for (own, expected) in [
        (
            json!({}),
            json!({"Test": ["CMD-SHELL", "true"], "Interval": second, "Timeout": second, "StartPeriod": day, "Retries": 100}),
        ),
        (
            json!({"healthcheck": {"test": ["echo"], "timeout": "7s"}}),
            json!({"Test": ["CMD", "echo"], "Interval": second, "Timeout": 7 * second, "StartPeriod": day, "Retries": 100}),
        ),
        (json!({"healthcheck": {"disable": true}}), json!({"Test": ["NONE"]})),
    ] {
        let (run, build) = run_of(&harbor, &ada, &file, own).await;
        let check = &config(&run)["Healthcheck"];
        for (field, value) in expected.as_object().expect("an object") {
            assert_eq!(&check[field], value, "{field}: {check}");
        }
        clean(&harbor, &ada, &run, &build).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_of_an_image_speak_for_nobody() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    let reserved = ["com.docker.compose.project", "com.docker.swarm.task", "dockwright.name", "dockwright.owner", "Dockwright_x"];
    let labels: String = reserved.iter().map(|key| format!(" {key}=evil")).collect();
    let file = format!("FROM busybox\nLABEL team=blue{labels} mark={}\nCMD true\n", unique("labels"));
    let (run, build) = run_of(&harbor, &ada, &file, json!({})).await;
    let labels = &config(&run)["Labels"];
    for key in reserved {
        assert_ne!(labels[key], "evil", "{key}: {labels}");
    }
    assert_eq!((&labels["team"], &labels["dockwright.owner"]), (&"blue".into(), &"ada".into()), "{labels}");
    clean(&harbor, &ada, &run, &build).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_container_starts_in_a_folder_of_the_kernel_by_its_images_word() {
    let harbor = harbor(Backend::Sqlite).await;
    let ada = harbor.user("ada").await;
    let file = format!("FROM busybox\nLABEL mark={}\nWORKDIR /proc/self/fd/7\nCMD pwd\n", unique("folder"));
    let (run, build) = run_of(&harbor, &ada, &file, json!({})).await;
    assert_eq!(
        (&run["state"], &run["error"]["code"], &run["container"]),
        (&"failed".into(), &"workdir_invalid".into(), &Value::Null),
        "{run}"
    );
    assert!(word(&run["error"]["message"]).contains("/proc/self/fd/7"), "{run}");
    clean(&harbor, &ada, &run, &build).await;
    // With one of its own it does.
    let (run, build) = run_of(&harbor, &ada, &file, json!({"workdir": "/tmp"})).await;
    assert_eq!(harbor.output(&ada, &run).await, "/tmp\n");
    clean(&harbor, &ada, &run, &build).await;
}
