//! Where registries may be that users name: the service asks none that the operator's rule leaves out.

use std::net::IpAddr;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::refusal::{self, Refusal};
use crate::egress::Egress;

/// The rule, as what resolves the names of registries and of their token servers.
#[derive(Clone)]
pub(super) struct Reach(pub Egress);

impl Resolve for Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let Self(egress) = self.clone();
        Box::pin(async move {
            // Of the addresses alone: the port is the URL's.
            let found = egress.resolve(name.as_str(), 0).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl Reach {
    /// Looks at an address that stands in a URL, because nobody resolves it.
    pub(super) fn check(&self, url: &Url) -> Result<(), Refusal> {
        let host = url.host_str().unwrap_or_default();
        let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() else { return Ok(()) };
        self.0.check(host, address).map_err(|refused| refusal::host_refused(&refused))
    }
}
