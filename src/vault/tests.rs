use super::*;
use crate::domain::{BuildId, BuildSecret, Entrusted, Owner};

fn owners() -> (Owner, Owner) {
    ("ada".parse().expect("valid"), "bob".parse().expect("valid"))
}

#[test]
fn opens_only_for_the_same_key_owner_and_build() {
    let vault = Vault::new([7; 32]);
    let (ada, bob) = owners();
    let id = BuildId::new();
    let own = vec![Credentials::new("h:5000", "u", SecretString::from("canary"))];
    let sealed = vault.seal_for_build(&ada, id, &own.into());
    assert!(!sealed.windows(6).any(|w| w == b"canary"));
    let opened = vault.open_for_build(&ada, id, &sealed).expect("opens").credentials;
    assert_eq!((opened[0].host(), opened[0].username(), opened[0].expose_password()), ("h:5000", "u", "canary"));
    assert!(!format!("{opened:?}").contains("canary"));
    assert!(vault.open_for_build(&bob, id, &sealed).is_err());
    assert!(vault.open_for_build(&ada, BuildId::new(), &sealed).is_err());
    assert!(Vault::new([8; 32]).open_for_build(&ada, id, &sealed).is_err());
}

#[test]
fn secrets_and_keys_are_sealed_with_the_credentials_of_a_build() {
    let vault = Vault::new([7; 32]);
    let (ada, _) = owners();
    let id = BuildId::new();
    let one = |id: &str, value: &[u8]| BuildSecret::new(id, value.to_vec().into());
    let given = Entrusted {
        credentials: vec![Credentials::new("h", "u", SecretString::from("p"))],
        secrets: vec![one("npm", b"canary\0\xff\n"), one("empty", b"")],
        ssh: vec![one("default", b"a key"), one("default", b"another")],
    };
    let opened = vault.open_for_build(&ada, id, &vault.seal_for_build(&ada, id, &given)).expect("opens");
    assert_eq!(opened.credentials[0].expose_password(), "p");
    let all = |list: &[BuildSecret]| list.iter().map(|one| (one.id().to_owned(), one.expose().to_vec())).collect::<Vec<_>>();
    assert_eq!((all(&opened.secrets), all(&opened.ssh)), (all(&given.secrets), all(&given.ssh)));
    assert!(!format!("{opened:?}").contains("canary") && format!("{opened:?}").contains("npm"));
}

#[test]
fn what_earlier_versions_have_sealed_for_a_build_opens() {
    let vault = Vault::new([7; 32]);
    let (ada, _) = owners();
    let id = BuildId::new();
    let before = br#"[{"host":"h:5000","username":"u","password":"pw"}]"#;
    let sealed = vault.seal(&format!("dockwright/build-credentials/v1/{ada}/{id}"), before);
    let opened = vault.open_for_build(&ada, id, &sealed).expect("opens");
    assert_eq!(opened.credentials[0].expose_password(), "pw");
    assert!(opened.secrets.is_empty() && opened.ssh.is_empty());
}

#[test]
fn the_key_file_is_private_and_stays() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("key");
    let first = Vault::from_file(&path).expect("made");
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    assert_eq!(first.key_name(), Vault::from_file(&path).expect("read").key_name());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    assert!(Vault::from_file(&path).is_err());
}

#[test]
fn processes_that_start_together_agree_on_one_key() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("key");
    let names: std::collections::HashSet<String> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..16).map(|_| scope.spawn(|| Vault::from_file(&path).expect("made or read").key_name())).collect();
        starts.into_iter().map(|start| start.join().expect("no panic")).collect()
    });
    assert_eq!(names.len(), 1);
}

#[test]
fn the_old_key_opens_until_it_is_retired() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("key");
    let (vault, other) = (Vault::from_file(&path).expect("made"), Vault::from_file(&path).expect("read"));
    let old = vault.seal("p", b"text");
    vault.rotate().expect("rotated");
    assert!(!vault.is_current(&old));
    assert_eq!(vault.open("p", &old).expect("opens").expose_secret(), b"text");
    let new = vault.seal("p", b"text");
    assert!(vault.is_current(&new));
    assert_eq!(other.open("p", &new).expect("the other process reads the file again").expose_secret(), b"text");
    vault.retire().expect("retired");
    assert!(vault.open("p", &old).is_err());
    assert!(vault.open("p", &new).is_ok());
    assert!(Vault::new([1; 32]).rotate().is_err(), "a key that was handed over is the operator's");
}

#[test]
fn several_keys_can_be_handed_over() {
    let (old, new) = (STANDARD.encode([1; 32]), STANDARD.encode([2; 32]));
    let sealed = Vault::from_base64(&SecretString::from(old.clone())).expect("a key").seal("p", b"text");
    let both = Vault::from_base64(&SecretString::from(format!("{new},{old}\n"))).expect("keys");
    assert!(both.open("p", &sealed).is_ok() && !both.is_current(&sealed));
    for bad in ["", "x", &format!("{new},x")] {
        assert!(Vault::from_base64(&SecretString::from(bad)).is_err(), "{bad}");
    }
}
