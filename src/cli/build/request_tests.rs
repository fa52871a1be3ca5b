use super::*;

#[test]
fn secrets_are_named_as_docker_names_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("npm");
    std::fs::write(&file, "canary").expect("written");
    let file = file.to_str().expect("text");
    for given in [format!("id=a,src={file}"), format!("type=file,id=a,source={file}")] {
        assert_eq!(secret(&given).expect("a secret"), ("a".into(), b"canary".to_vec()));
    }
    assert_eq!(secret("id=a,env=CARGO_PKG_NAME").expect("a secret").1, b"dockwright");
    assert_eq!(secret("id=CARGO_PKG_NAME").expect("a secret").1, b"dockwright");
    for wrong in ["a", "src=x", "id=", "id=a,src=x,env=y", "id=a,mode=1"] {
        assert!(secret(wrong).expect_err(wrong).is::<Usage>(), "{wrong}");
    }
    assert!(secret("id=a,env=SURELY_NOT_SET").expect_err("is not there").to_string().contains("SURELY_NOT_SET"));
}

#[test]
fn what_cannot_be_meant_is_told_at_once() {
    assert_eq!(cache_source("type=registry,ref=a/b:1").expect("an image"), "a/b:1");
    assert_eq!(cache_source("a/b:1").expect("an image"), "a/b:1");
    assert!(cache_source("type=gha").expect_err("no image").is::<Usage>());
    assert_eq!(ssh("k=/x/y").expect("a key"), ("k".into(), PathBuf::from("/x/y")));
    assert!(ssh("k").expect_err("no file").is::<Usage>());
    assert_eq!(git(Path::new("https://h/r.git#main:sub")).expect("a URL").as_deref(), Some("https://h/r.git#main:sub"));
    assert_eq!(git(Path::new("./folder")).expect("a folder"), None);
    assert!(git(Path::new("git@h:r.git")).expect_err("not https").is::<Usage>());
}

#[test]
fn a_build_argument_without_a_value_is_that_of_the_environment() {
    assert_eq!(build_arg("A=b").as_deref(), Some("A=b"));
    assert_eq!(build_arg("CARGO_PKG_NAME").as_deref(), Some("CARGO_PKG_NAME=dockwright"));
    assert_eq!(build_arg("SURELY_NOT_SET"), None);
}
