//! The commands that speak to a running service.

use std::path::{Path, PathBuf};

use super::person::{Ended, run};
use crate::support::process::Process;
use crate::support::{private_registry, redis_url, unique};

const PASSWORD: &str = "zebra-kite-lantern-9";

/// A service, and the operator that speaks to it with the first admin's token.
struct Operator {
    data: tempfile::TempDir,
    url: String,
    service: Process,
}

impl Operator {
    fn of(store: &[&str]) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let mut service = Process::start(&[&["serve", "--listen", "127.0.0.1:0"], store].concat(), data.path());
        let url = format!("http://{}", service.address());
        Self { data, url, service }
    }

    fn new() -> Self {
        Self::of(&[])
    }

    fn token_file(&self) -> PathBuf {
        self.data.path().join("admin-token")
    }

    fn run(&self, line: &str) -> Ended {
        self.say("", line)
    }

    /// With `input` on standard input.
    fn say(&self, input: &str, line: &str) -> Ended {
        self.with(&self.token_file(), input, line)
    }

    fn with(&self, token: &Path, input: &str, line: &str) -> Ended {
        let token = token.to_str().expect("text");
        let args: Vec<&str> = ["--url", &self.url, "--token-file", token].into_iter().chain(line.split(' ')).collect();
        run(&args, input)
    }
}

fn accounts_from_the_first_to_the_last(store: &[&str]) {
    let admin = Operator::of(store);
    let made = admin.say(&format!("{PASSWORD}\n"), "user add ada --password-stdin --quota builds_running=2 --json").json();
    assert_eq!((&made["has_password"], &made["quota"]["builds_running"]), (&true.into(), &2.into()));
    admin.run("user add ada").refused("user_exists");
    admin.run("user add Ada").refused("invalid_user");
    admin.say("short", "user set ada --password-stdin").refused("at least 10 characters");
    admin.run("user set ada").refused("say what to change");
    admin
        .run("user set ada --quota stored_bytes=9007199254740992")
        .refused("quota.stored_bytes: may be 9007199254740991 at most");
    admin.run("user show nobody").refused("not_found");
    assert_eq!(admin.run(&format!("user add bob --password {PASSWORD}")).code, 2, "a password is no argument");
    let shown = admin.run("user set ada --disable").well().out;
    assert!(shown.lines().any(|line| line.split_whitespace().eq(["disabled", "true"])), "{shown}");
    for line in ["user remove admin", "user set admin --role user", "user set admin --disable"] {
        admin.run(line).refused("last_admin");
    }
    let names = admin.run("user list").well().out;
    assert!(names.starts_with("NAME") && names.contains("\nada ") && names.contains("\nadmin "), "{names}");
    admin.say(PASSWORD, "registry put own --server 127.0.0.1:5000 --username robot").well();
    admin.run("user remove ada --objects transfer:nobody").refused("there is no account nobody");
    assert_eq!(admin.run("user remove ada --objects delete --json").json()["name"], "ada");
    admin.run("user remove ada").refused("not_found");
}

#[test]
fn accounts_from_the_first_to_the_last_with_the_embedded_store() {
    accounts_from_the_first_to_the_last(&[]);
}

#[test]
fn accounts_from_the_first_to_the_last_with_redis() {
    accounts_from_the_first_to_the_last(&["--store", &redis_url(), "--store-prefix", &unique("operator")]);
}

#[test]
fn an_admin_gives_an_account_its_token_and_the_token_can_do_no_more() {
    let admin = Operator::new();
    admin.run("user add bot").well();
    let made = admin.run("token add ci --user bot --scope builds:read --image 127.0.0.1:5001/team/* --expires-in 90d").well();
    assert!(made.out.starts_with("dw_") && made.out.trim().len() == 64, "the token alone can be kept in a file: {}", made.out);
    let file = admin.data.path().join("bot-token");
    std::fs::write(&file, &made.out).expect("written");
    let bot = |line: &str| admin.with(&file, "", line);
    let list = bot("token list --json").json();
    assert_eq!((&list[0]["name"], &list[0]["images"][0]), (&"ci".into(), &"127.0.0.1:5001/team/*".into()));
    bot("token list --user admin").refused("not_found");
    bot("token add more --user admin").refused("not_found");
    bot("token add more").refused("beyond_own");
    bot("user list").refused("missing_scope");
    admin.run("token add more --user bot --scope admin").refused("beyond_own");
    admin.run("token add more --scope nope").refused("scopes are: builds:read");
    admin.run(&format!("token revoke {}", list[0]["id"].as_str().expect("an id"))).well();
    bot("token list").refused("unauthenticated");
}

#[test]
fn a_password_is_changed_by_whoever_knows_the_old_one() {
    let admin = Operator::new();
    admin.say(PASSWORD, "user password").well();
    admin.say("otter-comet-velvet-3", "user password").refused("wrong_password");
    admin.say("not the password\notter-comet-velvet-3", "user password").refused("wrong_password");
    admin.say(&format!("{PASSWORD}\notter-comet-velvet-3\n"), "user password").well();
    admin.say("", "user password").refused("no password");
}

#[test]
fn a_registrys_password_is_kept_checked_and_never_shown() {
    let admin = Operator::new();
    let (server, user, password) = private_registry();
    let put = format!("registry put own --server {server} --username {user}");
    let mut told = admin.say(&format!("{password}\n"), &put).well().out;
    told += &admin.run("registry check own").well().out;
    told += &admin.run("registry list --json").well().out;
    assert!(!told.contains(&password) && told.contains(&server), "{told}");
    admin.say("another", &put).well();
    let checked = admin.run("registry check own --json");
    assert!(checked.code == 1 && checked.out.contains("registry_auth"), "{}{}", checked.out, checked.err);
    assert_eq!(admin.run("keys rotate --json").json()["registries"], 1);
    admin.run("registry remove own").well();
    admin.run("registry check own").refused("not_found");
}

#[test]
fn a_change_of_the_audit_is_found() {
    let mut admin = Operator::new();
    for name in ["ada", "bob", "carl"] {
        admin.run(&format!("user add {name}")).well();
    }
    let told = admin.run("audit verify --json").json();
    assert_eq!((&told["ok"], &told["entries"]), (&true.into(), &3.into()));
    let last = admin.run("audit list --last 1 --json").json();
    assert_eq!((&last[0]["object"], &last[0]["hash"]), (&"users/carl".into(), &told["hash"]));
    admin.service = {
        let old = std::mem::replace(&mut admin.service, Process::start(&["config"], admin.data.path()));
        old.ended_log();
        let database = rusqlite::Connection::open(admin.data.path().join("dockwright.db")).expect("opens");
        let changed = database.execute("UPDATE audit SET entry = replace(entry, 'users/bob', 'users/eve') WHERE seq = 2", []);
        assert_eq!(changed.expect("updates"), 1);
        Process::start(&["serve", "--listen", "127.0.0.1:0"], admin.data.path())
    };
    admin.url = format!("http://{}", admin.service.address());
    admin.run("audit verify").refused("entry 2: was changed");
    assert_eq!(admin.run("audit verify --json").code, 1);
}

#[test]
fn a_service_with_a_certificate_of_its_own_is_reached_by_those_who_trust_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls");
    let cert = tls.join("cert.pem").to_str().expect("text").to_owned();
    let key = folder.path().join("tls-key.pem");
    std::fs::copy(tls.join("key.pem"), &key).expect("copied");
    let key = key.to_str().expect("text").to_owned();
    let settings = ["--tls-cert", &cert, "--tls-key", &key];
    let mut service = Process::start(&[&["serve", "--listen", "127.0.0.1:0"][..], &settings].concat(), folder.path());
    let (address, token) = (service.address(), folder.path().join("admin-token"));
    let url = format!("https://{address}");
    let ask = |more: &[&str]| {
        run(&[&["--url", &url, "--token-file", token.to_str().expect("text"), "user", "list"], more].concat(), "")
    };
    ask(&[]).refused("certificate");
    assert!(ask(&["--ca-file", &cert]).well().out.contains("admin"));
    let doctor = |mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).expect("set");
        let data = folder.path().to_str().expect("text");
        run(&[&["doctor", "--data-dir", data, "--listen", &address, "--min-free-disk", "1m"][..], &settings].concat(), "").out
    };
    let told = doctor(0o600);
    assert!(told.contains("a dockwright answers") && told.contains("fit each other") && told.contains("one key"), "{told}");
    let told = doctor(0o644);
    assert!(told.contains("tls-key.pem may be read by others") && told.contains("chmod 600"), "{told}");
}
