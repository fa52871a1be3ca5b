//! What is built, with either builder, and how failures are told.

use dockwright::domain::{BuilderKind, Digest, ErrorKind, LogStream, NetworkMode, local_tag};
use dockwright::engine::{Engine, Images};

use super::{build, build_dockerfile, cli, docker, request};
use crate::support::unique;

const BOTH: [BuilderKind; 2] = [BuilderKind::Buildkit, BuilderKind::Classic];

#[tokio::test]
async fn a_dockerfile_becomes_a_tagged_image() {
    for builder in BOTH {
        let token = unique("hello");
        let done =
            build_dockerfile(builder, &format!("FROM busybox:latest\nRUN echo {token} > /x && cat /x\nCMD [\"cat\", \"/x\"]\n"))
                .await;
        let image = done.image();
        let tag = local_tag(done.id);
        assert_eq!(docker().image_id(&tag).await.expect("answers").as_ref(), Some(&image.id));
        assert!(image.size_bytes > 100_000, "{}", image.size_bytes);
        assert_eq!(cli(&["run", "--rm", &tag]), token);
        assert_eq!(done.texts(LogStream::Stdout), [token.as_str()], "{:#?}", done.lines);
        let step = done.lines.iter().find(|line| line.stream == LogStream::Stdout).and_then(|line| line.step.clone());
        assert!(step.as_deref().is_some_and(|s| s.contains("2/") && s.contains(&format!("RUN echo {token}"))), "{step:?}");
        done.clean_up().await;
    }
}

#[tokio::test]
async fn a_failing_step_is_told_with_its_output() {
    for builder in BOTH {
        let token = unique("t");
        let done = build_dockerfile(
            builder,
            &format!("FROM busybox:latest\nRUN echo {token}; printf 'a\\rb\\nno newline'; sleep 0.2; echo oops >&2; printf tail >&2; exit 7\n"),
        )
        .await;
        let error = done.error();
        assert_eq!((error.code, error.kind, error.transient), ("step_failed", ErrorKind::User, false), "{error:?}");
        assert!(error.message.contains('7'), "{error:?}");
        assert_eq!(done.texts(LogStream::Stdout), [token.as_str(), "b", "no newline"], "{:#?}", done.lines);
        assert_eq!(done.texts(LogStream::Stderr), ["oops", "tail"], "{:#?}", done.lines);
        assert_eq!(docker().image_id(&local_tag(done.id)).await.expect("answers"), None);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_dockerfile_has_its_code() {
    for builder in BOTH {
        for (dockerfile, code, line) in [
            ("FROM busybox\nFRUM x\n", "dockerfile_invalid", Some(2)),
            ("FROM busybox\nCOPY nothing /\n", "copy_source_missing", None),
            ("FROM busybox\nRUN exit 137\n", "step_failed", None),
            ("FROM 127.0.0.1:5000/no/such:image\n", "base_image_not_found", None),
            ("FROM 127.0.0.1:1/no/such:image\n", "base_image_unavailable", None),
            ("RUN true\n", "dockerfile_invalid", None),
        ] {
            let done = build_dockerfile(builder, dockerfile).await;
            let error = done.error();
            assert_eq!(error.code, code, "{builder:?} {dockerfile:?}: {error:?}");
            if line.is_some() {
                assert_eq!(error.dockerfile_line, line, "{builder:?} {dockerfile:?}: {error:?}");
            }
        }
        let mut no_target = request(builder);
        no_target.target = Some("nowhere".into());
        let done = build(no_target, &[("Dockerfile", "FROM busybox AS here\nRUN true\n")]).await;
        assert_eq!(done.error().code, "target_not_found", "{builder:?}: {:?}", done.error());
    }
}

#[tokio::test]
async fn options_reach_the_engine() {
    for builder in BOTH {
        let mut asked = request(builder);
        let value = format!("{} &memory=1;\"'+%", unique("v"));
        asked.dockerfile = "sub dir/My.Dockerfile".into();
        asked.build_args = [("A".to_owned(), value.clone())].into();
        asked.labels = [("team".to_owned(), "ä & b".to_owned())].into();
        asked.target = Some("wanted".into());
        let file = "FROM busybox AS base\nFROM base AS wanted\nARG A\nCOPY data /data\nRUN echo \"$A\" && cat /data\nFROM busybox AS last\nRUN exit 9\n";
        let done =
            build(asked, &[("sub dir/My.Dockerfile", file), ("data", "from the context\n"), ("Dockerfile", "FROM nothing\n")])
                .await;
        done.image();
        assert_eq!(done.texts(LogStream::Stdout), [value.as_str(), "from the context"], "{:#?}", done.lines);
        let label = cli(&["image", "inspect", "-f", "{{index .Config.Labels \"team\"}}", &local_tag(done.id)]);
        assert_eq!(label, "ä & b");
        done.clean_up().await;
    }
}

#[tokio::test]
async fn no_network_means_none() {
    for builder in BOTH {
        let file = format!("FROM busybox\nRUN echo {} && ls /sys/class/net\n", unique("n"));
        let mut asked = request(builder);
        asked.network = NetworkMode::None;
        let done = build(asked, &[("Dockerfile", &file)]).await;
        done.image();
        assert!(!done.texts(LogStream::Stdout).contains(&"eth0"), "{builder:?}: {:#?}", done.lines);
        done.clean_up().await;
        let done = build_dockerfile(builder, &file.replace("echo n-", "echo o-")).await;
        assert!(done.texts(LogStream::Stdout).contains(&"eth0"), "the default has a network: {:#?}", done.lines);
        done.clean_up().await;
    }
}

#[tokio::test]
async fn a_step_beyond_its_memory_is_told_as_that() {
    let mut asked = request(BuilderKind::Classic);
    asked.memory_bytes = Some(32 * 1024 * 1024);
    asked.milli_cpus = Some(500);
    let file = format!(
        "FROM busybox\nRUN echo {} && cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null; head -c 200m /dev/zero | tail -c 150m | wc -c\n",
        unique("m")
    );
    // The shell's status is the pipe's last; the killed `tail` must be it.
    let file = file.replace(" | wc -c", " > /dev/null");
    let done = build(asked, &[("Dockerfile", &file)]).await;
    let error = done.error();
    assert_eq!((error.code, error.kind), ("out_of_memory", ErrorKind::Limit), "{error:?}\n{:#?}", done.lines);
    assert!(done.texts(LogStream::Stdout).iter().any(|line| line.starts_with("50000")), "{:#?}", done.lines);
}

#[tokio::test]
async fn platforms_pass_or_are_refused_but_never_ignored() {
    let info = docker().info().await.expect("the engine answers");
    let file = format!("FROM busybox\nRUN echo {}\n", unique("p"));
    for builder in BOTH {
        let mut own = request(builder);
        own.platform = Some(format!("{}/{}", info.os, info.architecture));
        let done = build(own, &[("Dockerfile", &file)]).await;
        done.image();
        done.clean_up().await;
    }
    let other = if info.architecture == "amd64" { "linux/arm64" } else { "linux/amd64" };
    let mut foreign = request(BuilderKind::Classic);
    foreign.platform = Some(other.into());
    let done = build(foreign, &[("Dockerfile", &file)]).await;
    assert_eq!((done.error().code, done.error().kind), ("platform_not_supported", ErrorKind::User));
}

#[tokio::test]
async fn limits_choose_the_classic_builder() {
    assert_eq!(docker().choose_builder(true).await.expect("answers"), BuilderKind::Classic);
    assert_eq!(docker().choose_builder(false).await.expect("answers"), BuilderKind::Buildkit);
}

#[tokio::test]
async fn twenty_builds_at_once_all_end_with_their_own_image() {
    let builds = (0..20).map(|n| async move {
        let token = unique("many");
        let builder = BOTH[n % 2];
        let done = build_dockerfile(builder, &format!("FROM busybox\nRUN echo {token}\n")).await;
        let id: Digest = done.image().id.clone();
        assert_eq!(done.texts(LogStream::Stdout), [token.as_str()]);
        done.clean_up().await;
        id
    });
    let mut ids = futures::future::join_all(builds).await;
    ids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    ids.dedup();
    assert_eq!(ids.len(), 20);
}

#[tokio::test]
async fn an_engine_that_is_away_is_told_as_transient() {
    let away = dockwright::engine::docker::Docker::connect(Some("unix:///nowhere/docker.sock")).expect("connects later");
    let error = away.info().await.expect_err("nobody is there");
    assert_eq!((error.code, error.transient), ("engine_unavailable", true), "{error:?}");
    let error = away.choose_builder(false).await.expect_err("nobody is there");
    assert_eq!((error.code, error.transient), ("engine_unavailable", true), "{error:?}");
}

#[tokio::test]
async fn info_names_the_node() {
    let info = docker().info().await.expect("the engine answers");
    assert_eq!(info.node.as_str(), cli(&["info", "-f", "{{.ID}}"]));
    assert_eq!((info.os.as_str(), info.architecture.contains("x86")), ("linux", false));
}
