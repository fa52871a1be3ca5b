//! A server's own trouble is not told as the caller's fault, and what passes is waited for.

use super::{DOCKERFILE, from, refused, service, service_with};
use crate::pipeline::on_both_stores;
use crate::support::git::{GitHost, Manners};
use crate::support::service::Backend;

on_both_stores!(a_server_that_is_in_trouble_is_asked_three_times, no_time_is_left_for_another_try);

async fn failing(times: usize) -> (GitHost, String) {
    let host = GitHost::start_on("127.0.0.1:0", Manners { failing: times, ..Manners::default() }).await;
    let repository = host.repository("app");
    repository.commit(&[("Dockerfile", DOCKERFILE)]);
    (host, repository.url)
}

async fn a_server_that_is_in_trouble_is_asked_three_times(backend: Backend) {
    let service = service(backend).await;
    let (host, url) = failing(3).await;
    let problem = refused(&service, from(&url), 502, "git_unreachable").await;
    assert!(problem["detail"].as_str().is_some_and(|told| told.contains("503")), "in its own words: {problem}");
    assert_eq!(host.requests().len(), 3);
    let (_host, url) = failing(2).await;
    let build = service.submit(from(&url)).await;
    assert_eq!(build["context"]["git"]["url"], url, "{build}");
}

async fn no_time_is_left_for_another_try(backend: Backend) {
    let service = service_with(backend, |settings| settings.git_timeout = Some("1s".parse().expect("a span"))).await;
    let (host, url) = failing(9).await;
    refused(&service, from(&url), 504, "git_timeout").await;
    assert!(host.requests().len() < 3);
}
