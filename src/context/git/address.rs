//! Whether we go to a repository, and on which addresses.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::GitSettings;
use super::fault::{refused, unreachable};
use super::url::Repository;
use crate::domain::Credentials;
use crate::egress::Refused;
use crate::error::Result;

/// A repository whose host was looked at: where it is, and what is shown to it.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    pub repository: Repository,
    addresses: Vec<SocketAddr>,
    credentials: Option<Credentials>,
    authorities: Option<PathBuf>,
}

impl Remote {
    /// # Errors
    /// `git_host_refused` `git_unreachable`.
    pub(super) async fn find(settings: &GitSettings, repository: Repository, all: &[Credentials]) -> Result<Self> {
        let egress = &settings.egress;
        let (host, port) = (repository.host(), repository.port());
        let addresses = egress.resolve(host, port).await.map_err(|why| match why {
            Refused::Inside { .. } => refused("git_host_refused", why.to_string()),
            Refused::Unresolved { .. } => unreachable(why),
        })?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if repository.is_plain() && !addresses.iter().all(|address| egress.excepts(bare, address.ip())) {
            let why = format!("{repository}: http is spoken only with hosts that the operator names (--allow-egress); use https");
            return Err(refused("git_host_refused", why));
        }
        let authority = repository.authority();
        let credentials = all.iter().find(|one| one.host().eq_ignore_ascii_case(&authority)).cloned();
        Ok(Self { repository, addresses, credentials, authorities: settings.authorities.clone() })
    }

    /// The file with the certificates of those who may vouch for it, where that are not the machine's own.
    pub(super) fn authorities(&self) -> Option<&Path> {
        self.authorities.as_deref()
    }

    /// Has curl go to the addresses that were looked at and to no others, whatever the name comes to mean. None for an address
    /// that stands in the URL itself: it is not resolved at all.
    pub(super) fn pin(&self) -> Option<String> {
        let host = self.repository.host();
        if host.starts_with('[') || host.parse::<IpAddr>().is_ok() {
            return None;
        }
        let ip = |address: &SocketAddr| match address {
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        };
        let addresses: Vec<String> = self.addresses.iter().map(ip).collect();
        Some(format!("{host}:{}:{}", self.repository.port(), addresses.join(",")))
    }

    /// The header that shows the credentials, if there are any for this very host and port.
    pub(super) fn authorization(&self) -> Option<SecretString> {
        use base64::Engine as _;
        let credentials = self.credentials.as_ref()?;
        let pair = format!("{}:{}", credentials.username(), credentials.expose_password());
        let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
        Some(SecretString::from(format!("Authorization: Basic {encoded}")))
    }

    /// The same place under another name.
    #[cfg(test)]
    pub(super) fn renamed(self, repository: Repository) -> Self {
        Self { repository, ..self }
    }

    pub(super) fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }
}
