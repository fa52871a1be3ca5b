use std::fs;
use std::path::{Path, PathBuf};

use dockwright::context::dockerfile::check;

fn cases(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/dockerfiles").join(kind);
    let cases: Vec<_> = fs::read_dir(folder).expect("the fixtures are there").map(|e| e.expect("an entry").path()).collect();
    assert!(cases.len() >= 15, "fixtures of {kind} Dockerfiles are missing");
    cases
}

#[test]
fn context_valid_dockerfiles_are_accepted() {
    for case in cases("valid") {
        let text = fs::read(case.join("Dockerfile")).expect("a Dockerfile");
        let outline = check(&text).unwrap_or_else(|fault| panic!("{}: {fault}", case.display()));
        assert!(!outline.stages.is_empty(), "{}", case.display());
    }
}

#[test]
fn context_invalid_dockerfiles_are_refused_with_line_and_code() {
    for case in cases("invalid") {
        let text = fs::read(case.join("Dockerfile")).expect("a Dockerfile");
        let expected = fs::read_to_string(case.join("error")).expect("the expected error");
        let fault = check(&text).expect_err(&case.display().to_string());
        let line = fault.line.map_or("-".to_owned(), |line| line.to_string());
        assert_eq!(format!("{line} {}", fault.code), expected.trim(), "{}: {fault}", case.display());
    }
}
