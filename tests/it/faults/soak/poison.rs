//! Builds that kill whatever builds them.

use std::time::Duration;

use super::times;
use crate::support::cluster::Cluster;
use crate::support::service::{docker, dockerfile};
use crate::support::unique;
use crate::support::watch::seen_within;

/// How long all of them may take, in a soak too.
const LONGEST: Duration = Duration::from_secs(3600);
/// Two at once, so that every killer has a neighbour in its process.
const ARGUMENTS: [&str; 4] = ["--lease", "1s", "--workers", "2"];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn alone_killers_end_poisoned_and_their_neighbours_unharmed() {
    let (killers, others) = (times(3, 50), times(9, 450));
    let cluster = Cluster::new();
    let mut api = cluster.start("api", &ARGUMENTS);
    let client = cluster.client(&mut api);
    let (mut deadly, mut harmless) = (Vec::new(), Vec::new());
    for n in 0..killers + others {
        let kills = n % (1 + others / killers) == 0 && deadly.len() < killers;
        let step = if kills { "sleep 60" } else { "sleep 0.2" };
        let text = format!("FROM busybox\nRUN echo {} && {step}\n", unique("step"));
        let id = client.submit(dockerfile(&text).text("push", "false")).await;
        if kills { deadly.push(id) } else { harmless.push(id) }
    }
    // No build can kill a process that does not run it; here the test does it for the killers, as soon as one is being built.
    let mut worker = cluster.start("worker", &ARGUMENTS);
    let mut kills = std::collections::HashSet::new();
    seen_within(LONGEST, "every build has ended", async || {
        let building = client.list("state=building&limit=200").await;
        // A build whose worker is dead stays in the list until its lease is over: each of its tries kills once.
        let tries = building.iter().filter(|build| deadly.iter().any(|killer| build["id"] == killer.as_str()));
        let news: Vec<_> = tries.map(|build| (build["id"].to_string(), build["attempt"].as_u64())).collect();
        if news.into_iter().filter(|one| kills.insert(one.clone())).count() > 0 {
            std::mem::replace(&mut worker, cluster.start("worker", &ARGUMENTS)).kill();
        }
        // One may have gone from the one list to the other between the two looks.
        let none = building.is_empty() && client.list("state=queued&limit=1").await.is_empty();
        let over = none && client.outside("/api/v1/system").await.1["queue"] == serde_json::json!({"queued": 0, "running": 0});
        over.then_some(())
    })
    .await;
    println!("{} kills for {killers} killers among {others} others", kills.len());
    for id in &deadly {
        let ended = client.ended(id).await;
        assert_eq!((&ended["state"], &ended["error"]["code"]), (&"failed".into(), &"poisoned".into()), "{ended}");
        client.delete(id).await;
    }
    for id in &harmless {
        let ended = client.ended(id).await;
        assert_eq!(ended["state"], "built", "a neighbour of a killer: {ended}\n{}", client.text(&format!("{id}/logs")).await);
    }
    for some in harmless.chunks(100) {
        let tags = some.iter().map(|id| format!("dockwright.local/build:{id}")).collect::<Vec<_>>();
        docker(&[&["rmi"], tags.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat());
    }
}
