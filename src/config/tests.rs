use super::*;

fn from_toml(text: &str) -> anyhow::Result<Config> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("c.toml");
    std::fs::write(&path, text)?;
    Settings::default().resolve(Some(&path))
}

#[test]
fn a_file_is_read_and_flags_win() {
    let config =
        from_toml("listen = \"127.0.0.1:9\"\nmax_upload = \"2g\"\nbuild_timeout = \"5m\"\nmax_cpus = \"1.5\"").expect("valid");
    assert_eq!((config.listen.port(), config.max_upload.0, config.max_cpus.0), (9, 2 << 30, 1500));
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("c.toml");
    std::fs::write(&path, "listen = \"127.0.0.1:9\"").expect("written");
    let flags = Settings { listen: Some("127.0.0.1:10".parse().expect("an address")), ..Settings::default() };
    assert_eq!(flags.resolve(Some(&path)).expect("valid").listen.port(), 10);
}

#[test]
fn unknown_keys_and_contradictions_are_refused() {
    for (text, word) in [
        ("lisen = 1", "lisen"),
        ("role = \"api\"", "role"),
        ("workers = 0", "workers"),
        ("keep_runs = 0", "keep_runs"),
        ("keep_days = 0", "keep_days"),
        ("disk_high = 70", "disk_low"),
        ("webhook_retry = \"0s\"", "webhook_retry"),
        ("store = \"mysql://x\"", "store"),
        ("max_upload = \"x\"", "max_upload"),
        ("host_ports = \"3-2\"", "host_ports"),
        ("host_ports = \"0-9\"", "host_ports"),
        ("publish_address = \"localhost\"", "publish_address"),
        ("container_memory = \"5g\"", "container_memory"),
        ("container_memory = \"1m\"", "container_memory"),
        ("container_cpus = \"64\"", "container_cpus"),
        ("max_container_pids = 0", "max_container_pids"),
        ("bind_roots = [\"/srv\", \"srv\"]", "bind_roots"),
        ("bind_roots = [\"/srv/../etc\"]", "bind_roots"),
        ("bind_roots = [\"/\"]", "bind_roots"),
    ] {
        let error = format!("{:#}", from_toml(text).expect_err(text));
        assert!(error.contains(word), "{text}: {error}");
    }
    assert!(refuse_unknown_variables(["DOCKWRIGHT_LISEN".to_owned()].into_iter()).is_err());
    assert!(refuse_unknown_variables(["DOCKWRIGHT_LISTEN".to_owned(), "PATH".to_owned()].into_iter()).is_ok());
}

#[test]
fn secrets_are_masked() {
    let config = from_toml("store = \"redis://u:canary@h:1/0\"\nkey = \"canary\"").expect("valid");
    let shown = toml::to_string(&config).expect("serialises");
    assert!(!shown.contains("canary") && shown.contains("redis://u:********@h:1/0"), "{shown}");
    assert!(!format!("{config:?}").contains("canary"));
    let error = format!("{:#}", from_toml("workers = 2\nkeyy = \"canary\"").expect_err("an unknown key"));
    assert!(error.contains("line 2") && error.contains("keyy") && !error.contains("canary"), "{error}");
}

#[test]
fn what_containers_may_have_is_read_and_shown_again() {
    let text =
        "host_ports = \"21000-21099\"\npublish_address = \"::1\"\nbind_roots = [\"/srv/data\"]\nmax_container_cpus = \"0.5\"";
    let config = from_toml(text).expect("valid");
    assert_eq!((config.host_ports.ports(), config.bind_roots.len()), (21_000..=21_099, 1));
    assert_eq!(config.container_cpus.0, 500, "the default is never above the most");
    let shown = toml::to_string(&config).expect("serialises");
    for line in text.lines() {
        assert!(shown.contains(line), "{line}: {shown}");
    }
}
