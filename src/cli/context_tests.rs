use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use super::*;

/// A folder with these files; a name that ends in `/` is a folder.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, text).expect("written");
    }
    root
}

fn paths(tree: &Tree) -> Vec<&str> {
    tree.entries.iter().map(|local| local.entry.path.as_str()).collect()
}

#[test]
fn what_is_left_out_never_travels_and_what_is_taken_back_does() {
    let root = folder(&[
        ("Dockerfile", "FROM scratch"),
        (".dockerignore", "*\n!src\nsrc/*.log\n!deep/kept/file"),
        ("src/a.rs", ""),
        ("src/a.log", ""),
        ("deep/kept/file", ""),
        ("deep/kept/other", ""),
        ("node_modules/x", ""),
    ]);
    let tree = look(root.path(), None).expect("a tree");
    let wanted = [".dockerignore", "Dockerfile", "deep", "deep/kept", "deep/kept/file", "src", "src/a.rs"];
    assert_eq!(paths(&tree), wanted);
    assert_eq!(tree.dockerfile, Dockerfile::Inside("Dockerfile".into()));
}

#[test]
fn a_dockerfile_in_a_left_out_folder_is_sent_with_its_own_ignore_file() {
    let root = folder(&[
        ("ci/app.Dockerfile", ""),
        ("ci/app.Dockerfile.dockerignore", "ci\nsecret"),
        (".dockerignore", "kept"),
        ("ci/x", ""),
        ("kept", "12345"),
        ("secret", ""),
    ]);
    let tree = look(root.path(), Some(Path::new("ci/app.Dockerfile"))).expect("a tree");
    assert_eq!(paths(&tree), [".dockerignore", "ci", "ci/app.Dockerfile", "ci/app.Dockerfile.dockerignore", "kept"]);
    assert_eq!(tree.bytes(), 5 + 4 + 9);
}

#[test]
fn a_dockerfile_from_outside_brings_its_ignore_file_along() {
    let outside = folder(&[("D", "FROM scratch"), ("D.dockerignore", "b")]);
    let root = folder(&[("a", ""), ("b", ""), (".dockerignore", "a")]);
    let tree = look(root.path(), Some(&outside.path().join("D"))).expect("a tree");
    assert_eq!(tree.dockerfile, Dockerfile::Beside(b"FROM scratch".to_vec()));
    assert_eq!(paths(&tree), ["a"], "the folder's own ignore file does not count");
}

#[test]
fn links_stay_links_and_what_is_no_file_is_told() {
    let root = folder(&[("real", "FROM scratch"), ("dir/x", "")]);
    symlink("real", root.path().join("Dockerfile")).expect("a link");
    symlink("/etc", root.path().join("out")).expect("a link");
    let _socket = UnixListener::bind(root.path().join("sock")).expect("a socket");
    let tree = look(root.path(), None).expect("a tree");
    assert_eq!(tree.dockerfile, Dockerfile::Beside(b"FROM scratch".to_vec()), "the text that the link leads to");
    assert_eq!(paths(&tree), ["Dockerfile", "dir", "dir/x", "out", "real"]);
    let out = &tree.entries[3];
    assert_eq!(out.entry.kind, EntryKind::Symlink { target: "/etc".into() });
    assert!(out.open().is_err(), "a link is never followed");
    assert_eq!(tree.skipped, ["\"sock\" is a socket, which no context can hold"]);
}

#[test]
fn a_folder_without_a_dockerfile_says_what_to_do() {
    let root = folder(&[("a", "")]);
    let error = format!("{:#}", look(root.path(), None).expect_err("no Dockerfile"));
    assert!(error.contains("Dockerfile") && error.contains("--file"), "{error}");
    assert!(look(&root.path().join("a"), None).is_err());
}
