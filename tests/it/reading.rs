//! Polling and logs.

use reqwest::{Method, StatusCode};

use crate::support::service::{self, Backend, Running, dockerfile, id};
use crate::support::unique;

async fn counted(service: &Running) -> serde_json::Value {
    let file = format!("FROM busybox\nRUN echo {} && i=0; while [ $i -lt 30 ]; do echo line-$i; i=$((i+1)); done\n", unique("x"));
    let build = service.submit(dockerfile(&file).text("push", "false")).await;
    let ended = service.ended(&build).await;
    assert_eq!(ended["state"], "built", "{ended}");
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn etag_and_wait_make_polling_cheap() {
    let service = service::start(Backend::Sqlite).await;
    let build = counted(&service).await;
    let path = format!("/api/v1/builds/{}", id(&build));
    let first = service.request(Method::GET, &path).send().await.expect("an answer");
    let etag = first.headers()["etag"].clone();
    let again = service.request(Method::GET, &path).header("if-none-match", etag.clone()).send().await.expect("an answer");
    assert_eq!((again.status(), again.text().await.expect("text").as_str()), (StatusCode::NOT_MODIFIED, ""));
    let started = std::time::Instant::now();
    let waited =
        service.request(Method::GET, &format!("{path}?wait=1")).header("if-none-match", etag).send().await.expect("an answer");
    assert!(waited.status() == StatusCode::NOT_MODIFIED && started.elapsed().as_millis() >= 1000);
    let ended = service.request(Method::GET, &format!("{path}?wait=60")).send().await.expect("an answer");
    assert!(ended.status() == StatusCode::OK && started.elapsed().as_secs() < 30, "an ended build is not waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_tailed_resumed_and_end() {
    let service = service::start_with(Backend::Sqlite, |s| s.keep_hot_log = Some("1h".parse().expect("a span"))).await;
    let build = counted(&service).await;
    let path = format!("/api/v1/builds/{}/logs", id(&build));
    let whole = service.text(&path).await;
    assert!((0..30).all(|i| whole.lines().any(|l| l == format!("line-{i}"))), "{whole}");
    let lines: Vec<&str> = whole.lines().collect();
    let tail = service.text(&format!("{path}?tail=5")).await;
    assert_eq!(tail.lines().collect::<Vec<_>>(), lines[lines.len() - 5..]);
    assert_eq!(service.text(&format!("{path}?tail=0")).await, "");
    let followed = service.text(&format!("{path}?follow=true")).await;
    assert_eq!(followed, whole, "following an ended build tells all and ends");

    let sse = |last: &str| {
        service.request(Method::GET, &path).header("accept", "text/event-stream").header("last-event-id", last.to_owned())
    };
    let all = sse("").send().await.expect("an answer");
    assert!(all.headers()["content-type"].to_str().expect("text").starts_with("text/event-stream"));
    let all = all.text().await.expect("text");
    let ids: Vec<u64> = all.lines().filter_map(|l| l.strip_prefix("id: ")?.parse().ok()).collect();
    let last = *ids.last().expect("events");
    assert_eq!(ids[..ids.len() - 1], (1..=last).collect::<Vec<_>>(), "numbered without gaps");
    assert!(
        all.contains("event: state")
            && all.contains("event: log")
            && all.trim_end().ends_with(&format!("id: {last}\nevent: end\ndata: {{}}")),
        "{all}"
    );
    let resumed = sse(&(last - 2).to_string()).send().await.expect("an answer").text().await.expect("text");
    let resumed_ids: Vec<u64> = resumed.lines().filter_map(|l| l.strip_prefix("id: ")?.parse().ok()).collect();
    assert_eq!(resumed_ids, [last - 1, last, last]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_log_reads_like_a_hot_one() {
    let service = service::start_with(Backend::Sqlite, |s| s.keep_hot_log = Some("1h".parse().expect("a span"))).await;
    let build = counted(&service).await;
    let path = format!("/api/v1/builds/{}/logs", id(&build));
    let (whole, tail) = (service.text(&path).await, service.text(&format!("{path}?tail=3")).await);
    let contexts = dockwright::context::storage::ContextStorage::open(&service.config.data_dir, 0).expect("opens");
    let janitor = dockwright::janitor::Janitor {
        store: service.store.clone(),
        contexts,
        keep_hot_log: std::time::Duration::ZERO,
        vault: std::sync::Arc::new(dockwright::vault::Vault::new([7; 32])),
        ages: Default::default(),
        node: None,
    };
    janitor.archive_once().await.expect("archives");
    let archive = service.config.data_dir.join("logs").join(format!("{}.zst", id(&build)));
    assert!(archive.exists());
    assert_eq!((service.text(&path).await, service.text(&format!("{path}?tail=3")).await), (whole, tail));
    assert_eq!(service.delete(&build).await.status(), StatusCode::OK);
    assert!(!archive.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_paged_and_filtered() {
    let service = service::start_with(Backend::Sqlite, |s| s.engine = Some("unix:///nowhere.sock".into())).await;
    let repository = unique("127.0.0.1:5000/team");
    let mut ids = Vec::new();
    for index in 0..5 {
        let build = service.submit(dockerfile("FROM busybox\n").text("image", format!("{repository}:{index}"))).await;
        ids.insert(0, id(&build).to_owned());
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = service.get(&format!("/api/v1/builds?limit=2{cursor}")).await;
        seen.extend(page["items"].as_array().expect("items").iter().map(|b| id(b).to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ids, "newest first, none twice");
    let count = |page: serde_json::Value| page["items"].as_array().map(Vec::len);
    assert_eq!(count(service.get(&format!("/api/v1/builds?image={repository}:3")).await), Some(1));
    assert_eq!(count(service.get(&format!("/api/v1/builds?image={repository}")).await), Some(5));
    assert_eq!(count(service.get("/api/v1/builds?state=published").await), Some(0));
    assert_eq!(count(service.get("/api/v1/builds?state=queued&owner=admin").await), Some(5));
    let ready = service.request(Method::GET, "/readyz").send().await.expect("an answer");
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    let ready: serde_json::Value = ready.json().await.expect("JSON");
    assert_eq!(
        (&ready["checks"]["engine"]["ok"], &ready["checks"]["store"]["ok"], &ready["checks"]["disk"]["ok"]),
        (&false.into(), &true.into(), &true.into())
    );
}
