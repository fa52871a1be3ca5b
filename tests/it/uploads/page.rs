//! The shell of docs/uploads.md, as another client would use it.

use serde_json::Value;

use crate::cli::ci::{blocks, job, read};
use crate::pipeline::on_both_stores;
use crate::support::service::{self, Backend, context, id};
use crate::support::{registry, unique};

on_both_stores!(the_shell_of_the_page_sends_what_is_missing);

async fn the_shell_of_the_page_sends_what_is_missing(backend: Backend) {
    let service = service::start(backend).await;
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let name = unique("page");
    std::fs::write(
        at.join("Dockerfile"),
        "FROM busybox\nCOPY . /c\nRUN test -L /c/link && test -d /c/empty && ls '/c/sub/a b'\n",
    )
    .expect("written");
    std::fs::create_dir_all(at.join("empty")).expect("made");
    std::fs::create_dir_all(at.join("sub")).expect("made");
    std::fs::write(at.join("sub/a b"), &name).expect("written");
    std::os::unix::fs::symlink("sub", at.join("link")).expect("a link");
    let shell = blocks(&read("docs/uploads.md"), "In three steps", "sh").pop().expect("a block");
    let image = format!("{}/{name}:1", registry());
    let send = || {
        let done = job(&service, at, ("sh", &shell), &[("IMAGE", &image)]).well();
        serde_json::from_str::<Value>(&done.out).unwrap_or_else(|_| panic!("{}{}", done.out, done.err))
    };
    let build = service.ended(&send()).await;
    assert_eq!(build["state"], "published", "{build}\n{}", service.log(&build).await);
    let tar = std::process::Command::new("tar").args(["-c", "."]).current_dir(at).output().expect("tar");
    let whole = service.submit(context(tar.stdout).text("push", "false")).await;
    assert_eq!(whole["context"]["digest"], build["context"]["digest"], "the same, however it was sent");
    std::fs::write(at.join("sub/a b"), "changed").expect("written");
    let again = send();
    assert!(id(&again) != id(&build) && again["context"]["digest"] != build["context"]["digest"], "{again}");
}
