//! Bad input: each has its clear answer, and nothing is left behind.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use reqwest::multipart::{Form, Part};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::support::service::{self, Backend, Running, context, dockerfile, tar};
use crate::support::{registry, watch};

/// Asserts that an upload is refused with this status and code, in a problem that names `field`, and leaves nothing.
async fn refused(service: &Running, form: Form, status: u16, code: &str, field: &str) -> Value {
    let answer = service.post(form).await;
    let got = answer.status().as_u16();
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Value = answer.json().await.expect("JSON");
    assert_eq!((got, problem["code"].as_str()), (status, Some(code)), "{problem}");
    assert_eq!(problem["status"], status);
    if !field.is_empty() {
        let fields: Vec<&str> =
            problem["errors"].as_array().expect("errors").iter().filter_map(|e| e["field"].as_str()).collect();
        assert!(fields.contains(&field), "{problem}");
    }
    nothing_left(service).await;
    problem
}

async fn nothing_left(service: &Running) {
    assert_eq!(service.get("/api/v1/builds").await["items"], serde_json::json!([]));
    for folder in ["contexts", "incoming"] {
        let left: Vec<_> = std::fs::read_dir(service.config.data_dir.join(folder)).expect("a folder").collect();
        assert!(left.is_empty(), "{folder}: {left:?}");
    }
}

fn to(form: Form) -> Form {
    form.text("image", "127.0.0.1:5000/x:1")
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_cannot_be_built() {
    let service = service::start(Backend::Sqlite).await;
    let s = &service;
    refused(s, to(Form::new()), 400, "source_missing", "file").await;
    refused(s, to(dockerfile("")), 400, "dockerfile_empty", "file").await;
    refused(s, to(dockerfile("# only\n# comments\n")), 400, "dockerfile_empty", "file").await;
    let problem = refused(s, to(dockerfile("FROM busybox\n\nFRUM x\n")), 400, "dockerfile_unknown_instruction", "file").await;
    assert!(problem["detail"].as_str().is_some_and(|d| d.contains("line 3") && d.contains("FRUM")), "{problem}");
    refused(s, to(dockerfile("RUN true\n")), 400, "dockerfile_no_from", "file").await;
    refused(s, to(dockerfile("FROM busybox\nRUN <<EOF\necho\n")), 400, "dockerfile_unterminated_heredoc", "file").await;
    refused(s, to(dockerfile("%PDF-1.7\n\u{0}\u{1}binary")), 400, "dockerfile_not_text", "file").await;
    refused(s, to(dockerfile("# syntax=evil.example/frontend\nFROM busybox\n")), 400, "frontend_not_allowed", "file").await;
    refused(s, to(dockerfile("FROM dockwright.local/build:x\n")), 400, "reserved_image", "file").await;
    refused(s, to(context(tar(&[("a", "b")]))), 400, "dockerfile_missing", "context").await;
    refused(s, to(context(b"no archive".to_vec())), 400, "unknown_archive", "context").await;
    let mut cut = tar(&[("Dockerfile", "FROM busybox\n"), ("data", &"x".repeat(5000))]);
    cut.truncate(3000);
    refused(s, to(context(cut)), 400, "truncated_archive", "context").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_cannot_be() {
    let service = service::start(Backend::Sqlite).await;
    let s = &service;
    let ok = || dockerfile("FROM busybox AS base\n");
    refused(s, ok(), 400, "image_missing", "image").await;
    refused(s, ok().text("image", "Upper/Case"), 400, "invalid_image", "image").await;
    refused(s, to(ok()).text("colour", "red"), 400, "unknown_part", "colour").await;
    refused(s, to(ok().part("file", Part::text("FROM busybox"))), 400, "part_repeated", "file").await;
    refused(s, to(Form::new()).text("git", "ssh://h/x.git"), 400, "git_url", "git").await;
    refused(s, to(ok()).text("registry", "unheard-of"), 400, "registry_unknown", "registry").await;
    let keyed = s.request(Method::POST, "/api/v1/builds").header("idempotency-key", "k".repeat(256)).multipart(to(ok()));
    let problem: Value = keyed.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(
        (&problem["code"], &problem["errors"][0]["field"]),
        (&"invalid_idempotency_key".into(), &"Idempotency-Key".into())
    );
    refused(s, to(ok()).text("target", "other"), 400, "target_not_found", "target").await;
    refused(s, to(ok()).text("build_arg", "NPM_TOKEN=x"), 400, "secret_build_arg", "build_arg").await;
    refused(s, to(ok()).text("build_arg", "ALONE"), 400, "invalid_option", "build_arg").await;
    refused(s, to(ok()).text("build_arg", "BUILDKIT_SYNTAX=x"), 400, "frontend_not_allowed", "build_arg").await;
    refused(s, to(ok()).text("label", "dockwright.owner=x"), 400, "reserved_label", "label").await;
    refused(s, to(ok()).text("username", "u"), 400, "credentials_incomplete", "password").await;
    let two_hosts = ok().text("image", "a.example/x").text("image", "b.example/x").text("username", "u").text("password", "p");
    refused(s, two_hosts, 400, "credentials_ambiguous", "username").await;
    refused(s, to(ok()).text("no_cache", "1").text("no_cache", "true"), 400, "invalid_request", "no_cache").await;
    for (name, value) in [
        ("push", "yes"),
        ("memory", "x"),
        ("memory", "900g"),
        ("cpus", "-1"),
        ("timeout", "0s"),
        ("timeout", "99h"),
        ("priority", "11"),
        ("network", "host"),
        ("platform", "a b"),
        ("target", "a b"),
    ] {
        refused(s, to(ok()).text(name, value), 400, "invalid_option", name).await;
    }
    let limits = dockerfile("FROM busybox\nRUN --mount=type=tmpfs,target=/x true\n");
    refused(s, to(limits).text("memory", "64m"), 400, "limits_need_classic", "memory").await;
    let all = dockerfile("FRUM x\n").text("image", "A B").text("push", "yes");
    let problem = refused(s, all, 400, "invalid_request", "image").await;
    assert_eq!(problem["errors"].as_array().map(Vec::len), Some(3), "all faults are told together: {problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_that_must_not_reach_the_engine() {
    let service = service::start(Backend::Sqlite).await;
    let raw = |name: &[u8], kind: tar::EntryType, link: Option<&str>| {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o644);
        if let Some(link) = link {
            header.set_link_name_literal(link).expect("short");
        }
        header.set_cksum();
        header
    };
    let archive = |headers: &[tar::Header]| {
        let mut tar = tar::Builder::new(tar(&[("Dockerfile", "FROM busybox\n")])[..1024].to_vec());
        for header in headers {
            tar.append(header, std::io::empty()).expect("in memory");
        }
        tar.into_inner().expect("in memory")
    };
    use tar::EntryType as T;
    for (what, headers) in [
        ("../x", vec![raw(b"../x", T::Regular, None)]),
        ("absolute", vec![raw(b"/etc/x", T::Regular, None)]),
        ("through a link", vec![raw(b"l", T::Symlink, Some("/etc")), raw(b"l/x", T::Regular, None)]),
        ("hard link to outside", vec![raw(b"h", T::Link, Some("../../etc/passwd"))]),
        ("hard link to nothing", vec![raw(b"h", T::Link, Some("nothing"))]),
        ("device", vec![raw(b"d", T::Block, None)]),
        ("fifo", vec![raw(b"f", T::Fifo, None)]),
        ("a path twice", vec![raw(b"a", T::Regular, None), raw(b"./a", T::Regular, None)]),
    ] {
        let answer = service.post(to(context(archive(&headers)))).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{what}");
        let problem: Value = answer.json().await.expect("JSON");
        assert_eq!(problem["errors"][0]["field"], "context", "{what}: {problem}");
    }
    nothing_left(&service).await;
    let link = archive(&[raw(b"l", T::Symlink, Some("/etc/passwd"))]);
    let accepted = service.post(context(link).text("push", "false")).await;
    assert_eq!(accepted.status(), StatusCode::ACCEPTED, "an absolute symbolic link passes");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_size_answer_413() {
    let service = service::start_with(Backend::Sqlite, |s| {
        s.max_upload = Some("1m".parse().expect("an amount"));
        s.max_context = Some("2m".parse().expect("an amount"));
    })
    .await;
    let big = tar(&[("Dockerfile", "FROM busybox\n"), ("data", &"x".repeat(1 << 21))]);
    let problem = refused(&service, to(context(big)), 413, "upload_too_large", "").await;
    assert!(problem["detail"].as_str().is_some_and(|d| d.contains("1m") || d.contains("1048576")), "names the limit: {problem}");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&tar(&[("Dockerfile", "FROM busybox\n"), ("zeros", &"0".repeat(40 << 20))])).expect("in memory");
    let answer = service.post(to(context(gzip.finish().expect("in memory")))).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE, "a bomb");
    refused(&service, to(dockerfile(&format!("FROM busybox\n#{}", "x".repeat(1 << 20)))), 400, "dockerfile_too_large", "file")
        .await;
    // Told by its length alone, before the body is read.
    let answer = service
        .request(Method::POST, "/api/v1/builds")
        .header("content-type", "multipart/form-data; boundary=x")
        .body(vec![b'x'; 8 << 20])
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.json::<Value>().await.expect("JSON")["code"], "upload_too_large");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_break_off_leave_nothing() {
    let service = service::start(Backend::Sqlite).await;
    let head = format!(
        "POST /api/v1/builds HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: 100000\r\n\r\n--b\r\ncontent-disposition: form-data; name=\"context\"; filename=\"c\"\r\n\r\n",
        service.token
    );
    let mut hangs_up = TcpStream::connect(service.address).expect("connects");
    hangs_up.write_all(head.as_bytes()).and_then(|()| hangs_up.write_all(&[0; 5000])).expect("sent");
    let incoming = service.config.data_dir.join("incoming");
    let files = || std::fs::read_dir(&incoming).expect("a folder").count();
    watch("the upload is under way", || files() == 1).await;
    drop(hangs_up);
    watch("the half upload is gone", || files() == 0).await;
    // A form that ends in the middle of a part.
    let mut truncated = TcpStream::connect(service.address).expect("connects");
    truncated.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let body = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nFROM busy";
    let request = format!(
        "POST /api/v1/builds HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: {}\r\n\r\n{body}",
        service.token,
        body.len()
    );
    truncated.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    truncated.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("invalid_multipart"), "{answer}");
    nothing_left(&service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_that_cannot_end_well_name_the_line_and_leave_nothing() {
    let service = service::start(Backend::Sqlite).await;
    let nobase = format!("# nobody has it\nFROM {}/no/such:image\n", registry());
    for (text, code, line) in [
        ("FROM busybox\nCOPY nothing /\n", "copy_source_missing", 2),
        (&nobase, "base_image_not_found", 2),
        ("FROM busybox\nRUN true\nRUN echo why >&2; exit 7\n", "step_failed", 3),
    ] {
        for builder in ["buildkit", "classic"] {
            let form = to(dockerfile(text));
            let form = if builder == "classic" { form.text("memory", "64m") } else { form };
            let ended = service.ended(&service.submit(form).await).await;
            let error = &ended["error"];
            assert_eq!((&ended["state"], &error["code"]), (&"failed".into(), &code.into()), "{ended}");
            assert_eq!((&ended["builder"], &error["kind"], &error["stage"]), (&builder.into(), &"user".into(), &"build".into()));
            assert_eq!(error["dockerfile_line"], line, "{builder}: {error}");
            assert_eq!(ended["message"], error["message"].as_str().and_then(|text| text.lines().next()).expect("a message"));
            let deleted: Value = service.delete(&ended).await.json().await.expect("JSON");
            assert_eq!(deleted["image"], "absent", "{deleted}");
            assert!(!service::has_local_tag(&ended));
        }
    }
    nothing_left(&service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_not_understood() {
    let service = service::start(Backend::Sqlite).await;
    let unknown = "/api/v1/builds/01a1fcc6-00db-778f-aa50-18c1c74c2480";
    for (method, path, status, code) in [
        (Method::GET, unknown, 404, "not_found"),
        (Method::DELETE, unknown, 404, "not_found"),
        (Method::GET, "/api/v1/builds/nope", 400, "invalid_id"),
        (Method::GET, "/api/v1/builds?limit=0", 400, "invalid_query"),
        (Method::GET, "/api/v1/builds?limit=201", 400, "invalid_query"),
        (Method::GET, "/api/v1/builds?limit=1&limit=2", 400, "invalid_query"),
        (Method::GET, "/api/v1/builds?lmit=1", 400, "invalid_query"),
        (Method::GET, "/api/v1/builds?cursor=x", 400, "invalid_query"),
        (Method::GET, "/api/v1/builds?state=x", 400, "invalid_query"),
        (Method::GET, "/api/v1/builds?image=A", 400, "invalid_query"),
        (Method::PUT, "/api/v1/builds", 405, "method_not_allowed"),
        (Method::POST, "/healthz", 405, "method_not_allowed"),
        (Method::GET, "/nowhere", 404, "not_found"),
        (Method::GET, "/api/v1/builds/%FF", 400, ""),
    ] {
        let answer = service.request(method.clone(), path).send().await.expect("an answer");
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (status, &"application/problem+json".parse().expect("a value")),
            "{method} {path}"
        );
        assert_eq!(answer.headers().contains_key("allow"), status == 405, "{method} {path}");
        let id = answer.headers()["x-request-id"].to_str().expect("text").to_owned();
        let problem: Value = answer.json().await.expect("JSON");
        assert_eq!(problem["request_id"], id);
        assert!(code.is_empty() || problem["code"] == code, "{problem}");
    }
    let json = service
        .request(Method::POST, "/api/v1/builds")
        .header("content-type", "application/json")
        .body("{")
        .send()
        .await
        .expect("an answer");
    assert_eq!(json.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let without = reqwest::get(service.url("/api/v1/builds")).await.expect("an answer");
    assert_eq!((without.status(), without.headers().contains_key("www-authenticate")), (StatusCode::UNAUTHORIZED, true));
    let elsewhere = reqwest::get(service.url("/nowhere")).await.expect("an answer");
    assert_eq!(elsewhere.status(), StatusCode::UNAUTHORIZED, "without an account nothing is told of what exists");
    let traced = service.request(Method::GET, "/healthz").header("x-request-id", "mine-1").send().await.expect("an answer");
    assert_eq!(traced.headers()["x-request-id"], "mine-1");
}
