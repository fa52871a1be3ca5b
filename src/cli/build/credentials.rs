//! The caller's own logins, for the host that the image goes to and for no other.

use crate::domain::{Credentials, ImageRef};
use crate::registry::host_credentials::HostLogins;

/// The login of the caller's Docker configuration for the destinations' host; and a word, where there is one that cannot be used.
/// One pair of name and password travels with a build: destinations on several hosts need credentials that the service keeps.
pub(super) async fn of_docker(images: &[ImageRef]) -> (Option<Credentials>, Option<String>) {
    let (Some(logins), Some(first)) = (HostLogins::of_this_host(), images.first()) else { return (None, None) };
    if images.iter().any(|image| image.host() != first.host()) {
        let word = "the images are on several hosts: your Docker logins are not used; name kept credentials with --registry";
        return (None, Some(word.into()));
    }
    match logins.find(first.host()).await {
        Ok(found) => (found, None),
        Err(error) => (None, Some(format!("your Docker login for {} is not used: {error:#}", first.host()))),
    }
}
