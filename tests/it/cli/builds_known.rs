//! Builds in `ps`, `logs`, `inspect`, `cancel`, `retry` and `rm`, beside containers.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use super::builds::{folder, text};
use super::person::{Person, run};
use crate::pipeline::on_both_stores;
use crate::support::harbor::harbor;
use crate::support::own;
use crate::support::service::Backend;

on_both_stores!(a_detached_build_is_seen_followed_cancelled_and_removed,);

const NOBODY: &str = "01a1fcc6-00db-778f-aa50-18c1c74c2480";

async fn a_detached_build_is_seen_followed_cancelled_and_removed(backend: Backend) {
    let harbor = harbor(backend).await;
    let token = harbor.user("ada").await;
    let ada = Person::of(&harbor, &token);
    let context = folder(&[("Dockerfile", &own("RUN echo one\nRUN echo two; echo be''gun; sleep 600\n"))]);
    let started = ada.with("build --detach --no-push --no-cache --project site", text(context.path())).well();
    let id = started.out.trim_end();
    assert!(uuid::Uuid::try_parse(id).is_ok(), "the id alone: {}", started.out);
    harbor.logged(&serde_json::json!({"id": id}), "begun").await;
    for line in ["ps", "ps --builds", "ps --state building"] {
        let shown = ada.run(line).well().out;
        assert!(shown.contains(id) && shown.contains("building") && shown.contains("site"), "{line}: {shown}");
    }
    assert_eq!(ada.run("ps --json").json(), serde_json::json!([]), "containers alone, as before");
    assert_eq!(ada.run("ps --builds --json").json()[0]["id"], id);
    assert!(ada.shows(&format!("inspect {id}")).contains("building"));
    // Of a build under way, what is there now.
    assert!(ada.run(&format!("logs {id}")).well().out.contains("begun"));
    let of_step = ada.with(&format!("logs {id} --step"), "RUN echo two").well().out;
    assert!(of_step.contains("two") && of_step.contains("begun") && !of_step.contains("one\n"), "{of_step}");
    let stamped = ada.run(&format!("logs -t -n 1 {id}")).well().out;
    assert!(stamped.ends_with("Z begun\n") && stamped.lines().count() == 1, "{stamped}");
    ada.run(&format!("rm {id}")).refused("--force");
    let mut following = ada.command(&format!("logs --follow --tail 1 {id}"), &[]).stdout(Stdio::piped()).spawn().expect("runs");
    let mut lines = BufReader::new(following.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "begun");
    let cancelled = ada.run(&format!("cancel {id}")).well().out;
    assert!(cancelled.contains("cancelled"), "{cancelled}");
    assert!(lines.all(|line| line.is_ok()) && following.wait().expect("ends").success(), "it ends with the build");
    assert!(!ada.run("ps").well().out.contains(id));
    assert!(ada.run("ps --builds --all").well().out.contains("cancelled"));
    assert!(ada.run(&format!("rm {id}")).well().out.contains("removed"));
    for line in ["rm", "inspect", "logs"] {
        ada.run(&format!("{line} {id}")).refused("is no container and no build of yours");
    }
    ada.run(&format!("retry {NOBODY}")).refused("not_found");
    ada.run(&format!("logs --step 1 {NOBODY}")).refused("is no build");
}

#[test]
fn a_shell_and_the_manual_know_every_command() {
    let script = folder(&[("completions", &run(&["completions", "bash"], "").well().out)]);
    let load = [". ./completions && complete -p dockwright"];
    let loaded = Command::new("bash").arg("-c").args(load).current_dir(script.path()).output().expect("bash");
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell], "").well().out;
        assert!(script.contains("metadata-file") && script.contains("exec"), "{shell}");
    }
    assert!(run(&["man"], "").well().out.contains("dockwright\\-build"));
    let pages = tempfile::tempdir().expect("a folder");
    run(&["man", "--folder", text(pages.path())], "").well();
    let page = std::fs::read_to_string(pages.path().join("dockwright-build.1")).expect("a page");
    assert!(page.contains("\\-\\-build\\-arg") && page.contains("Exit code"), "{page}");
}
