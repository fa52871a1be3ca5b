//! What cannot be made or started has its code, and the engine's own words.

use dockwright::domain::ErrorKind;
use dockwright::engine::containers::{ContainerState, Containers, EngineMount};
use dockwright::engine::docker::Docker;

use super::own::{Own, published, two_free_ports};
use crate::support::unique;

#[tokio::test]
async fn what_cannot_be_made() {
    let own = Own::new().await;
    let taken = own.request(&["true"]);
    let name = taken.name.clone();
    own.docker.create(taken).await.expect("creates");

    let mut same_name = own.request(&["true"]);
    same_name.name = name;
    let mut no_image = own.request(&["true"]);
    no_image.image = format!("sha256:{}", "0".repeat(64)).parse().expect("a digest");
    let mut no_volume = own.request(&["true"]);
    no_volume.mounts = vec![EngineMount::Volume { name: unique("none"), path: "/v".into(), read_only: false }];
    let mut no_folder = own.request(&["true"]);
    no_folder.mounts = vec![EngineMount::Bind { source: format!("/{}", unique("none")), path: "/v".into(), read_only: true }];
    let mut small = own.request(&["true"]);
    small.memory_bytes = 1000;
    let mut many = own.request(&["true"]);
    many.milli_cpus = 1_000_000;
    let mut file = own.request(&["true"]);
    file.workdir = Some("/etc/passwd".into());
    for (request, code, words) in [
        (same_name, "name_taken", "is already in use by container"),
        (no_image, "image_not_found", "No such image: sha256:0000"),
        (no_volume, "volume_not_found", "no such volume"),
        (no_folder, "mount_failed", "bind source path does not exist"),
        (small, "memory_too_small", "Minimum memory limit allowed"),
        (many, "cpus_out_of_range", "Range of CPUs"),
        (file, "workdir_invalid", "/etc/passwd is not a directory"),
    ] {
        let error = own.docker.create(request).await.expect_err(code);
        assert_eq!(error.code, code, "{error:?}");
        assert!(error.message.contains(words), "{error:?}");
        assert!(!error.transient, "{error:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_started() {
    let own = Own::new().await;
    let mut no_user = own.request(&["true"]);
    no_user.user = Some("nobody-of-this-name".into());
    let mut no_network = own.request(&["true"]);
    no_network.network = Some(unique("none"));
    for (request, code, words) in
        [(no_user, "user_not_found", "unable to find user nobody-of-this-name"), (no_network, "network_not_found", "not found")]
    {
        let error = own.start(request).await.expect_err(code);
        assert_eq!((error.code, error.kind), (code, ErrorKind::User), "{error:?}");
        assert!(error.message.contains(words), "{error:?}");
    }
}

/// The engine's init starts the command, so that the start itself is well: the word of why it is not is that of the init.
#[tokio::test]
async fn a_command_that_is_not_there_is_told_with_its_reason() {
    let own = Own::new().await;
    for (command, code, reason) in [
        ("no-such-command", 127, "exec no-such-command failed: No such file or directory"),
        ("/etc/passwd", 126, "exec /etc/passwd failed: Permission denied"),
    ] {
        for tty in [false, true] {
            let mut request = own.request(&[command]);
            request.tty = tty;
            let id = own.start(request).await.expect("the init starts");
            let ended = own.ended(&id).await;
            assert_eq!(ended.exit_code, code);
            assert!(ended.error.contains(reason), "{:?}", ended.error);
        }
    }
    let id = own.shell("echo well; exit 127").await;
    assert_eq!(own.ended(&id).await.error, "", "who ends so by itself started well");
}

#[tokio::test]
async fn each_gets_a_free_port_of_the_range_while_there_is_one() {
    let own = Own::new().await;
    let first = two_free_ports();
    let with = |range| {
        let mut request = own.request(&["sleep", "1000"]);
        request.network = Some("bridge".into());
        request.ports = vec![published(range)];
        request
    };
    let mut ports = Vec::new();
    let mut last = String::new();
    for _ in 0..2 {
        last = own.start(with((first, first + 1))).await.expect("starts");
        let open = own.details(&last).await.summary.ports;
        ports.extend(open.iter().filter_map(|port| port.host).map(|(_, port)| port));
    }
    ports.sort_unstable();
    assert_eq!(ports, [first, first + 1]);
    let none = own.start(with((first, first + 1))).await.expect_err("both are taken");
    assert_eq!((none.code, none.kind), ("no_free_port", ErrorKind::Limit), "{none:?}");
    let taken = own.start(with((first, first))).await.expect_err("is taken");
    assert_eq!((taken.code, taken.kind), ("port_taken", ErrorKind::User), "{taken:?}");
    assert!(taken.message.contains("port is already allocated"), "{taken:?}");
    own.docker.remove(&last, true).await.expect("goes");
    own.start(with((first, first + 1))).await.expect("one is free again");
}

#[tokio::test]
async fn a_port_that_a_program_of_the_host_has_is_taken() {
    let own = Own::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let mut request = own.request(&["sleep", "1000"]);
    request.network = Some("bridge".into());
    request.ports = vec![published((port, port))];
    let id = own.docker.create(request).await.expect("creates");
    let error = own.docker.start(&id).await.expect_err("is taken");
    assert_eq!(error.code, "port_taken", "{error:?}");
    let details = own.details(&id).await;
    assert_eq!(details.summary.state, ContainerState::Created);
    assert_eq!(details.error, error.message, "told of the container, too");
}

#[tokio::test]
async fn an_engine_that_is_away_may_come_back() {
    let own = Own::new().await;
    let away = Docker::connect(Some("unix:///nowhere/docker.sock")).expect("an address");
    let errors = [
        away.start("x").await.err(),
        away.create(own.request(&["true"])).await.err(),
        away.containers(None).await.err(),
        away.events(None).await.err(),
    ];
    for error in errors {
        let error = error.expect("nobody is there");
        assert_eq!((error.code, error.transient), ("engine_unavailable", true), "{error:?}");
    }
}
