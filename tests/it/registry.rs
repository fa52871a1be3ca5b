//! Publishing, against real registries; faults come from a proxy before the real one.

mod asking;
mod faults;
mod host_login;
pub mod proxy;
mod publishing;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use dockwright::domain::{BuilderKind, Credentials, Digest, ImageRef};
use dockwright::egress::Egress;
use dockwright::engine::docker::Docker;
use dockwright::engine::{EngineError, Images};
use dockwright::registry::{Publisher, PushPolicy, RegistryClient, Timeouts};
use secrecy::SecretString;
use tokio::sync::mpsc;

use crate::engine::{build_dockerfile, docker};
use crate::support::{private_registry, unique};

/// Quick to give up, so that a test of a fault is short.
const POLICY: PushPolicy = PushPolicy {
    attempts: 3,
    base_delay: Duration::from_millis(20),
    silence: Duration::from_secs(2),
    commit: Duration::from_secs(5),
};
const TIMEOUTS: Timeouts = Timeouts { connect: Duration::from_secs(1), request: Duration::from_secs(1) };

fn client() -> Arc<RegistryClient> {
    Arc::new(RegistryClient::new(TIMEOUTS, Egress::near()))
}

fn publisher() -> Publisher<Docker> {
    Publisher::new(Arc::new(docker()), client(), POLICY, "tests")
}

fn image(host: &str) -> ImageRef {
    format!("{host}/{}:1", unique("publish/app")).parse().expect("an image")
}

fn login(password: &str) -> Credentials {
    let (host, user, _) = private_registry();
    Credentials::new(host, user, SecretString::from(password.to_owned()))
}

/// A new image of its own, under its build's tag.
async fn built() -> crate::engine::Outcome {
    let done = build_dockerfile(BuilderKind::Buildkit, &format!("FROM busybox\nRUN echo {} > /x\n", unique("published"))).await;
    done.image();
    done
}

/// Publishes and answers what was said meanwhile.
async fn publish(
    image_id: &Digest,
    to: &ImageRef,
    credentials: Option<&Credentials>,
) -> (Result<Digest, EngineError>, Vec<String>) {
    let (lines, mut told) = mpsc::channel::<dockwright::domain::LogLine>(4);
    let publisher = publisher();
    let read = async {
        let mut all = Vec::new();
        while let Some(line) = told.recv().await {
            all.push(line.text);
        }
        all
    };
    let push = async move {
        let lines = lines;
        publisher.publish(image_id, to, credentials, &lines).await
    };
    tokio::join!(push, read)
}

async fn local(reference: &ImageRef) -> Option<Digest> {
    docker().image_id(&reference.to_string()).await.expect("the engine answers")
}
