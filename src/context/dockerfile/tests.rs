use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Outline, check, frontend_allowed};

fn outline(text: &str) -> Outline {
    check(text.as_bytes()).unwrap_or_else(|fault| panic!("{text:?}: {fault}"))
}

fn code(text: &[u8]) -> (Option<u32>, &'static str) {
    let fault = check(text).expect_err("must be refused");
    (fault.line, fault.code)
}

#[test]
fn an_unknown_instruction_is_told_in_dockers_words() {
    let fault = check(b"FROM x\n# comment\nFRUM y\n").expect_err("FRUM is no instruction");
    assert_eq!(fault.to_string(), "dockerfile parse error line 3: unknown instruction: FRUM");
}

#[test]
fn what_is_no_text_is_refused() {
    assert_eq!(code(b"%PDF-1.7\n%\xe2\xe3"), (None, "dockerfile_not_text"));
    assert_eq!(code(b"FROM x\nRUN \0\n"), (Some(2), "dockerfile_not_text"));
    assert_eq!(code(b"FROM x\nRUN echo \xff\n"), (Some(2), "dockerfile_not_text"));
    assert_eq!(code(b"\xff\xfeF\0R\0"), (None, "dockerfile_not_text"));
    // A comment in an old encoding harms no engine.
    assert!(check(b"# M\xfcller\nFROM x\n").is_ok());
}

#[test]
fn lines_longer_than_an_engine_takes_are_refused() {
    let label = |bytes: usize| format!("FROM x\nLABEL a={}\n", "b".repeat(bytes - 8));
    assert!(check(label(65_535).as_bytes()).is_ok());
    assert_eq!(code(label(65_536).as_bytes()), (Some(2), "dockerfile_line_too_long"));
}

#[test]
fn faults_come_in_the_engines_order() {
    // The parser finds what has no end before it looks at what instructions are called.
    assert_eq!(code(b"FROM x\nFRUM y\nRUN <<EOF\n"), (Some(3), "dockerfile_unterminated_heredoc"));
}

#[test]
fn stages_images_and_arguments_are_found() {
    let outline = outline(
        "ARG BASE=alpine:3\nARG B\nFROM --platform=$BUILDPLATFORM $BASE AS Build\nARG X=1 Y\nRUN --mount=type=bind,from=tools:1,target=/t x\n\
         FROM build\nFROM scratch\nCOPY --from=build /a /b\nCOPY --from=0 /a /b\nCOPY --from=busybox:1 /a /b\nONBUILD COPY --from=later:2 a b\n",
    );
    let stages: Vec<_> = outline.stages.iter().map(|s| (s.name.as_deref(), s.base.as_str(), s.line)).collect();
    assert_eq!(stages, [(Some("build"), "$BASE", 3), (None, "build", 6), (None, "scratch", 7)]);
    let images: Vec<_> = outline.images.iter().map(|i| (i.text.as_str(), i.line)).collect();
    assert_eq!(images, [("$BASE", 3), ("tools:1", 5), ("busybox:1", 10), ("later:2", 11)]);
    let args: Vec<_> = outline.args.iter().map(|a| (a.name.as_str(), a.default.as_deref(), a.global)).collect();
    assert_eq!(args, [("BASE", Some("alpine:3"), true), ("B", None, true), ("X", Some("1"), false), ("Y", None, false)]);
}

#[test]
fn what_only_buildkit_knows_is_found_with_its_line() {
    for (line, what) in [
        ("RUN --mount=type=cache,target=/c x", "--mount"),
        ("RUN --network=none x", "--network"),
        ("RUN --security=insecure x", "--security"),
        ("COPY --chmod=755 a b", "--chmod"),
        ("COPY --link a b", "--link"),
        ("run <<EOF\nx\nEOF", "heredocs"),
        ("COPY <<EOF /x\nx\nEOF", "heredocs"),
    ] {
        let needs = outline(&format!("FROM x\n{line}\n")).buildkit_only.unwrap_or_else(|| panic!("{line}"));
        assert_eq!((needs.what, needs.line), (what, 2), "{line}");
    }
    assert_eq!(outline("FROM x\nCOPY --chown=1 --from=y a b\nRUN echo --mount=x '<<EOF'\n").buildkit_only, None);
}

#[test]
fn the_services_own_host_is_found_however_it_is_named() {
    let args = |given: &[(&str, &str)]| given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>();
    for (text, given) in [
        ("FROM dockwright.local/build:1", &[][..]),
        ("FROM Dockwright.Local:80/build:1", &[]),
        ("FROM x\nCOPY --from=dockwright.local/build:1 a b", &[]),
        ("FROM x\nRUN --mount=from=dockwright.local/build:1,target=/x a", &[]),
        ("FROM x\nRUN --mount=\"type=bind,from=dockwright.local/build:1\" a", &[]),
        ("FROM x\nONBUILD COPY --from=dockwright.local/build:1 a b", &[]),
        ("ARG H=dockwright.local\nFROM $H/build:1", &[]),
        ("ARG L=local\nARG H=dockwright.${L}\nFROM ${H}/build:1", &[]),
        ("ARG H\nFROM ${H:-busybox}", &[("H", "dockwright.local/build:1")]),
        ("ARG H=xdockwright.local\nFROM ${H#x}/build:1", &[]),
        ("ARG H=dockwright_local\nFROM ${H/_/.}/build:1", &[]),
        ("FROM \\\n  # comment\n  dockwright.local/build:1", &[]),
        // To an engine without heredocs this is a second stage.
        ("FROM x\nRUN <<EOF\nFROM dockwright.local/build:1\nEOF", &[]),
    ] {
        assert!(outline(text).reserved_image(&args(given)).is_some(), "{text}");
    }
    for text in ["FROM busybox", "FROM dockwright.local", "FROM x/dockwright.local/y", "ARG H=dockwright.local/x\nFROM busybox"] {
        assert_eq!(outline(text).reserved_image(&BTreeMap::new()), None, "{text}");
    }
}

#[test]
fn only_dockers_own_frontend_is_allowed() {
    let digest = format!("docker/dockerfile:1@sha256:{}", "a".repeat(64));
    for good in ["docker/dockerfile", "docker/dockerfile:1", "docker.io/docker/dockerfile:1.7-labs", &digest] {
        assert!(frontend_allowed(good), "{good}");
    }
    for bad in [
        "",
        "docker/dockerfile-upstream:1",
        "docker/dockerfilex",
        "docker/dockerfile/x",
        "evil/docker/dockerfile",
        "evil.io/docker/dockerfile:1",
        "docker.io/docker.io/docker/dockerfile",
        "docker/dockerfile:",
        "docker/dockerfile:1@sha256:1",
        "docker/dockerfile:1\tevil",
        "Docker/dockerfile",
    ] {
        assert!(!frontend_allowed(bad), "{bad}");
    }
}

#[test]
fn a_foreign_frontend_is_found_wherever_an_engine_looks_for_it() {
    for text in [
        "# syntax=evil/frontend\nFROM x",
        "#syntax = evil/frontend\nFROM x",
        "# SYNTAX=evil/frontend with words\nFROM x",
        "\u{feff}# syntax=evil/frontend\nFROM x",
        "# escape=`\n# syntax=evil/frontend\r\nFROM x",
        "# unknown=1\n# syntax=evil/frontend\nFROM x",
        "#!/usr/bin/env docker\n# syntax=evil/frontend\nFROM x",
    ] {
        assert_eq!(outline(text).foreign_frontend().map(|f| f.image.as_str()), Some("evil/frontend"), "{text:?}");
    }
    for text in
        ["# syntax=docker/dockerfile:1\nFROM x", "# comment\n# syntax=evil/frontend\nFROM x", "FROM x\n# syntax=evil/frontend"]
    {
        assert_eq!(outline(text).foreign_frontend(), None, "{text:?}");
    }
}

proptest! {
    /// Whatever is uploaded, there is an answer.
    #[test]
    fn any_bytes_get_an_answer(text in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = check(&text);
    }

    /// The same for text that looks more like a Dockerfile.
    #[test]
    fn any_words_get_an_answer(words in proptest::collection::vec(
        prop::sample::select(vec![
            "FROM", "RUN", "COPY", "ARG", "ENV", "ONBUILD", "HEALTHCHECK", "# syntax=", "# escape=`", "\n", "\r\n", " ", "\t", "\\", "`",
            "<<EOF", "<<-", "EOF", "\"", "'", "[", "]", "${", "}", "$x", ":-", "=", "--from=", "--mount=", ",", "a", "ü", "\u{feff}",
        ]), 0..60))
    {
        if let Ok(outline) = check(words.concat().as_bytes()) {
            let _ = outline.reserved_image(&BTreeMap::new());
        }
    }
}
