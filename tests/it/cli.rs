//! The commands beside `serve`, as an operator runs them.

mod apps;
mod builds;
mod builds_flags;
mod builds_known;
mod builds_live;
mod builds_logins;
mod builds_told;
mod builds_trouble;
pub mod ci;
mod front;
mod images;
mod login;
mod person;
mod pty;
mod remote;
mod screen;
mod terminal;
mod webhooks;

use std::path::Path;

use crate::support::process::Process;
use crate::support::{redis_url, registry, unique};

/// What a command printed, both streams, and whether it ended well.
pub fn dockwright(args: &[&str], environment: &[(&str, &str)]) -> (String, bool) {
    let output = person::dockwright(args).envs(environment.iter().copied()).output().expect("the binary runs");
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).expect("text"), output.status.success())
}

fn doctor(data: &Path, more: &[&str]) -> (String, bool) {
    let data = data.to_str().expect("text");
    let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").to_string();
    dockwright(&[&["doctor", "--data-dir", data, "--listen", &address, "--registry", &registry()], more].concat(), &[])
}

#[test]
fn a_doctor_before_the_first_start_is_content_and_makes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (told, well) = doctor(&folder.path().join("data"), &["--min-free-disk", "1m"]);
    assert!(well, "{told}");
    for part in ["settings", "address", "tls", "disk", "store", "engine", "git", "registry"] {
        assert!(told.lines().any(|line| line.starts_with("ok ") && line.contains(part)), "{part}: {told}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0);
}

#[test]
fn a_doctor_names_what_is_missing_and_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let (told, well) = doctor(
        folder.path(),
        &["--engine", "unix:///nowhere.sock", "--min-free-disk", "900000g", "--store", "redis://127.0.0.1:1"],
    );
    assert!(!well);
    for (part, words) in [("disk", "900000g"), ("store", "refused"), ("engine", "/nowhere.sock")] {
        let at = told.lines().position(|line| line.starts_with("FAIL") && line.contains(part));
        let at = at.unwrap_or_else(|| panic!("{part} fails: {told}"));
        let lines: Vec<&str> = told.lines().skip(at).take(2).collect();
        assert!(lines[0].contains(words) && lines[1].contains("what to do: "), "{lines:?}");
    }
    let (told, well) = dockwright(&["doctor", "--data-dir", "/dev/null/x", "--registry", "127.0.0.1:1"], &[]);
    assert!(!well);
    assert!(told.contains("/dev/null is no folder") && told.contains("cannot reach 127.0.0.1:1"), "{told}");
}

#[test]
fn a_doctor_beside_a_running_service_is_no_trouble_for_either() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut service = Process::start(&["serve", "--listen", "127.0.0.1:0"], folder.path());
    let address = service.address();
    let data = folder.path().to_str().expect("text");
    let args = ["doctor", "--data-dir", data, "--listen", &address, "--registry", &registry(), "--min-free-disk", "1m"];
    let (told, well) = dockwright(&args, &[]);
    assert!(well, "{told}");
    assert!(told.contains("a running dockwright has it") && told.contains("a dockwright answers on"), "{told}");
    let log = service.ended_log();
    assert!(log.contains("stopped"), "{log}");
}

#[test]
fn a_data_folder_serves_one_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().to_str().expect("text");
    let mut service = Process::start(&["serve", "--listen", "127.0.0.1:0"], folder.path());
    service.address();
    service.ended_log();
    let upload = folder.path().join("contexts/01a1fcc6-00db-778f-aa50-18c1c74c2480");
    std::fs::write(&upload, "an upload of long ago").expect("written");
    let redis = ["--store", &redis_url(), "--store-prefix", &unique("cli"), "--data-dir", data];
    for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["doctor"]] {
        let (told, well) = dockwright(&[command, &redis].concat(), &[]);
        assert!(!well && told.contains("belongs to the store \"sqlite\""), "{told}");
    }
    assert!(upload.exists());
}

#[test]
fn a_setting_has_three_forms_and_a_secret_none_that_is_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("dockwright.toml");
    let store = redis_url().replace("redis://", "redis://me:canary@");
    std::fs::write(&file, format!("max_upload = \"2g\"\nstore = \"{store}\"\nkey = \"canary\"\n")).expect("written");
    let file = file.to_str().expect("text");
    let (told, well) = dockwright(&["config", "--config", file], &[]);
    assert!(well && told.contains("max_upload = \"2g\"") && told.contains("me:********@") && !told.contains("canary"), "{told}");
    let environment = [("DOCKWRIGHT_MAX_UPLOAD", "3g"), ("DOCKWRIGHT_CONFIG", file)];
    assert!(dockwright(&["config"], &environment).0.contains("max_upload = \"3g\""));
    assert!(dockwright(&["config", "--max-upload", "4g"], &environment).0.contains("max_upload = \"4g\""));
    let (told, well) = dockwright(&["config"], &[("DOCKWRIGHT_MAX_UPLOADS", "3g")]);
    assert!(!well && told.contains("DOCKWRIGHT_MAX_UPLOADS is no setting"), "{told}");
    let (told, well) = dockwright(&["config", "--max-uploads", "3g"], &[]);
    assert!(!well && told.contains("unexpected argument '--max-uploads'"), "{told}");
}
