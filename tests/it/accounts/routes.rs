//! The table of rights names every route, and nothing else is one.

use std::collections::BTreeSet;

use dockwright::http::access::RULES;
use reqwest::Method;

use super::people::{nobody, quiet};
use crate::support::service::{Backend, Running};

/// The operations that the service tells of.
async fn told(service: &Running) -> BTreeSet<(String, String)> {
    let paths = service.get("/api/openapi.json").await["paths"].as_object().expect("paths").clone();
    let operations = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().expect("operations").keys().cloned().collect::<Vec<_>>();
        methods.into_iter().map(move |method| (method.to_uppercase(), path.clone()))
    });
    operations.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_and_the_table_of_rights_name_the_same_routes() {
    let service = quiet(Backend::Sqlite).await;
    let told = told(&service).await;
    // The description and its page do not describe themselves.
    let own = ["/api/openapi.json", "/api/docs"];
    let ruled: BTreeSet<_> = RULES
        .iter()
        .filter(|rule| !own.contains(&rule.path))
        .map(|rule| (rule.method.to_owned(), rule.path.to_owned()))
        .collect();
    assert_eq!(told, ruled);
    for rule in RULES {
        // A terminal is opened by GET, as every WebSocket is.
        let changes = rule.method != "GET" || rule.path.ends_with("/exec");
        assert_eq!(rule.deed.is_some(), changes, "every change has a name in the audit: {rule:?}");
    }
}

/// What no table names is not there, and tells nobody without an account so much as that.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_route_is_told_to_accounts_alone() {
    let service = quiet(Backend::Sqlite).await;
    for path in ["/", "/api", "/api/v1", "/api/v2/builds", "/metrics", "/api/v1/builds/x/y/z", "/api/v1/users/a/b", "//healthz"] {
        assert_eq!(nobody(&service, Method::GET, path).send().await.expect("an answer").status(), 401, "{path}");
        assert_eq!(service.request(Method::GET, path).send().await.expect("an answer").status(), 404, "{path}");
    }
    assert_eq!(nobody(&service, Method::PUT, "/api/v1/builds").send().await.expect("an answer").status(), 401);
    assert_eq!(service.request(Method::PUT, "/api/v1/builds").send().await.expect("an answer").status(), 405);
}
