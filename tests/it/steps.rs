//! The steps of a build: while it runs, when it has ended, and the log of each.

use reqwest::Method;
use serde_json::Value;

use crate::options::runs;
use crate::pipeline::on_both_stores;
use crate::support::service::{self, Backend, Running, context, dockerfile, id, start_on, tar};
use crate::support::{unique, watch};

on_both_stores!(
    each_step_tells_its_line_time_and_size_and_has_a_log_of_its_own,
    a_step_that_fails_or_is_cut_off_is_told_as_that_with_either_builder,
    what_has_not_begun_is_told_as_waiting_with_either_builder,
    copies_tell_their_bytes_with_either_builder,
    a_build_that_comes_back_tells_the_steps_of_its_new_attempt,
);

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

async fn each_step_tells_its_line_time_and_size_and_has_a_log_of_its_own(backend: Backend) {
    let service = service::start(backend).await;
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

async fn a_step_that_fails_or_is_cut_off_is_told_as_that_with_either_builder(backend: Backend) {
    let service = service::start(backend).await;
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
        assert_eq!(told(step(&all, 4)), (None, "RUN", "skipped", false, None), "{memory:?}");
        assert_eq!(step(&all, 4)["number"], Value::Null);
        let text = format!("FROM busybox\nRUN echo {mark} && sleep 60 && true\n");
        let build = service.submit(form(&text)).await;
        watch("the step runs", || runs(&mark)).await;
        let cancelled = service.request(Method::POST, &format!("/api/v1/builds/{}/cancel", id(&build))).send().await;
        assert_eq!(cancelled.expect("an answer").status(), 202);
        service.ended(&build).await;
        assert_eq!(told(step(&steps(&service, &build).await, 2)), (None, "RUN", "cancelled", false, None), "{memory:?}");
    }
}

/// With a limit of memory the classic builder does it.
fn with(form: reqwest::multipart::Form, memory: Option<&'static str>) -> reqwest::multipart::Form {
    let form = form.text("push", "false");
    if let Some(memory) = memory { form.text("memory", memory) } else { form }
}

async fn what_has_not_begun_is_told_as_waiting_with_either_builder(backend: Backend) {
    let service = service::start(backend).await;
    for memory in [None, Some("64m")] {
        let mark = unique("mark");
        let text = format!(
            "FROM busybox AS tool\nRUN echo {mark} && sleep 3 && true\nFROM busybox AS unused\nRUN false\nFROM busybox\n\
             COPY --from=tool /bin/true /x\nRUN echo last {mark}\n"
        );
        // The classic builder makes every stage before the target.
        let text = if memory.is_some() { text.replace("RUN false", "RUN true") } else { text };
        let build = service.submit(with(dockerfile(&text), memory)).await;
        watch("the step runs", || runs(&mark)).await;
        let all = steps(&service, &build).await;
        assert_eq!(step(&all, 2)["state"], "running", "{all:#?}");
        let last = step(&all, 7);
        let stage = Some("stage-2");
        assert_eq!(told(last), (stage, "RUN", "waiting", false, None), "{all:#?}");
        assert!(["number", "started_at", "finished_at"].iter().all(|field| last[field].is_null()), "{last}");
        assert!(last["name"].as_str().is_some_and(|name| name.ends_with(&format!("] RUN echo last {mark}"))), "{last}");
        assert_eq!(all.iter().any(|step| step["line"] == 4), memory.is_some(), "BuildKit needs no stage that is not used");
        let number = step(&all, 2)["number"].clone();
        let ended = service.ended(&build).await;
        assert_eq!(ended["state"], "built", "{ended}");
        let after = steps(&service, &build).await;
        assert_eq!((&step(&after, 2)["number"], &step(&after, 7)["state"]), (&number, &"done".into()), "{after:#?}");
        assert!(step(&after, 7)["name"] == last["name"], "as it was foretold: {after:#?}");
        assert!(after.iter().all(|step| step["state"] != "waiting"), "{after:#?}");
        for line in [2, 6, 7] {
            assert_eq!(after.iter().filter(|step| step["line"] == line).count(), 1, "line {line}: {after:#?}");
        }
        service.delete(&build).await;
    }
}

async fn copies_tell_their_bytes_with_either_builder(backend: Backend) {
    let service = service::start(backend).await;
    for memory in [None, Some("64m")] {
        let (copied, added) = (unique("c").repeat(1000), unique("a").repeat(2000));
        let text = "FROM busybox\nCOPY one /one\nENV A=1\nADD two /two\n";
        let form = context(tar(&[("Dockerfile", text), ("one", &copied), ("two", &added)]));
        let build = service.submit(with(form, memory)).await;
        let ended = service.ended(&build).await;
        assert_eq!(ended["state"], "built", "{ended}");
        assert_eq!(ended["links"]["steps"], format!("/api/v1/builds/{}/steps", id(&build)));
        let all = steps(&service, &build).await;
        let sizes = [copied.len() as u64, added.len() as u64];
        assert_eq!(told(step(&all, 2)), (None, "COPY", "done", false, Some(sizes[0])), "{memory:?}: {all:#?}");
        assert_eq!(told(step(&all, 4)), (None, "ADD", "done", false, Some(sizes[1])), "{memory:?}: {all:#?}");
        let layers = ended["layers"].as_array().expect("a list");
        let last: Vec<_> = layers[layers.len() - 3..].iter().map(|layer| (&layer["instruction"], &layer["bytes"])).collect();
        let named = ["COPY", "ENV", "ADD"].map(Value::from);
        let bytes = [sizes[0], 0, sizes[1]].map(Value::from);
        assert_eq!(last, named.iter().zip(&bytes).collect::<Vec<_>>(), "{memory:?}");
        service.delete(&build).await;
    }
}

/// The worker stops in the middle of a build, and hands it back; the next one does it from the beginning.
async fn a_build_that_comes_back_tells_the_steps_of_its_new_attempt(backend: Backend) {
    let service = service::start_with(backend, |settings| settings.drain = Some("100ms".parse().expect("a span"))).await;
    let mark = unique("mark");
    let text = format!("FROM busybox\nRUN echo {mark}\nRUN echo second {mark} && sleep 4\n");
    let build = service.submit(with(dockerfile(&text).text("no_cache", "true"), None)).await;
    service.logged(&build, &format!("second {mark}\n")).await;
    let config = service.config.clone();
    let _folder = service.stop().await;
    let file = dockwright::wiring::database(&config);
    watch("the store is free", || !dockwright::store::sqlite::in_use(&file)).await;
    let service = start_on(config).await;
    let of_attempt = |now: &Value| now["attempt"] == 2 && now["state"] == "building";
    service.until(&build, of_attempt).await;
    let mut look = tokio::time::interval(std::time::Duration::from_millis(50));
    loop {
        look.tick().await;
        let all = steps(&service, &build).await;
        assert!(all.iter().all(|step| step["state"] != "cancelled"), "of the first attempt: {all:#?}");
        if step(&all, 3)["state"] == "running" {
            break;
        }
        let now = service.get(&format!("/api/v1/builds/{}", id(&build))).await;
        assert_eq!(now["state"], "building", "{now}");
    }
    let ended = service.ended(&build).await;
    assert_eq!((&ended["state"], &ended["attempt"]), (&"built".into(), &2.into()), "{ended}");
    let all = steps(&service, &build).await;
    assert!(all.iter().all(|step| step["state"] == "done" || step["state"] == "cached"), "{all:#?}");
    assert_eq!(told(step(&all, 3)).2, "done");
    service.delete(&build).await;
}
