//! Git over TLS, with a certificate that an authority of the operator's own vouches for.

use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::Method;
use serde_json::json;

use super::{DOCKERFILE, from, refused, service, service_with};
use crate::pipeline::on_both_stores;
use crate::support::git::{GitHost, Manners};
use crate::support::service::Backend;
use crate::support::unique;

on_both_stores!(a_server_is_trusted_by_whom_the_operator_names);

/// An authority, and a certificate of 127.0.0.1 by it.
struct Authority {
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let authority = Self { folder: tempfile::tempdir().expect("a folder") };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        authority.openssl(&format!("req -x509 {key} -days 2 -subj /CN={} -keyout ca.key -out ca.pem", unique("authority")));
        authority
            .openssl(&format!("req {key} -subj /CN=git -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out request.pem"));
        authority.openssl(
            "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -copy_extensions copy -days 2 -out cert.pem",
        );
        authority
    }

    fn openssl(&self, arguments: &str) {
        let made = Command::new("openssl").args(arguments.split(' ')).current_dir(self.folder.path()).output();
        let made = made.expect("openssl; install it");
        assert!(made.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&made.stderr));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn host(&self, login: (&str, &str)) -> GitHost {
        let tls = Some((self.file("cert.pem"), self.file("key.pem")));
        let manners = Manners { login: Some((login.0.into(), login.1.into())), tls, ..Manners::default() };
        GitHost::start_on("127.0.0.1:0", manners).await
    }
}

async fn a_server_is_trusted_by_whom_the_operator_names(backend: Backend) {
    let (authority, password) = (Authority::new(), unique("Password"));
    let host = authority.host(("robot", &password)).await;
    let repository = host.repository("app");
    let commit = repository.commit(&[("Dockerfile", DOCKERFILE)]);
    let trusting = async |file: &Path| service_with(backend, |settings| settings.git_ca = Some(file.to_owned())).await;
    let other = Authority::new();
    for service in [service(backend).await, trusting(&other.file("ca.pem")).await] {
        let problem = refused(&service, from(&repository.url), 502, "git_certificate").await;
        assert!(problem["detail"].as_str().is_some_and(|told| told.contains("--git-ca")), "{problem}");
    }
    assert_eq!(host.requests(), [] as [String; 0], "nothing was shown to it");
    let service = trusting(&authority.file("ca.pem")).await;
    refused(&service, from(&repository.url), 400, "git_authentication").await;
    let kept = json!({"server": host.address.to_string(), "username": "robot", "password": password});
    let put = service.request(Method::PUT, "/api/v1/registries/git").json(&kept).send().await.expect("an answer");
    assert!(put.status().is_success());
    let build = service.submit(from(&repository.url).text("registry", "git")).await;
    assert_eq!(build["context"]["git"]["commit"], commit, "{build}");
}
