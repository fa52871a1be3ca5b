//! What no caller can turn off, looked at from inside the container.

use dockwright::engine::containers::Containers;
use serde_json::{Value, json};

use super::cli;
use super::own::Own;

/// CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, KILL 5, SETGID 6, SETUID 7, NET_BIND_SERVICE 10.
const ALLOWED: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10;

fn status<'a>(lines: &'a [String], field: &str) -> &'a str {
    let line = lines.iter().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field} in {lines:#?}")).trim()
}

#[tokio::test]
async fn root_has_few_capabilities_and_gets_no_more() {
    let own = Own::new().await;
    let lines = own.says(own.request(&["cat", "/proc/self/status"])).await;
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(u64::from_str_radix(status(&lines, set), 16).expect("hexadecimal"), ALLOWED, "{set}");
    }
    assert_eq!(u64::from_str_radix(status(&lines, "CapAmb"), 16), Ok(0));
    assert_eq!((status(&lines, "NoNewPrivs"), status(&lines, "Seccomp")), ("1", "2"));
    let refused = own
        .says(own.request(&[
            "sh",
            "-c",
            "exec 2>&1; mknod /dev/x b 8 0; mount -t tmpfs x /mnt; chroot / true; ls /dev/mem; echo end",
        ]))
        .await;
    assert_eq!(refused.len(), 5, "{refused:#?}");
    assert!(refused[..3].iter().all(|line| line.contains("not permitted") || line.contains("denied")), "{refused:#?}");
}

#[tokio::test]
async fn the_engine_holds_what_was_promised() {
    let own = Own::new().await;
    let id = own.docker.create(own.request(&["true"])).await.expect("creates");
    let host: Value = serde_json::from_str(&cli(&["inspect", "-f", "{{json .HostConfig}}", &id])).expect("JSON");
    for (field, value) in [
        ("Privileged", json!(false)),
        ("CapDrop", json!(["ALL"])),
        ("SecurityOpt", json!(["no-new-privileges"])),
        ("PidsLimit", json!(64)),
        ("Memory", json!(64 << 20)),
        ("MemorySwap", json!(64 << 20)),
        ("NanoCpus", json!(1_000_000_000)),
        ("Init", json!(true)),
        ("IpcMode", json!("private")),
        ("CgroupnsMode", json!("private")),
        ("NetworkMode", json!("none")),
        ("PublishAllPorts", json!(false)),
        ("OomKillDisable", json!(false)),
        ("LogConfig", json!({"Type": "local", "Config": {"max-size": "10m", "max-file": "3"}})),
    ] {
        assert_eq!(host[field], value, "{field}");
    }
    for empty in ["Binds", "Devices", "DeviceRequests", "Links", "VolumesFrom", "GroupAdd", "ExtraHosts", "Sysctls", "Dns"] {
        let given = &host[empty];
        assert!(given.is_null() || given.as_array().is_some_and(Vec::is_empty), "{empty}: {given}");
    }
    for empty in ["PidMode", "UTSMode", "UsernsMode", "CgroupParent", "VolumeDriver"] {
        assert_eq!(host[empty], json!(""), "{empty}");
    }
}

#[tokio::test]
async fn a_fork_bomb_stays_in_its_bounds() {
    let own = Own::new().await;
    let mut request = own.request(&["sh", "-c", "for i in $(seq 100); do sleep 1000 & done; echo survived"]);
    request.pids = 20;
    let id = own.start(request).await.expect("starts");
    let ended = own.ended(&id).await;
    let said: Vec<String> = own.lines(&id, false).await.into_iter().map(|line| line.text).collect();
    assert!(said.iter().any(|line| line.contains("can't fork")), "{said:#?}");
    assert_ne!(ended.exit_code, 0);
}

#[tokio::test]
async fn who_needs_more_memory_than_it_may_have_is_killed() {
    let own = Own::new().await;
    // Once in some dozens of times the engine (20.10) never hears from the kernel why it was killed.
    for _ in 0..5 {
        let mut request = own.request(&["sh", "-c", "tail /dev/zero"]);
        request.memory_bytes = 16 << 20;
        let id = own.start(request).await.expect("starts");
        let ended = own.ended(&id).await;
        assert_eq!(ended.exit_code, 137, "{ended:?}");
        if ended.oom_killed {
            return;
        }
    }
    panic!("the engine never heard why");
}
