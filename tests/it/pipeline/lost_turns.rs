//! A push that loses its turn while it goes on: as when its process was stopped, or the store away, for longer than the turn lasts.

use dockwright::domain::{BuildId, Digest, ImageRef};
use dockwright::store::tag_push::TagPush;
use serde_json::Value;

use super::on_both_stores;
use crate::support::gate::Gate;
use crate::support::service::{self, Backend, Running, docker, dockerfile, tag_digest};
use crate::support::{redis_url, registry, unique};

on_both_stores!(
    a_push_that_has_lost_its_turn_stops_and_looks_again,
    what_it_overwrote_is_put_back,
    what_cannot_be_put_back_is_told,
);

const THIEF: &str = "another";

/// A build whose push is held.
struct Held {
    service: Running,
    gate: Gate,
    image: String,
    build: Value,
}

impl Held {
    async fn start(backend: Backend) -> Self {
        let gate = Gate::engine("/push?", 0).await;
        let service = service::start_with(backend, |s| s.engine = Some(format!("tcp://{}", gate.address))).await;
        let image = format!("{}/{}:latest", registry(), unique("lost"));
        let form = dockerfile(&format!("FROM busybox\nLABEL a={image}\n")).text("image", image.clone());
        let build = service.submit(form).await;
        gate.reached().await;
        Self { service, gate, image, build }
    }

    fn turn(&self) -> String {
        format!("push:{}", self.image)
    }

    /// Another has the turn from now on.
    fn steal(&self) {
        let stolen: usize = if matches!(self.service.store, dockwright::store::Store::Sqlite(_)) {
            let file = rusqlite::Connection::open(dockwright::wiring::database(&self.service.config)).expect("opens beside it");
            file.busy_timeout(std::time::Duration::from_secs(20)).expect("set");
            file.execute("UPDATE lock SET holder = ?2 WHERE key = ?1", [&*self.turn(), THIEF]).expect("writes")
        } else {
            let client = ::redis::Client::open(redis_url()).expect("a URL");
            let mut connection = client.get_connection().expect("Redis answers");
            let key = format!("{}:lock:{}", self.service.config.store_prefix, self.turn());
            let set = ::redis::cmd("SET").arg(key).arg(THIEF).arg("XX").arg("KEEPTTL").query::<Option<String>>(&mut connection);
            set.expect("sets").map_or(0, |_| 1)
        };
        assert_eq!(stolen, 1);
    }

    /// The other gives it back.
    async fn free(&self) {
        self.service.store.unlock(&self.turn(), THIEF).await.expect("unlocked");
    }

    /// A younger build pushes in the turn that is its now; what it says it has pushed, or else what it has.
    async fn overtaken(&self, says: Option<Digest>) -> (BuildId, Option<String>) {
        let elsewhere = self.image.replace("127.0.0.1:", "localhost:");
        for command in [&["tag", "busybox", &elsewhere][..], &["push", &elsewhere], &["rmi", &elsewhere]] {
            docker(command);
        }
        let there = tag_digest(&self.image, None).await;
        let digest = says.or_else(|| there.as_ref().and_then(|digest| digest.parse().ok()));
        let owner = self.build["owner"].as_str().and_then(|owner| owner.parse().ok()).expect("a name");
        let (tag, build): (ImageRef, _) = (self.image.parse().expect("an image"), BuildId::new());
        let push = TagPush { order: 1 << 40, build, owner, digest };
        assert_eq!(self.service.store.enter_tag_push(&tag, &push).await.expect("entered"), None);
        (build, there)
    }

    async fn assert_superseded(&self, younger: BuildId, there: Option<String>) {
        let build = self.service.ended(&self.build).await;
        let log = self.service.log(&self.build).await;
        assert_eq!(
            (&build["state"], build["superseded_by"].as_str()),
            (&"cancelled".into(), Some(&*younger.to_string())),
            "{log}"
        );
        assert_eq!(build["destinations"][0]["state"], "superseded");
        assert!(there.is_some() && tag_digest(&self.image, None).await == there, "{log}");
        assert!(log.contains("was lost: this push stops and looks again"), "{log}");
    }
}

async fn a_push_that_has_lost_its_turn_stops_and_looks_again(backend: Backend) {
    let held = Held::start(backend).await;
    held.steal();
    let (younger, there) = held.overtaken(None).await;
    // Its push is held all the time.
    held.service.logged(&held.build, "was lost: this push stops").await;
    held.free().await;
    held.assert_superseded(younger, there).await;
    let requests = held.gate.requests("POST");
    assert_eq!(requests.iter().filter(|line| line.contains("/push")).count(), 1, "{requests:#?}");
}

async fn what_it_overwrote_is_put_back(backend: Backend) {
    let held = Held::start(backend).await;
    held.steal();
    let (younger, there) = held.overtaken(None).await;
    held.free().await;
    held.gate.open();
    held.assert_superseded(younger, there).await;
}

async fn what_cannot_be_put_back_is_told(backend: Backend) {
    let held = Held::start(backend).await;
    held.steal();
    let nothing = format!("sha256:{}", "0".repeat(64)).parse().expect("a digest");
    let (_, there) = held.overtaken(Some(nothing)).await;
    held.free().await;
    held.gate.open();
    let build = held.service.ended(&held.build).await;
    let error = &build["destinations"][0]["error"];
    assert_eq!(
        (&build["state"], &build["error"]["code"], &error["code"]),
        (&"failed".into(), &"tag_overwritten".into(), &"tag_overwritten".into()),
        "{build}"
    );
    assert!(build["message"].as_str().is_some_and(|told| told.contains("may name this older one's image now")), "{build}");
    assert_ne!(tag_digest(&held.image, None).await, there);
}
