//! Volumes: kept, counted, refused while they are used.

use std::collections::BTreeMap;

use dockwright::engine::containers::{Containers, EngineMount, EngineVolume, INSTALLATION, Volumes};

use super::cli;
use super::own::Own;
use crate::support::unique;

#[tokio::test]
async fn a_volume_outlives_its_containers_and_is_not_taken_from_one() {
    let own = Own::new().await;
    let name = unique("v");
    for _ in 0..2 {
        own.docker.create_volume(&name, &own.labels()).await.expect("makes");
    }
    assert_eq!(cli(&["volume", "inspect", "-f", "{{.Driver}} {{json .Options}}", &name]), "local {}");
    let with = |script: &str| {
        let mut request = own.request(&["sh", "-c", script]);
        request.mounts = vec![EngineMount::Volume { name: name.clone(), path: "/v".into(), read_only: false }];
        request
    };
    own.says(with("head -c 5000 /dev/zero > /v/kept")).await;
    assert_eq!(own.says(with("wc -c < /v/kept")).await, ["5000"]);
    let error = own.docker.remove_volume(&name).await.expect_err("is used");
    assert_eq!(error.code, "volume_in_use", "{error:?}");

    let listed = own.docker.volumes((INSTALLATION, &own.token), false).await.expect("lists");
    assert_eq!(listed, [EngineVolume { name: name.clone(), labels: own.labels(), usage: None }]);
    assert_eq!(own.docker.volumes((INSTALLATION, "nobody"), false).await.expect("lists"), []);
    let usage = own.docker.volumes((INSTALLATION, &own.token), true).await.expect("lists");
    let [one] = &usage[..] else { panic!("{usage:?}") };
    let (bytes, containers) = one.usage.expect("known");
    assert!(bytes >= 5000, "{bytes}");
    assert_eq!(containers, 2);

    for one in own.docker.containers(None).await.expect("lists") {
        if one.labels.get(INSTALLATION) == Some(&own.token) {
            own.docker.remove(&one.id, true).await.expect("goes");
        }
    }
    assert!(own.docker.remove_volume(&name).await.expect("goes"));
    assert!(!own.docker.remove_volume(&name).await.expect("is no error"));
}

#[tokio::test]
async fn somebody_elses_volume_is_not_taken() {
    let (own, other) = (Own::new().await, Own::new().await);
    let name = unique("v");
    other.docker.create_volume(&name, &other.labels()).await.expect("makes");
    let error = own.docker.create_volume(&name, &own.labels()).await.expect_err("is another's");
    assert_eq!(error.code, "name_taken", "{error:?}");
    assert_eq!(own.docker.create_volume("../x", &BTreeMap::new()).await.expect_err("is no name").code, "container_invalid");
}
