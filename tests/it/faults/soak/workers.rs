//! Workers that are killed at any moment: nothing is lost, nothing is stuck, nothing is published twice differently.

use futures::StreamExt;
use serde_json::Value;

use super::{any, some_moment, times};
use crate::support::client::Client;
use crate::support::cluster::Cluster;
use crate::support::service::{docker, dockerfile, tag_digest};
use crate::support::{registry, unique};

const ARGUMENTS: [&str; 4] = ["--lease", "2s", "--workers", "2"];

/// Two lost workers are the most that a build outlives: none is killed that has such a build in hands.
async fn has_a_last_try(client: &Client) -> bool {
    for state in ["building", "pushing"] {
        let running = client.list(&format!("state={state}&limit=200")).await;
        if running.iter().any(|build| build["attempt"].as_u64() > Some(2)) {
            return true;
        }
    }
    false
}

/// What every build must have come to.
async fn assert_settled(client: &Client, id: &str, image: &str) -> bool {
    let ended = client.ended_at_last(id).await;
    let told = client.digests_told(id).await;
    if ended["state"] == "failed" {
        // True all the same: three workers were killed under it.
        assert_eq!(ended["error"]["code"], "poisoned", "{ended}");
        assert!(ended["attempt"].as_u64() >= Some(3), "{ended}");
        return false;
    }
    assert_eq!(ended["state"], "published", "{ended}");
    let published = tag_digest(image, None).await.expect("published");
    assert_eq!(told.into_iter().collect::<Vec<_>>(), [published.as_str()], "one digest, then and now: {ended}");
    assert_eq!(docker(&["images", "-q", "--no-trunc", &format!("dockwright.local/build:{id}")]), ended["image_id"], "{ended}");
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn alone_builds_outlive_their_workers() {
    let (builds, kills) = (times(24, 500), times(8, 200));
    let cluster = Cluster::new();
    let mut api = cluster.start("api", &["--lease", "2s"]);
    let client = cluster.client(&mut api);
    let repository = format!("{}/{}", registry(), unique("outlive"));
    let mut ids: Vec<(String, String)> = Vec::new();
    for n in 0..builds {
        // Built twice it would be another image: a second digest would show.
        let text = format!("FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /x && sleep 0.{}\n", any(10));
        let image = format!("{repository}:{n}");
        ids.push((client.submit(dockerfile(&text).text("no_cache", "true").text("image", image.clone())).await, image));
    }
    let mut workers = [cluster.start("worker", &ARGUMENTS), cluster.start("worker", &ARGUMENTS)];
    let mut killed = 0;
    while killed < kills {
        some_moment(1200).await;
        if has_a_last_try(&client).await {
            continue;
        }
        let chosen = usize::try_from(any(2)).expect("0 or 1");
        let doomed = std::mem::replace(&mut workers[chosen], cluster.start("worker", &ARGUMENTS));
        doomed.kill();
        killed += 1;
    }
    let settled = futures::stream::iter(&ids).map(|(id, image)| assert_settled(&client, id, image)).buffer_unordered(4);
    let published = settled.filter(|published| std::future::ready(*published)).count().await;
    println!("{killed} kills, {builds} builds, {published} published");
    assert!(published * 20 >= builds * 19, "{published} of {builds} were published");
    assert_eq!(client.list("state=queued").await, [] as [Value; 0], "nothing is stuck");
    for (id, _) in &ids {
        assert_ne!(client.delete(id).await["image"], "pending");
    }
}
