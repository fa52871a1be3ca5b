//! The steps of a build: while it runs, when it has ended, and the log of each.

use reqwest::Method;
use serde_json::Value;

use crate::options::runs;
use crate::support::service::{self, Backend, Running, dockerfile, id};
use crate::support::{unique, watch};

async fn get(service: &Running, path: &str) -> (u16, String) {
    let answer = service.request(Method::GET, path).send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("a text"))
}

async fn steps(service: &Running, build: &Value) -> Vec<Value> {
    let (status, text) = get(service, &format!("/api/v1/builds/{}/steps", id(build))).await;
    assert_eq!(status, 200, "{text}");
    let mut told: Value = serde_json::from_str(&text).expect("JSON");
    told["items"].as_array_mut().expect("a list").drain(..).collect()
}

fn step(steps: &[Value], line: u32) -> &Value {
    steps.iter().find(|step| step["line"] == line).unwrap_or_else(|| panic!("no step of line {line}: {steps:#?}"))
}

/// Stage, instruction, state, cached and bytes.
fn told(step: &Value) -> (Option<&str>, &str, &str, bool, Option<u64>) {
    let text = |field: &str| step[field].as_str();
    (
        text("stage"),
        text("instruction").unwrap_or_default(),
        text("state").unwrap_or_default(),
        step["cached"].as_bool().expect("a flag"),
        step["bytes"].as_u64(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_tells_its_line_time_and_size_and_has_a_log_of_its_own() {
    let service = service::start(Backend::Sqlite).await;
    let mark = unique("mark");
    let text = format!(
        "# comment\nFROM busybox AS base\nRUN head -c 100000 /dev/zero > /a && echo first {mark}\nENV A=1\nFROM base\nRUN sleep 1 && echo second {mark}\nWORKDIR /w\n"
    );
    let build = service.submit(dockerfile(&text).text("push", "false")).await;
    let is_second_running = |all: &[Value]| all.iter().any(|step| step["line"] == 6 && step["state"] == "running");
    while !is_second_running(&steps(&service, &build).await) {
        let now = service.get(&format!("/api/v1/builds/{}", id(&build))).await;
        assert!(["queued", "building"].iter().any(|state| now["state"] == *state), "{now}");
    }
    let ended = service.ended(&build).await;
    assert_eq!(ended["state"], "built", "{ended}");
    let all = steps(&service, &build).await;
    assert_eq!(told(step(&all, 3)), (Some("base"), "RUN", "done", false, Some(100_000)));
    assert_eq!(told(step(&all, 6)), (Some("stage-1"), "RUN", "done", false, Some(0)));
    let (started, finished): (jiff::Timestamp, jiff::Timestamp) = (
        step(&all, 6)["started_at"].as_str().expect("a time").parse().expect("a time"),
        step(&all, 6)["finished_at"].as_str().expect("a time").parse().expect("a time"),
    );
    assert!(finished.duration_since(started).as_millis() >= 900, "{all:#?}");
    let path = format!("/api/v1/builds/{}", id(&build));
    let number = &step(&all, 3)["number"];
    let (_, log) = get(&service, &format!("{path}/logs?step={number}")).await;
    assert!(log.contains(&format!("first {mark}\n")) && !log.contains(&format!("\nsecond {mark}")), "{log}");
    assert_eq!(get(&service, &format!("{path}/logs?step=99")).await.0, 404);
    assert_eq!(get(&service, &format!("{path}/logs?step=0")).await.0, 400);
    assert_eq!(get(&service, &format!("{path}/logs?step=1&tail=1")).await.0, 400);
    let again = service.submit(dockerfile(&text).text("push", "false")).await;
    service.ended(&again).await;
    let all = steps(&service, &again).await;
    assert_eq!(told(step(&all, 3)), (Some("base"), "RUN", "cached", true, Some(100_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_or_is_cut_off_is_told_as_that_with_either_builder() {
    let service = service::start(Backend::Redis).await;
    for memory in [None, Some("64m")] {
        let form = |text: &str| {
            let form = dockerfile(text).text("push", "false");
            if let Some(memory) = memory { form.text("memory", memory) } else { form }
        };
        let mark = unique("mark");
        let build = service.submit(form(&format!("FROM busybox\nENV A=1\nRUN echo {mark} && exit 3\nRUN true\n"))).await;
        service.ended(&build).await;
        let all = steps(&service, &build).await;
        assert_eq!(told(step(&all, 3)), (None, "RUN", "failed", false, None), "{memory:?}");
        assert!(all.iter().all(|step| step["line"] != 4), "{all:#?}");
        let text = format!("FROM busybox\nRUN echo {mark} && sleep 60 && true\n");
        let build = service.submit(form(&text)).await;
        watch("the step runs", || runs(&mark)).await;
        let cancelled = service.request(Method::POST, &format!("/api/v1/builds/{}/cancel", id(&build))).send().await;
        assert_eq!(cancelled.expect("an answer").status(), 202);
        service.ended(&build).await;
        assert_eq!(told(step(&steps(&service, &build).await, 2)), (None, "RUN", "cancelled", false, None), "{memory:?}");
    }
}
