//! Workers that are paused beyond their lease, and wake up: they change nothing any more.

use futures::StreamExt;

use super::times;
use crate::support::cluster::Cluster;
use crate::support::service::{docker, dockerfile, tag_digest};
use crate::support::{registry, unique};

/// Over so much of a build's way, from the claim on, the moments of the pauses are spread.
const WAY_MS: usize = 1800;
const ARGUMENTS: [&str; 4] = ["--lease", "2s", "--workers", "1"];

/// Pauses a worker so long after its claim, lets another finish the build, and wakes the first one up.
async fn paused_after(milliseconds: usize) {
    let cluster = Cluster::new();
    let mut api = cluster.start("api", &ARGUMENTS);
    let client = cluster.client(&mut api);
    let mut sleeper = cluster.start("worker", &ARGUMENTS);
    let image = format!("{}/{}:1", registry(), unique("paused"));
    let text = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /x && sleep 0.7\n";
    let id = client.submit(dockerfile(text).text("no_cache", "true").text("image", image.clone())).await;
    tokio::task::block_in_place(|| sleeper.wait_for("claimed"));
    tokio::time::sleep(std::time::Duration::from_millis(milliseconds as u64)).await;
    sleeper.signal("-STOP");
    let other = cluster.start("worker", &ARGUMENTS);
    let ended = client.ended_at_last(&id).await;
    assert_eq!(ended["state"], "published", "paused after {milliseconds} ms: {ended}");
    let log = client.text(&format!("{id}/logs")).await;
    sleeper.signal("-CONT");
    if ended["attempt"] != 1 {
        // It finds out, and says so.
        tokio::task::block_in_place(|| sleeper.wait_for("another worker has this build now"));
    }
    assert_eq!(client.get(&id).await, ended, "paused after {milliseconds} ms");
    assert_eq!(client.text(&format!("{id}/logs")).await, log);
    assert_eq!(client.digests_told(&id).await.len(), 1, "{ended}");
    assert_eq!(tag_digest(&image, None).await.as_deref(), ended["destinations"][0]["digest"].as_str(), "{ended}");
    let named = docker(&["images", "-q", "--no-trunc", &format!("dockwright.local/build:{id}")]);
    assert_eq!(named, ended["image_id"].as_str().expect("an image"), "paused after {milliseconds} ms");
    drop((sleeper, other));
    // No worker is left to remove the image.
    docker(&["rmi", &format!("dockwright.local/build:{id}")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_worker_that_slept_through_its_lease_changes_nothing() {
    let points = times(5, 20);
    let pauses = (0..points).map(|point| paused_after(point * WAY_MS / points));
    futures::stream::iter(pauses).buffer_unordered(5).collect::<Vec<()>>().await;
}
