//! What a build did, step by step.

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::accounts::people::send;
use crate::support::service::{self, Backend, Running, dockerfile, id};
use crate::support::unique;

async fn steps(service: &Running, build: &Value) -> Vec<Value> {
    let told = service.get(&format!("/api/v1/builds/{}/steps", id(build))).await;
    told["items"].as_array().expect("steps").clone()
}

fn step<'a>(steps: &'a [Value], instruction: &str) -> &'a Value {
    steps.iter().find(|step| step["instruction"] == instruction).unwrap_or_else(|| panic!("no {instruction}: {steps:#?}"))
}

async fn a_build_tells_its_steps(limits: bool) {
    let service = service::start(Backend::Sqlite).await;
    let mark = unique("step");
    let run = format!("RUN echo {mark} && sleep 1 && echo over");
    let text = format!("FROM busybox AS one\n{run}\nFROM one\nRUN echo {mark}-2; exit 7\n");
    let form = |text: &str| {
        let form = dockerfile(text).text("push", "false");
        if limits { form.text("memory", "256m") } else { form }
    };
    let failed = service.ended(&service.submit(form(&text)).await).await;
    assert_eq!(failed["state"], "failed", "{failed}");
    let told = steps(&service, &failed).await;
    let first = step(&told, &run);
    assert_eq!((&first["state"], &first["line"]), (&"done".into(), &2.into()), "{first}");
    assert!(first["started_at"].as_str() < first["finished_at"].as_str(), "{first}");
    let last = step(&told, &format!("RUN echo {mark}-2; exit 7"));
    assert_eq!((&last["state"], &last["line"]), (&"failed".into(), &4.into()), "{last}");

    let log = service.text(&format!("/api/v1/builds/{}/logs?step={}", id(&failed), first["number"])).await;
    assert!(log.contains("over") && !log.contains(&format!("{mark}-2\n")), "the lines of that step alone: {log}");
    let none = service.request(Method::GET, &format!("/api/v1/builds/{}/logs?step=400", id(&failed)));
    assert_eq!(send(none).await.0, StatusCode::NOT_FOUND);

    let text = text.replace("exit 7", "true");
    // What a failed classic build made is taken away with it: only a second one finds something.
    let once = service.ended(&service.submit(form(&text)).await).await;
    let again = service.ended(&service.submit(form(&text)).await).await;
    assert_eq!(again["state"], "built", "{again}");
    let told = steps(&service, &again).await;
    assert_eq!(step(&told, &run)["state"], "cached", "{told:#?}");
    assert!(told.iter().all(|step| step["state"] == "done" || step["state"] == "cached"), "{told:#?}");
    service.delete(&once).await;
    service.delete(&again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_tells_its_steps_with_buildkit() {
    a_build_tells_its_steps(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_tells_its_steps_with_the_classic_builder() {
    a_build_tells_its_steps(true).await;
}
