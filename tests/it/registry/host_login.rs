//! The host's own `docker login`.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use dockwright::registry::host_credentials::HostLogins;

/// A configuration file with this text, in a folder of its own.
fn config(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.json");
    std::fs::write(&file, text).expect("written");
    (folder, file)
}

async fn pair(text: &str, host: &str) -> Option<(String, String)> {
    let (_folder, file) = config(text);
    let found = HostLogins::new(file).find(host).await.unwrap_or_else(|e| panic!("{text}: {e}"));
    found.map(|one| {
        assert_eq!(one.host(), host);
        (one.username().to_owned(), one.expose_password().to_owned())
    })
}

#[tokio::test]
async fn logins_in_the_file_are_for_their_registry_alone() {
    let login = Some(("user".to_owned(), "pa:ss".to_owned()));
    // "user:pa:ss"
    let file = r#"{"auths": {"r.example:5000": {"auth": "dXNlcjpwYTpzcw=="}, "https://index.docker.io/v1/": {"username": "user", "password": "pa:ss"}}}"#;
    assert_eq!(pair(file, "r.example:5000").await, login);
    assert_eq!(pair(file, "docker.io").await, login);
    for other in ["r.example", "r.example:5001", "evil.example"] {
        assert_eq!(pair(file, other).await, None, "{other}");
    }
    assert_eq!(pair("{}", "r.example").await, None);
    assert_eq!(pair(r#"{"auths": {"r.example": {}}}"#, "r.example").await, None);
}

#[tokio::test]
async fn what_cannot_be_used_is_told_without_the_secret() {
    for text in [
        r#"{"auths": {"r.example": {"auth": "dXNlcjpwYTpzcw==", "identitytoken": "canary"}}}"#,
        r#"{"auths": {"r.example": {"auth": "canary!"}}}"#,
        r#"{"auths": "canary"}"#,
        r#"{"credsStore": "../canary"}"#,
        r#"{"credHelpers": {"r.example": "a b; touch canary"}}"#,
        r#"{"credsStore": "surely-not-installed"}"#,
    ] {
        let (_folder, file) = config(text);
        let error = HostLogins::new(file).find("r.example").await.expect_err(text);
        assert!(!format!("{error:#}").contains("canary") || text.contains("\"cred"), "{error:#}");
    }
    let missing = HostLogins::new("/nowhere/config.json".into());
    assert!(missing.find("r.example").await.expect("is no error").is_none());
}

#[tokio::test]
async fn helpers_are_asked_by_their_protocol() {
    let folder = tempfile::tempdir().expect("a folder");
    let helper = folder.path().join("docker-credential-dockwright-test");
    let script = "#!/bin/sh\nread -r host || true\ncase \"$1 $host\" in\n'get r.example') echo '{\"ServerURL\":\"r.example\",\"Username\":\"u\",\"Secret\":\"s?>~\"}' ;;\n'get token.example') echo '{\"Username\":\"<token>\",\"Secret\":\"t\"}' ;;\n'get broken.example') echo 'the keyring is locked'; exit 1 ;;\n*) echo 'credentials not found in native keychain'; exit 1 ;;\nesac\n";
    std::fs::write(&helper, script).expect("written");
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let file = folder.path().join("config.json");
    std::fs::write(&file, r#"{"credsStore": "dockwright-test"}"#).expect("written");
    let logins = HostLogins::new(file).with_path(format!("{}:/usr/bin:/bin", folder.path().display()));
    let found = logins.find("r.example").await.expect("answers").expect("is there");
    assert_eq!((found.username(), found.expose_password()), ("u", "s?>~"));
    assert!(logins.find("none.example").await.expect("answers").is_none());
    assert!(logins.find("token.example").await.expect_err("is refused").to_string().contains("identity token"));
    assert!(logins.find("broken.example").await.expect_err("is told").to_string().contains("the keyring is locked"));
}
