//! `RUN --mount=type=secret`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::multipart::Form;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::caches::remove_account;
use super::{built, file_in, secret};
use crate::pipeline::on_both_stores;
use crate::support::service::{self, Backend, Running, context, dockerfile, tar};
use crate::support::unique;

/// BuildKit's own limit.
const LARGEST: usize = 500 * 1024;

on_both_stores!(
    secrets_reach_their_steps,
    secrets_are_found_in_long_lines,
    what_is_wrong_with_secrets_is_told_before_anything_is_queued,
    another_secret_is_another_request,
    what_a_secret_has_opened_is_its_owners_alone,
);

async fn secrets_reach_their_steps(backend: Backend) {
    let service = service::start(backend).await;
    let (token, multi) = (unique("Token"), format!("first={}\n\nsecond-line-{0}\n", unique("Multi")));
    let large: Vec<u8> = (0..LARGEST).map(|at| (at * 7 % 251) as u8).collect();
    let hash = hex::encode(Sha256::digest(&large));
    let text = format!(
        "FROM busybox\n\
         RUN --mount=type=secret,id=token,required=true echo told:$(cat /run/secrets/token): && base64 </run/secrets/token\n\
         RUN --mount=type=secret,id=multi,target=/deep/own,mode=0444 cat /deep/own\n\
         RUN --mount=type=secret,id=large sha256sum </run/secrets/large >/sum\n\
         RUN --mount=type=secret,id=absent test ! -e /run/secrets/absent\n\
         RUN test ! -e /run/secrets/token && test ! -s /deep/own && echo {}\n",
        unique("own")
    );
    let form = secret(secret(dockerfile(&text), "token", token.clone()), "multi", multi.clone());
    let build = built(&service, &service.token, secret(form, "large", large)).await;
    assert_eq!(build["options"]["secrets"], json!(["token", "multi", "large"]), "their ids alone");
    assert_eq!((&build["builder"], &build["options"]["ssh"]), (&"buildkit".into(), &json!([])));
    assert_eq!(file_in(&build, "/sum"), format!("{hash}  -"), "every byte came");
    let log = service.log(&build).await;
    assert!(log.contains("told:[redacted]:"), "{log}");
    for line in [token.as_str(), &STANDARD.encode(&token)].into_iter().chain(multi.lines().filter(|line| !line.is_empty())) {
        assert!(!log.contains(line), "{line}: {log}");
    }
    service.delete(&build).await;
}

/// As base64 wraps it, longer than a line of a log, across the cut of one, and with colours inside.
async fn secrets_are_found_in_long_lines(backend: Backend) {
    let service = service::start(backend).await;
    let large: String =
        (0..640).map(|n| hex::encode(Sha256::digest(unique(&n.to_string())))).collect::<String>()[..20 * 1024].into();
    let token = &large[..100];
    let text = format!(
        "FROM busybox\n\
         RUN --mount=type=secret,id=large cat /run/secrets/large && echo && base64 </run/secrets/large && echo end:large\n\
         RUN --mount=type=secret,id=token base64 </run/secrets/token && base64 -w 64 </run/secrets/token && echo end:base64\n\
         RUN --mount=type=secret,id=token head -c 16380 /dev/zero | tr '\\0' x && cat /run/secrets/token && echo :behind\n\
         RUN --mount=type=secret,id=token head -c 50 /run/secrets/token && printf '\\033[K\\033[31m' && \
         tail -c +51 /run/secrets/token && echo && echo end:{}\n",
        unique("own")
    );
    let form = secret(secret(dockerfile(&text), "large", large.clone()), "token", token.to_owned());
    let build = built(&service, &service.token, form).await;
    let log = service.log(&build).await;
    assert!(["end:large", "end:base64", "[redacted]:behind", "end:own"].iter().all(|end| log.contains(end)), "{log}");
    let plain = log.replace("\u{1b}[31m", "");
    let shown = [STANDARD.encode(&large), STANDARD.encode(token), large];
    for form in &shown {
        for piece in form.as_bytes().chunks(16).filter(|piece| piece.len() == 16) {
            let piece = std::str::from_utf8(piece).expect("ASCII");
            assert!(!plain.contains(piece), "{piece}: {log}");
        }
    }
    service.delete(&build).await;
}

/// Status, code and fields of a refusal. No value of a secret is in it.
async fn refused(service: &Running, form: Form) -> (u16, String, Vec<String>) {
    let answer = service.post(form).await;
    let status = answer.status().as_u16();
    let told = answer.text().await.expect("text");
    assert!(!told.contains("canary"), "{told}");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let fields = told["errors"].as_array().unwrap_or_else(|| panic!("no faults: {told}")).iter();
    let fields = fields.map(|fault| fault["field"].as_str().expect("a field").to_owned()).collect();
    (status, told["code"].as_str().expect("a code").to_owned(), fields)
}

async fn what_is_wrong_with_secrets_is_told_before_anything_is_queued(backend: Backend) {
    let service = service::start(backend).await;
    let plain = || dockerfile("FROM busybox\n").text("push", "false");
    let one = |form: Form, id: &str| secret(form, id, "canary");
    let many = (0..33).fold(plain(), |form, n| one(form, &n.to_string()));
    let full = (0..9).fold(plain(), |form, n| secret(form, &n.to_string(), vec![0; LARGEST]));
    let mounts = "FROM busybox AS a\nRUN --mount=type=secret,id=npm,required=true true\nFROM busybox\nCOPY --from=a / /\n\
        RUN --mount=type=ssh,required=true true\n";
    let in_context = context(tar(&[("Dockerfile", mounts)])).text("push", "false");
    for (form, code, fields) in [
        (secret(plain(), "x", vec![b'c'; LARGEST + 1]), "secret_too_large", &["secret.x"][..]),
        (plain().text("ssh.x", "c".repeat(16 * 1024 + 1)), "secret_too_large", &["ssh.x"]),
        (one(one(plain(), "x"), "x"), "invalid_secret", &["secret.x"]),
        (one(plain(), ""), "invalid_secret", &["secret."]),
        (one(plain(), "a:b"), "invalid_secret", &["secret.a:b"]),
        (one(plain(), &"x".repeat(65)), "invalid_secret", &[&format!("secret.{}", "x".repeat(65))]),
        (plain().text("ssh.default", "canary"), "invalid_secret", &["ssh.default"]),
        (many, "invalid_secret", &["secret.32"]),
        (full, "invalid_secret", &["secret.8"]),
        (
            one(plain(), "x").text("memory", "64m").text("inline_cache", "true").text("cache_from", "a/b"),
            "limits_need_classic",
            &["secret.x", "cache_from", "inline_cache"],
        ),
        (dockerfile(mounts).text("push", "false"), "secret_missing", &["secret.npm", "ssh.default"]),
        (one(in_context, "npm"), "secret_missing", &["ssh.default"]),
        (plain().text("build_arg", "BUILDKIT_CACHE_MOUNT_NS=x"), "reserved_build_arg", &["build_arg"]),
        (plain().text("build_arg", "buildkit_inline_cache=1"), "reserved_build_arg", &["build_arg"]),
    ] {
        let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        assert_eq!(refused(&service, form).await, (400, code.to_owned(), fields));
    }
    assert_eq!(service.get("/api/v1/builds").await["items"], json!([]), "nothing was queued");
    // A stage that is not built needs nothing.
    let form = dockerfile(mounts).text("push", "false").text("target", "a");
    built(&service, &service.token, secret(dockerfile(&mounts.replace(",required=true", "")), "other", "x")).await;
    assert_eq!(refused(&service, form).await.2, ["secret.npm"]);
}

async fn another_secret_is_another_request(backend: Backend) {
    let service = service::start_with(backend, |settings| {
        settings.engine = Some("unix:///nonexistent/engine".into());
    })
    .await;
    let send = async |value: &str| {
        let form = secret(dockerfile("FROM busybox\n").text("push", "false"), "x", value.to_owned());
        let sent = service.request(Method::POST, "/api/v1/builds").header("idempotency-key", "one").multipart(form);
        let answer = sent.send().await.expect("an answer");
        (answer.status(), answer.headers().contains_key("idempotent-replayed"))
    };
    assert_eq!(send("first").await, (StatusCode::ACCEPTED, false));
    assert_eq!(send("first").await, (StatusCode::ACCEPTED, true));
    assert_eq!(send("second").await.0, StatusCode::UNPROCESSABLE_ENTITY);
}

/// BuildKit takes a step for done when the same step was done before, whatever its secret was: between owners that would hand over
/// what somebody else's secret has opened.
async fn what_a_secret_has_opened_is_its_owners_alone(backend: Backend) {
    let service = service::start(backend).await;
    let (ada, bob) = (service.user("ada").await, service.user("bob").await);
    let text = format!(
        "FROM busybox\nRUN --mount=type=secret,id=t (cat /run/secrets/t || echo none) >/opened && echo {}\n",
        unique("own")
    );
    let own = |value: &str| secret(dockerfile(&text), "t", value.to_owned());
    let hers = built(&service, &ada, own("opened by ada")).await;
    let his = built(&service, &bob, own("opened by bob")).await;
    let nobodys = built(&service, &bob, dockerfile(&text)).await;
    let again = built(&service, &ada, own("opened by ada")).await;
    let opened: Vec<String> = [&hers, &his, &nobodys, &again].iter().map(|build| file_in(build, "/opened")).collect();
    assert_eq!(opened, ["opened by ada", "opened by bob", "none", "opened by ada"]);
    assert!(service.log(&again).await.contains("CACHED"), "her own is not done again");
    // Another account of her name has nothing of hers.
    remove_account(&service, "ada").await;
    let later = built(&service, &service.user("ada").await, own("opened by another ada")).await;
    assert_eq!(file_in(&later, "/opened"), "opened by another ada");
    for build in [his, nobodys, later] {
        service.delete(&build).await;
    }
}
