//! An audit that nobody can change unseen, and what stands in it.

use dockwright::accounts::reseal_once;
use dockwright::domain::{Permission, Role};
use dockwright::vault::Vault;
use redis::Commands;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::people::{nobody, past, person, queued, quiet, send, token, with_password, without};
use crate::cli::dockwright;
use crate::support::service::{Backend, Running};
use crate::support::{redis_url, unique};

/// What `dockwright audit verify` says, and whether it is content.
fn verified(service: &Running, more: &[&str]) -> (String, bool) {
    let token = service.config.data_dir.join("admin-token");
    let args = ["audit", "verify", "--url", &service.url(""), "--token-file", token.to_str().expect("text")];
    tokio::task::block_in_place(|| dockwright(&[&args[..], more].concat(), &[]))
}

/// Whoever has the store, but not the service's keys.
enum Thief {
    File(rusqlite::Connection),
    Redis(redis::Connection, String),
}

impl Thief {
    fn of(service: &Running, backend: Backend) -> Self {
        match backend {
            Backend::Sqlite => {
                Self::File(rusqlite::Connection::open(service.config.data_dir.join("dockwright.db")).expect("opens"))
            }
            Backend::Redis => {
                let link = redis::Client::open(redis_url()).expect("a URL").get_connection().expect("Redis answers");
                Self::Redis(link, format!("{}:audit", service.config.store_prefix))
            }
        }
    }

    /// Puts another one in the place of the third entry.
    fn change_third(&mut self, change: impl Fn(&str) -> String) {
        match self {
            Self::File(file) => {
                let entry: String =
                    file.query_row("SELECT entry FROM audit WHERE seq = 3", [], |row| row.get(0)).expect("an entry");
                assert_eq!(file.execute("UPDATE audit SET entry = ?1 WHERE seq = 3", [change(&entry)]).expect("written"), 1);
            }
            Self::Redis(link, key) => {
                let entry: String = link.lindex(&*key, 2).expect("an entry");
                let () = link.lset(&*key, 2, change(&entry)).expect("written");
            }
        }
    }

    /// Leaves only the first entries.
    fn cut(&mut self, left: usize) {
        match self {
            Self::File(file) => {
                file.execute("DELETE FROM audit WHERE seq > ?1", [left]).expect("deleted");
            }
            Self::Redis(link, key) => {
                let () = link.ltrim(&*key, 0, isize::try_from(left).expect("small") - 1).expect("trimmed");
            }
        }
    }

    fn head(&mut self) -> String {
        match self {
            Self::File(file) => {
                file.query_row("SELECT body FROM object WHERE kind = 'audit_head'", [], |row| row.get(0)).expect("a head")
            }
            Self::Redis(link, key) => link.get(format!("{key}_head")).expect("a head"),
        }
    }

    /// Replaces the head, or takes it away.
    fn put_head(&mut self, head: Option<&str>) {
        match (self, head) {
            (Self::File(file), Some(head)) => {
                let sql = "INSERT INTO object (kind, id, owner, revision, body) VALUES ('audit_head', '', '', 1, ?1)
                           ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body";
                file.execute(sql, [head]).expect("written");
            }
            (Self::File(file), None) => {
                file.execute("DELETE FROM object WHERE kind = 'audit_head'", []).expect("deleted");
            }
            (Self::Redis(link, key), Some(head)) => link.set(format!("{key}_head"), head).expect("written"),
            (Self::Redis(link, key), None) => link.del(format!("{key}_head")).expect("deleted"),
        }
    }
}

/// A service with this many entries in its audit, all of ada's builds; and her token.
async fn with_entries(backend: Backend, many: usize) -> (Running, String, Thief) {
    let service = quiet(backend).await;
    let ada = service.user("ada").await;
    for _ in 0..many {
        queued(&service, &ada).await;
    }
    let thief = Thief::of(&service, backend);
    (service, ada, thief)
}

async fn a_changed_entry_is_found(backend: Backend) {
    let (service, _, mut thief) = with_entries(backend, 5).await;
    let (told, well) = verified(&service, &[]);
    assert!(well && told.contains("5 entries, unbroken"), "{told}");
    let entries = service.get("/api/v1/audit").await["items"].clone();
    let newest = &entries[0];
    assert_eq!((&newest["seq"], &newest["actor"], &newest["action"]), (&5.into(), &"ada".into(), &"build.submit".into()));
    assert_eq!((&newest["status"], &newest["proof"]["by"]), (&202.into(), &"token".into()), "{newest}");
    assert!(newest["object"].as_str().is_some_and(|object| object.starts_with("builds/")), "{newest}");
    thief.change_third(|entry| {
        assert!(entry.contains("\"ada\""), "{entry}");
        entry.replace("\"ada\"", "\"bob\"")
    });
    let (told, well) = verified(&service, &[]);
    assert!(!well && told.contains("entry 3"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_entry_of_the_audit_is_found_with_the_embedded_store() {
    a_changed_entry_is_found(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_entry_of_the_audit_is_found_with_redis() {
    a_changed_entry_is_found(Backend::Redis).await;
}

async fn a_cut_off_end_is_found(backend: Backend) {
    let (service, ada, mut thief) = with_entries(backend, 5).await;
    assert!(verified(&service, &[]).1);
    let kept = thief.head();
    for (head, why) in [(None, "taken away"), (Some("AAAA"), "forged"), (Some(&*kept), "unbroken")] {
        thief.put_head(head);
        let (told, well) = verified(&service, &[]);
        assert!(well == (why == "unbroken") && told.contains(why), "{told}");
    }
    thief.cut(3);
    let (told, well) = verified(&service, &[]);
    assert!(!well && told.contains("entry 5: is missing"), "{told}");
    // Going on covers nothing up, whatever the service remembers of the end.
    queued(&service, &ada).await;
    let (told, well) = verified(&service, &[]);
    assert!(!well && told.contains("entry 4: says that the service found"), "{told}");
    let entries = service.get("/api/v1/audit").await["items"].clone();
    let seen: Vec<_> = entries.as_array().expect("a list").iter().map(|one| one["action"].as_str().expect("text")).collect();
    assert_eq!(seen, ["build.submit", "audit.cut", "build.submit", "build.submit", "build.submit"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_end_of_the_audit_is_found_with_the_embedded_store() {
    a_cut_off_end_is_found(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_end_of_the_audit_is_found_with_redis() {
    a_cut_off_end_is_found(Backend::Redis).await;
}

/// An older copy, chain and head, looks whole. Only who has noted a later head sees that it is older.
async fn an_older_copy_is_found_by_a_noted_head(backend: Backend) {
    let (service, ada, mut thief) = with_entries(backend, 3).await;
    assert!(verified(&service, &[]).1);
    let older = thief.head();
    queued(&service, &ada).await;
    let (told, well) = verified(&service, &[]);
    let noted = told.lines().last().expect("a head").to_owned();
    assert!(well && noted.starts_with("4:"), "{told}");
    queued(&service, &ada).await;
    let (told, well) = verified(&service, &["--since", &noted]);
    assert!(well, "{told}");
    let other = format!("4:{}", "0".repeat(64));
    let (told, well) = verified(&service, &["--since", &other]);
    assert!(!well && told.contains("entry 4: is not the one that was noted"), "{told}");
    thief.cut(3);
    thief.put_head(Some(&older));
    assert!(verified(&service, &[]).1);
    let (told, well) = verified(&service, &["--since", &noted]);
    assert!(!well && told.contains("entry 4: is missing, and was noted"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_is_found_by_a_noted_head_with_the_embedded_store() {
    an_older_copy_is_found_by_a_noted_head(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_is_found_by_a_noted_head_with_redis() {
    an_older_copy_is_found_by_a_noted_head(Backend::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_is_sealed_anew_with_another_key() {
    for backend in [Backend::Sqlite, Backend::Redis] {
        let (service, _, mut thief) = with_entries(backend, 2).await;
        assert!(verified(&service, &[]).1);
        let before = thief.head();
        let vault = Vault::from_file(&service.config.key_file).expect("the service's keys");
        vault.rotate().expect("a new one");
        assert!(reseal_once(&service.store, &vault).await.expect("the store").audit);
        assert_ne!(thief.head(), before);
        assert!(!reseal_once(&service.store, &vault).await.expect("the store").audit, "once is enough");
        vault.retire().expect("the old one is gone");
        let (told, well) = verified(&service, &[]);
        assert!(well && told.contains("2 entries, unbroken"), "{told}");
    }
}

/// Who was refused is written down as well as who was not, and nothing of what only looks like a name.
async fn what_was_refused_is_written_down(backend: Backend) {
    let service = quiet(backend).await;
    with_password(&service, "ada", "user").await;
    let secret = unique("typed-into-the-wrong-field");
    let tried = nobody(&service, Method::GET, &format!("/api/v1/builds?token={secret}")).basic_auth(&secret, Some("a guess"));
    assert_eq!(send(tried).await.0, StatusCode::UNAUTHORIZED);
    let bob = person(&service, "bob", Role::User).await;
    let reader = token(&service, &bob, without(Role::User, Permission::BuildsWrite), None).await;
    let build = queued(&service, &service.token_of("bob").await).await;
    for path in [format!("/api/v1/builds/{build}?remote={secret}"), format!("/api/dockerfile-build/?dockerfile_build_id={build}")]
    {
        assert_eq!(send(service.request_as(&reader, Method::DELETE, &path)).await.0, StatusCode::FORBIDDEN, "{path}");
    }
    let gone = service.request(Method::DELETE, "/api/v1/registries/none?owner=bob");
    assert_eq!(send(gone).await.0, StatusCode::NOT_FOUND);
    // Nobody is known who shows a token that is over, and reading is not written down.
    let expired = token(&service, &bob, without(Role::User, Permission::BuildsWrite), past()).await;
    assert_eq!(send(service.request_as(&expired, Method::DELETE, "/api/v1/builds/x")).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(send(service.request_as(&reader, Method::GET, "/api/v1/users")).await.0, StatusCode::FORBIDDEN);
    let page = service.get("/api/v1/audit").await;
    assert!(!page.to_string().contains(&secret), "{page}");
    let seen: Vec<String> = page["items"].as_array().expect("a list").iter().rev().map(line).collect();
    let expected = [
        "201 user.make users/ada by admin".to_owned(),
        "401 password.try builds by nobody".into(),
        format!("202 build.submit builds/{build} by bob"),
        format!("403 build.delete builds/{build} by bob"),
        format!("403 build.delete builds/{build} by bob"),
        "404 registry.remove users/bob/registries/none by admin".into(),
    ];
    assert_eq!(seen, expected);
}

fn line(entry: &Value) -> String {
    let text = |field: &str| entry[field].as_str().unwrap_or("nobody").to_owned();
    format!("{} {} {} by {}", entry["status"], text("action"), text("object"), text("actor"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_written_down_with_the_embedded_store() {
    what_was_refused_is_written_down(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_written_down_with_redis() {
    what_was_refused_is_written_down(Backend::Redis).await;
}
