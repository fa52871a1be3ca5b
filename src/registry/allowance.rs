//! How many pulls a registry still allows, where it tells: Docker Hub does, in `ratelimit-limit: 100;w=21600` and `ratelimit-remaining: 76;w=21600`
//! (docs.docker.com, "Docker Hub pull usage and limits"). A HEAD for a manifest, as it is asked here, counts as no pull.

use std::time::Duration;

use http::{HeaderMap, Method};

use super::client::{Ask, RegistryClient};
use super::refusal::Refusal;
use crate::domain::{Credentials, Digest, RunImage};
use crate::engine::Allowance;

const LIMIT: &str = "ratelimit-limit";
const REMAINING: &str = "ratelimit-remaining";

impl RegistryClient {
    /// What the registry still allows, asked for this image. `None` when it does not tell.
    ///
    /// # Errors
    /// As [`RegistryClient::may_push`].
    pub async fn pulls_left(&self, image: &RunImage, credentials: Option<&Credentials>) -> Result<Option<Allowance>, Refusal> {
        let reference = image.digest.as_ref().map_or(image.image.tag(), Digest::as_str);
        let path = format!("manifests/{reference}");
        let ask = Ask { method: Method::HEAD, image: &image.image, path, actions: "pull", credentials };
        Ok(read(self.ask(&ask).await?.response.headers()))
    }
}

fn read(headers: &HeaderMap) -> Option<Allowance> {
    let told = |name: &str| headers.get(name)?.to_str().ok().and_then(number);
    let (remaining, window) = told(REMAINING)?;
    let limit = told(LIMIT);
    let window = window.or(limit.and_then(|(_, window)| window));
    Some(Allowance { remaining, limit: limit.map(|(limit, _)| limit), window })
}

/// `76;w=21600`: a number, and within how many seconds.
fn number(text: &str) -> Option<(u64, Option<Duration>)> {
    let mut parts = text.split(';').map(str::trim);
    let number = parts.next()?.parse().ok()?;
    let window = parts.find_map(|part| part.strip_prefix("w=")?.parse().ok());
    Some((number, window.map(Duration::from_secs)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(headers: &[(&'static str, &'static str)]) -> Option<String> {
        let headers = headers.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
        read(&HeaderMap::from_iter(headers)).map(|left| left.to_string())
    }

    #[test]
    fn what_the_hub_tells_is_read() {
        let hub = [(LIMIT, "100;w=21600"), (REMAINING, "76;w=21600"), ("docker-ratelimit-source", "192.0.2.1")];
        assert_eq!(told(&hub).as_deref(), Some("76 of 100 pulls in 6 hours are left"));
        assert_eq!(told(&[(REMAINING, "0;w=3600"), (LIMIT, "10")]).as_deref(), Some("0 of 10 pulls in 1 hour are left"));
        assert_eq!(told(&[(REMAINING, "5")]).as_deref(), Some("5 pulls are left"));
        assert_eq!(told(&[(REMAINING, "5;w=90")]).as_deref(), Some("5 pulls in 90 s are left"));
    }

    #[test]
    fn who_does_not_tell_is_not_quoted() {
        for headers in [&[][..], &[(LIMIT, "100;w=21600")], &[(REMAINING, "many")], &[(REMAINING, "-1;w=1")]] {
            assert_eq!(told(headers), None, "{headers:?}");
        }
    }
}
