//! `POST /build` with either builder.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use http::{Method, Request, Uri};

use super::classic::Classic;
use super::entrusted::Served;
use super::errors::{Doing, fault, platform_not_supported, sort};
use super::keyring::Keyring;
use super::leftovers::ClassicRun;
use super::lines::send;
use super::session::Session;
use super::stream::{Message, Messages};
use super::trace::Trace;
use super::transport::{Answer, Body, streamed};
use super::{Docker, push};
use crate::domain::{BuilderKind, Digest, NetworkMode, local_tag};
use crate::engine::{BuildRequest, Builder, BuiltImage, ContextStream, Engine as _, Images as _, Lines, Result};

/// The scheduler period that CPU limits are given in, in microseconds; the kernel's own default.
const CPU_PERIOD: u64 = 100_000;
/// BuildKit's own build arguments (`frontend/dockerfile/builder/build.go`, moby `builder/builder-next/builder.go`).
const INLINE_CACHE: &str = "BUILDKIT_INLINE_CACHE";
const MOUNT_NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";

#[async_trait]
impl Builder for Docker {
    async fn build(&self, request: BuildRequest, context: ContextStream, lines: Lines) -> Result<BuiltImage> {
        // An earlier attempt may have tagged its image; it would be left without a name.
        self.untag(&local_tag(request.id)).await?;
        let id = match request.builder {
            BuilderKind::Buildkit => self.buildkit(&request, context, &lines).await?,
            BuilderKind::Classic => self.classic(&request, context, &lines).await?,
        };
        let tagged = self.look_at_built(id, &local_tag(request.id)).await?;
        let layers = self.layers(&tagged.id).await?;
        Ok(BuiltImage { layers, ..tagged })
    }
}

impl Docker {
    async fn buildkit(&self, request: &BuildRequest, context: ContextStream, lines: &Lines) -> Result<Digest> {
        let keyring = Keyring::new(request.credentials.clone(), Arc::clone(&request.registries));
        let served = Served::new(request.buildkit.secrets.clone(), &request.buildkit.ssh)?;
        let session = Session::open(&self.transport, keyring, served).await?;
        let session = session.ok_or_else(|| fault("this engine has no BuildKit sessions"))?;
        let mut query = buildkit_query(request);
        query.add("session", session.id());
        let doing = Doing::Build { limits: false };
        let mut messages = Messages::new(self.start(query, None, context, doing).await?);
        let mut trace = Trace::of(request.stages.clone());
        let mut image = None;
        loop {
            let message = messages.next().await;
            let Ok(Some(message)) = message else {
                send(lines, trace.finish()).await;
                message?;
                break;
            };
            if let Some(failure) = message.failure() {
                send(lines, trace.finish()).await;
                return Err(sort(doing, None, failure));
            }
            match (message.id.as_deref(), &message.aux) {
                (Some("moby.buildkit.trace"), Some(aux)) => {
                    send(lines, trace.decode(aux.as_str().unwrap_or_default())).await;
                }
                (Some("moby.image.id"), Some(aux)) => image = aux["ID"].as_str().and_then(|id| id.parse().ok()),
                _ => {}
            }
        }
        image.ok_or_else(|| fault("the engine ended the build without an image or an error"))
    }

    async fn classic(&self, request: &BuildRequest, context: ContextStream, lines: &Lines) -> Result<Digest> {
        self.check_platform(request.platform.as_deref()).await?;
        let mut run = ClassicRun::begin(self);
        let mut classic = Classic::default();
        let built = self.run_classic(request, context, lines, &mut run, &mut classic).await;
        send(lines, classic.finish()).await;
        run.would_leave(&classic, built.is_ok());
        run.end().await;
        built?;
        classic.image().cloned().ok_or_else(|| fault("the engine ended the build without an image or an error"))
    }

    async fn run_classic(
        &self,
        request: &BuildRequest,
        context: ContextStream,
        lines: &Lines,
        run: &mut ClassicRun,
        classic: &mut Classic,
    ) -> Result<()> {
        let doing = Doing::Build { limits: request.memory_bytes.is_some() };
        let auth = push::registry_config(&request.credentials);
        let mut messages = Messages::new(self.start(classic_query(request), Some(auth), context, doing).await?);
        while let Some(message) = messages.next().await? {
            let message: Message = message;
            if let Some(failure) = message.failure() {
                return Err(sort(doing, None, failure));
            }
            let told = classic.decode(&message);
            run.would_leave(classic, false);
            send(lines, told).await;
        }
        Ok(())
    }

    async fn start(&self, query: Query, auth: Option<http::HeaderValue>, context: ContextStream, doing: Doing) -> Result<Answer> {
        let uri: Uri = format!("/build?{}", query.0).parse().map_err(|e| fault(format!("the build's query: {e}")))?;
        let mut http: Request<Body> = Request::new(streamed(context));
        *http.method_mut() = Method::POST;
        *http.uri_mut() = uri;
        http.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/x-tar"));
        if let Some(auth) = auth {
            http.headers_mut().insert("x-registry-config", auth);
        }
        self.transport.send_ok(http, doing).await
    }

    /// The classic builder ignores a platform without a word, so anything but the engine's own is refused here.
    async fn check_platform(&self, asked: Option<&str>) -> Result<()> {
        let Some(asked) = asked else { return Ok(()) };
        let info = self.info().await?;
        let mut parts = asked.splitn(3, '/');
        let os = parts.next().unwrap_or_default();
        let architecture = parts.next().map_or(info.architecture.as_str(), super::docker_architecture);
        // A variant that is the architecture's usual one changes nothing.
        let usual = parts.next().is_none_or(|variant| matches!((architecture, variant), ("arm64", "v8") | ("amd64", "v1")));
        if os == info.os && architecture == info.architecture && usual {
            return Ok(());
        }
        Err(platform_not_supported(asked, &format!("{}/{}", info.os, info.architecture)))
    }
}

fn common_query(request: &BuildRequest, build_args: &BTreeMap<String, String>) -> Query {
    let mut query = Query::default();
    query.add("t", &local_tag(request.id));
    query.add("dockerfile", &request.dockerfile);
    query.add_json("buildargs", build_args);
    query.add_json("labels", &request.labels);
    query.add("rm", "1");
    query.add("forcerm", "1");
    if let Some(target) = &request.target {
        query.add("target", target);
    }
    if request.no_cache {
        query.add("nocache", "1");
    }
    if request.pull {
        query.add("pull", "1");
    }
    if request.network == NetworkMode::None {
        query.add("networkmode", "none");
    }
    query
}

fn buildkit_query(request: &BuildRequest) -> Query {
    let only = &request.buildkit;
    let mut build_args = request.build_args.clone();
    // Arguments by which the frontend is told what there are no fields for; the image knows nothing of them.
    build_args.extend(only.inline_cache.then(|| (INLINE_CACHE.to_owned(), "1".to_owned())));
    build_args.extend(only.mount_namespace.iter().map(|namespace| (MOUNT_NAMESPACE.to_owned(), namespace.clone())));
    let mut query = common_query(request, &build_args);
    query.add("version", "2");
    query.add("buildid", &uuid::Uuid::new_v4().simple().to_string());
    if let Some(platform) = &request.platform {
        query.add("platform", platform);
    }
    query.add_list("cachefrom", &only.cache_from);
    if let Some(name) = &only.apart {
        query.add("extrahosts", &format!("{name}:127.0.0.1"));
    }
    query
}

fn classic_query(request: &BuildRequest) -> Query {
    let mut query = common_query(request, &request.build_args);
    query.add("version", "1");
    if let Some(bytes) = request.memory_bytes {
        // Memory and swap together: without the second the step could swap as much again.
        query.add("memory", &bytes.to_string());
        query.add("memswap", &bytes.to_string());
    }
    if let Some(thousandths) = request.milli_cpus {
        query.add("cpuperiod", &CPU_PERIOD.to_string());
        query.add("cpuquota", &(thousandths * CPU_PERIOD / 1000).to_string());
    }
    query
}

/// A query string whose values are percent-encoded.
#[derive(Default)]
pub(super) struct Query(pub String);

impl Query {
    pub(super) fn add(&mut self, key: &str, value: &str) {
        use std::fmt::Write as _;
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(key);
        self.0.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.~/:".contains(&byte) {
                self.0.push(char::from(byte));
            } else {
                let _ = write!(self.0, "%{byte:02X}");
            }
        }
    }

    fn add_list(&mut self, key: &str, value: &[String]) {
        if !value.is_empty() {
            self.add(key, &serde_json::to_string(value).expect("strings serialise, because they are UTF-8"));
        }
    }

    fn add_json(&mut self, key: &str, value: &BTreeMap<String, String>) {
        if !value.is_empty() {
            self.add(key, &serde_json::to_string(value).expect("strings serialise, because they are UTF-8"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_cannot_become_other_parameters() {
        let mut query = Query::default();
        query.add("dockerfile", "a&memory=1 +%ü");
        query.add("t", "host:1/x:y");
        assert_eq!(query.0, "dockerfile=a%26memory%3D1%20%2B%25%C3%BC&t=host:1/x:y");
    }
}
