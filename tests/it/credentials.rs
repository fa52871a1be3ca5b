//! Passwords: what they open, and that they are found nowhere.

use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use reqwest::multipart::Form;
use serde_json::Value;

use crate::support::client::Client;
use crate::support::process::Process;
use crate::support::redis::RedisServer;
use crate::support::service::{self, Backend, docker, dockerfile, has_local_tag, id, tag_digest};
use crate::support::{private_registry, unique};

pub fn login(form: Form, user: &str, password: &str) -> Form {
    form.text("username", user.to_owned()).text("password", password.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_with_a_password_takes_the_right_one() {
    let service = service::start(Backend::Sqlite).await;
    let (host, user, password) = private_registry();
    let image = format!("{host}/{}:1", unique("right"));
    let build = service.submit(login(dockerfile("FROM busybox\n").text("image", image.clone()), &user, &password)).await;
    let ended = service.ended(&build).await;
    assert_eq!(ended["state"], "published", "{ended}\n{}", service.log(&build).await);
    let digest = tag_digest(&image, Some((&user, &password))).await;
    assert!(digest.is_some() && ended["destinations"][0]["digest"].as_str() == digest.as_deref());
    assert_eq!((&ended["options"]["username"], &ended["options"]["password"]), (&user.as_str().into(), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_none_end_the_push_in_the_registrys_own_words() {
    let service = service::start(Backend::Sqlite).await;
    let (host, user, password) = private_registry();
    for (given, words) in [(Some("wrong-password"), "unauthorized: authentication required"), (None, "the build has none for it")]
    {
        let image = format!("{host}/{}:1", unique("refused"));
        let mut form = dockerfile("FROM busybox\n").text("image", image.clone());
        if let Some(wrong) = given {
            form = login(form, &user, wrong);
        }
        let build = service.submit(form).await;
        let ended = service.ended(&build).await;
        let error = &ended["error"];
        assert_eq!(
            (&ended["state"], &error["kind"], &error["stage"]),
            (&"failed".into(), &"auth".into(), &"push".into()),
            "{ended}"
        );
        assert!(error["message"].as_str().is_some_and(|message| message.contains(words)), "{ended}");
        assert_eq!((&ended["destinations"][0]["state"], &ended["destinations"][0]["error"]), (&"failed".into(), error));
        assert_eq!((&ended["stages"][0]["state"], &ended["stages"][1]["state"]), (&"done".into(), &"failed".into()));
        assert!(has_local_tag(&build), "the image is kept for another try of the push");
        assert_eq!(tag_digest(&image, Some((&user, &password))).await, None);
        assert_eq!(service.delete(&build).await.json::<Value>().await.expect("JSON")["record"], "removed");
        assert!(!has_local_tag(&build));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_does_not_matter_to_a_build_that_is_not_pushed() {
    let service = service::start(Backend::Sqlite).await;
    let (host, user, _) = private_registry();
    let form = dockerfile("FROM busybox\n").text("image", format!("{host}/{}", unique("nopush"))).text("push", "false");
    let ended = service.ended(&service.submit(login(form, &user, "wrong-password")).await).await;
    assert_eq!((&ended["state"], &ended["destinations"]), (&"built".into(), &serde_json::json!([])), "{ended}");
    assert_eq!(ended["stages"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_a_step_prints_is_redacted() {
    let service = service::start(Backend::Sqlite).await;
    let (host, user, _) = private_registry();
    let canary = unique("canary");
    let text =
        format!("FROM busybox\nRUN echo shown:{canary}: && echo $(echo -n {user}:{canary} | base64 | tr -d '\\n') && exit 3\n");
    let build =
        service.submit(login(dockerfile(&text).text("image", format!("{host}/{}", unique("redact"))), &user, &canary)).await;
    let ended = service.ended(&build).await;
    let log = service.log(&build).await;
    assert!(log.contains("shown:[redacted]:"), "{log}");
    for text in [log, ended["error"].to_string(), ended["message"].to_string()] {
        assert!(!text.contains(&canary) && !text.contains(&STANDARD.encode(format!("{user}:{canary}"))), "{text}");
    }
}

/// Every form in which a password may lie somewhere.
pub fn forms(user: &str, canary: &str) -> Vec<String> {
    let json = serde_json::json!({"username": user, "password": canary}).to_string();
    let mut forms = vec![canary.to_owned(), hex::encode(canary)];
    forms.extend(
        [canary, &format!("{user}:{canary}"), &json].iter().flat_map(|text| [STANDARD.encode(text), URL_SAFE.encode(text)]),
    );
    // However a longer text around it is cut into groups of three bytes: the middle of its encoding is the same in one of three.
    forms.extend((0..3).map(|skip| STANDARD.encode(&canary[skip..canary.len() - canary.len() % 3 - 3 + skip])));
    forms
}

pub fn assert_nowhere(forms: &[String], bytes: &[u8], place: &str) {
    let found = forms.iter().find(|form| is_in(form, bytes));
    assert!(found.is_none(), "{} is found in {place}", found.expect("found"));
}

/// Whether a text stands in what was read, as it is or packed.
pub fn is_in(text: &str, bytes: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).contains(text) || String::from_utf8_lossy(&unpacked(bytes)).contains(text)
}

/// What is in a file of gzip or zstd, as far as it can be read.
fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    // The last frame of a file that is being written may be cut off.
    let _ = match bytes {
        [0x1f, 0x8b, ..] => flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut text),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            zstd::stream::read::Decoder::new(bytes).and_then(|mut frames| frames.read_to_end(&mut text))
        }
        _ => Ok(0),
    };
    text
}

/// Looks for them in every file; how many there were.
pub fn assert_not_in_folder(forms: &[String], folder: &Path) -> usize {
    let mut files = 0;
    each_file(folder, &mut |path, bytes| {
        assert_nowhere(forms, bytes, &path.display().to_string());
        files += 1;
    });
    files
}

/// Whether the same search finds a text that is there.
pub fn is_in_folder(text: &str, folder: &Path) -> bool {
    let mut found = false;
    each_file(folder, &mut |_, bytes| found |= is_in(text, bytes));
    found
}

fn each_file(folder: &Path, look: &mut impl FnMut(&Path, &[u8])) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            each_file(&path, look);
        } else if let Ok(bytes) = std::fs::read(&path) {
            look(&path, &bytes);
        }
    }
}

/// A build that succeeds and one that is refused by the registry, with a canary as the password of each; then a look everywhere.
async fn leaves_no_trace(store: &[&str], redis_dir: Option<&Path>) {
    let data = tempfile::tempdir().expect("a folder");
    let mut args = vec!["serve", "--listen", "127.0.0.1:0", "--log-level", "trace", "--keep-hot-log", "1h"];
    args.extend(store);
    let mut process = Process::start(&args, data.path());
    let address = process.address();
    let client = Client::new(&address, data.path());
    let (host, user, password) = private_registry();
    let canary = unique("Canary");
    let mut all = forms(&user, &canary);
    all.extend(forms(&user, &password));
    // The right password, then one that the registry refuses.
    for (given, state) in [(&password, "published"), (&canary, "failed")] {
        let form = dockerfile(&format!("FROM busybox\nLABEL a={}\n", unique("own")))
            .text("image", format!("{host}/{}:1", unique("canary")));
        let build = client.submit(login(form, &user, given)).await;
        let cmdline = std::fs::read(format!("/proc/{}/cmdline", process.pid())).expect("a command line");
        assert_nowhere(&all, &cmdline, "the process's arguments");
        // While it is under way as well as after its end.
        assert_not_in_folder(&all, data.path());
        let ended = client.ended(&build).await;
        assert_eq!(ended["state"], state, "{ended}");
        let image = ended["image_id"].as_str().unwrap_or_else(|| panic!("no image: {ended}"));
        for place in ["", "/logs", "/dockerfile"] {
            assert_nowhere(&all, client.text(&format!("{build}{place}")).await.as_bytes(), place);
        }
        let events =
            client.request(reqwest::Method::GET, &format!("/{build}/logs")).header("accept", "text/event-stream").send().await;
        assert_nowhere(&all, events.expect("an answer").text().await.expect("text").as_bytes(), "the events");
        let history = docker(&["history", "--no-trunc", image]) + &docker(&["image", "inspect", image]);
        assert!(history.contains("sha256:"), "{history}");
        assert_nowhere(&all, history.as_bytes(), "the image");
        docker(&["rmi", &format!("dockwright.local/build:{build}")]);
    }
    assert!(assert_not_in_folder(&all, data.path()) > 1);
    if let Some(dir) = redis_dir {
        // Its append-only file has every write that there ever was.
        assert!(assert_not_in_folder(&all, dir) > 1);
    }
    let log = process.ended_log();
    assert!(log.lines().count() > 50, "a log that tells everything");
    assert_nowhere(&all, log.as_bytes(), "the service's log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_found_nowhere_with_the_embedded_store() {
    leaves_no_trace(&[], None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_found_nowhere_with_redis() {
    let redis = RedisServer::start().await;
    leaves_no_trace(&["--store", &redis.url()], Some(redis.dir())).await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_types, reason = "looks into the file behind the store's back")]
async fn credentials_are_erased_when_the_build_ends() {
    let service = service::start(Backend::Sqlite).await;
    let (host, user, password) = private_registry();
    let mark = unique("mark");
    let form =
        dockerfile(&format!("FROM busybox\nRUN echo {mark} && sleep 2\n")).text("image", format!("{host}/{}", unique("erased")));
    let build = service.submit(login(form, &user, &password)).await;
    let file = service.config.data_dir.join("dockwright.db");
    let sealed = || -> i64 {
        let database = rusqlite::Connection::open(&file).expect("opens");
        database.query_row("SELECT count(*) FROM sealed", [], |row| row.get(0)).expect("a number")
    };
    service.logged(&build, &format!("{mark}\n")).await;
    assert_eq!(sealed(), 1, "kept, encrypted, while they are needed");
    assert_eq!(service.ended(&build).await["state"], "published");
    assert_eq!(sealed(), 0);
    assert_eq!(service.get(&format!("/api/v1/builds/{}", id(&build))).await["options"]["username"], user.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_own_login_is_used_only_when_the_operator_allows_it() {
    let (host, user, password) = private_registry();
    let docker_config = tempfile::tempdir().expect("a folder");
    let json = serde_json::json!({"auths": {&host: {"auth": STANDARD.encode(format!("{user}:{password}"))}}});
    std::fs::write(docker_config.path().join("config.json"), json.to_string()).expect("written");
    let environment = [("DOCKER_CONFIG", docker_config.path().to_str().expect("text"))];
    for (flags, state) in [(&[][..], "failed"), (&["--host-credentials"][..], "published")] {
        let data = tempfile::tempdir().expect("a folder");
        let args = [&["serve", "--listen", "127.0.0.1:0"], flags].concat();
        let mut process = Process::start_with(&args, data.path(), &environment);
        let client = Client::new(&process.address(), data.path());
        let build = client.submit(dockerfile("FROM busybox\n").text("image", format!("{host}/{}:1", unique("host")))).await;
        let ended = client.ended(&build).await;
        let log = client.text(&format!("{build}/logs")).await;
        assert_eq!(ended["state"], state, "{ended}\n{log}");
        let said = log.contains(&format!("Using the host's own login for {host}"));
        assert_eq!(said, state == "published", "the build says so: {log}");
        docker(&["rmi", &format!("dockwright.local/build:{build}")]);
    }
}
