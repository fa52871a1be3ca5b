//! The caller's own logins, for the host that the image goes to and for no other.

use super::show::Show;
use crate::cli::remote::path;
use crate::client::Client;
use crate::domain::{Credentials, ImageRef};
use crate::registry::host_credentials::HostLogins;

/// The login of the caller's Docker configuration for the destinations' host. What cannot be used is told.
/// One pair of name and password travels with a build: destinations on several hosts need credentials that the service keeps.
pub(super) async fn of_docker(client: &Client, images: &[ImageRef], shown: &mut dyn Show) -> Option<Credentials> {
    let (logins, first) = (HostLogins::of_this_host()?, images.first()?);
    if images.iter().any(|image| image.host() != first.host()) {
        shown.note("the images are on several hosts: your Docker logins are not used; name kept credentials with --registry");
        return None;
    }
    match logins.find(first.host()).await {
        Ok(Some(_)) if !client.is_confidential() => {
            shown.note("your Docker login is not sent, because the way to the service is not encrypted; name kept credentials with --registry");
            None
        }
        Ok(found) => found,
        Err(error) => {
            shown.note(&format!("your Docker login for {} is not used: {error:#}", first.host()));
            None
        }
    }
}

/// Whether the credentials that the service keeps under these names are for any of the destinations. Those of a git repository are for none.
pub(super) async fn are_kept(client: &Client, names: &[String], images: &[ImageRef]) -> bool {
    for name in names {
        let kept = match path("registries", name) {
            Ok(path) => client.find(&path).await,
            Err(error) => Err(error),
        };
        // What cannot be asked for is the service's to judge, when it gets the form.
        let Ok(Some(kept)) = kept else { return true };
        if images.iter().any(|image| kept["server"].as_str().is_none_or(|server| server == image.host())) {
            return true;
        }
    }
    false
}
