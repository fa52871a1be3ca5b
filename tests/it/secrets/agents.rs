//! `RUN --mount=type=ssh`: the agent by itself, against OpenSSH's own programs, and in a step of a build.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use dockwright::engine::ssh::{Agent, Conversation, KeyFault, SigningKey};
use reqwest::multipart::Part;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::built;
use crate::pipeline::on_both_stores;
use crate::support::service::{self, Backend, context};
use crate::support::unique;

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}; install openssh-client"))
}

/// A new key of this type; its file.
fn key(folder: &Path, kind: &str, bits: &str, passphrase: &str) -> PathBuf {
    let file = folder.join(unique(kind));
    let comment = format!("{kind}-{bits}@test");
    let mut make = Command::new("ssh-keygen");
    let made = run(make.args(["-q", "-t", kind, "-b", bits, "-N", passphrase, "-C", &comment, "-f"]).arg(&file));
    assert!(made.status.success(), "{made:?}");
    file
}

fn read(file: &Path) -> Vec<u8> {
    std::fs::read(file).expect("a file")
}

fn public(file: &Path) -> String {
    String::from_utf8(read(&file.with_extension("pub"))).expect("text").trim().to_owned()
}

/// Whether a signature of `message` is by this key, as OpenSSH sees it.
fn is_signed_by(folder: &Path, key: &Path, message: &str, signature: &[u8]) -> bool {
    let (allowed, file) = (folder.join("allowed"), folder.join("signature"));
    std::fs::write(&allowed, format!("ada {}\n", public(key))).expect("written");
    std::fs::write(&file, signature).expect("written");
    let mut verify = Command::new("ssh-keygen");
    verify.args(["-Y", "verify", "-I", "ada", "-n", "test", "-f"]).arg(&allowed).arg("-s").arg(&file);
    let mut child = verify.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("ssh-keygen");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), message.as_bytes()).expect("takes it");
    child.wait().expect("ends").success()
}

/// Serves the keys at a socket, until the test ends.
fn serve(socket: &Path, keys: &[PathBuf]) {
    let mut agent = Agent::default();
    for file in keys {
        agent.add(SigningKey::parse(&read(file)).unwrap_or_else(|e| panic!("{}: {e}", file.display())));
    }
    let agent = std::sync::Arc::new(agent);
    let listener = UnixListener::bind(socket).expect("a socket");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let agent = agent.clone();
            tokio::spawn(async move {
                let (mut talk, mut piece) = (Conversation::default(), [0; 7]);
                while let Ok(length @ 1..) = client.read(&mut piece).await {
                    let answer = talk.take(&agent, &piece[..length]).expect("a client's message");
                    client.write_all(&answer).await.expect("takes it");
                }
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_serves_keys_of_every_type_to_openssh() {
    let folder = tempfile::tempdir().expect("a folder");
    let (folder, socket) = (folder.path(), folder.path().join("agent"));
    let kinds = [("ed25519", "256"), ("rsa", "2048"), ("rsa", "3072"), ("ecdsa", "256"), ("ecdsa", "384")];
    // The private number of every other one of these is shorter than the curve's.
    let kinds = kinds.into_iter().chain(std::iter::repeat_n(("ecdsa", "521"), 6));
    let keys: Vec<PathBuf> = kinds.map(|(kind, bits)| key(folder, kind, bits, "")).collect();
    serve(&socket, &keys);
    let openssh = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        run(command.args(args).env("SSH_AUTH_SOCK", &socket))
    };
    let listed = openssh("ssh-add", &["-L"]);
    let expected: Vec<String> = keys.iter().map(|key| public(key)).collect();
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().collect::<Vec<_>>(), expected, "{listed:?}");
    std::fs::write(folder.join("message"), "to be signed").expect("written");
    for key in &keys {
        // The public half alone: OpenSSH has to ask the agent.
        let alone = key.with_extension("alone");
        std::fs::write(&alone, public(key)).expect("written");
        let (alone, message) = (alone.to_string_lossy(), folder.join("message"));
        let signed = openssh("ssh-keygen", &["-Y", "sign", "-n", "test", "-f", &alone, &message.to_string_lossy()]);
        assert!(signed.status.success(), "{signed:?}");
        let signature = read(&folder.join("message.sig"));
        std::fs::remove_file(folder.join("message.sig")).expect("there");
        assert!(is_signed_by(folder, key, "to be signed", &signature), "{}", key.display());
        assert!(!is_signed_by(folder, key, "something else", &signature));
    }
    for args in [&["-D"][..], &["-x"], &[&keys[0].to_string_lossy()]] {
        assert!(!openssh("ssh-add", args).status.success(), "{args:?}: the keys stay as they were sent");
    }
}

#[test]
fn keys_that_cannot_be_forwarded_say_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let fault = |file: &Path| SigningKey::parse(&read(file)).err();
    assert_eq!(fault(&key(folder, "ed25519", "256", "a passphrase")), Some(KeyFault::Encrypted));
    assert_eq!(fault(&key(folder, "rsa", "1024", "")), Some(KeyFault::Unsupported));
    let good = key(folder, "ed25519", "256", "");
    assert_eq!(fault(&good.with_extension("pub")), Some(KeyFault::NotOpenSsh));
    let text = String::from_utf8(read(&good)).expect("text");
    for cut in [40, 100, text.len() / 2, text.len() - 40] {
        assert!(matches!(SigningKey::parse(&text.as_bytes()[..cut]), Err(KeyFault::Damaged)), "{cut}");
    }
    let windows = text.replace('\n', "\r\n");
    assert!(SigningKey::parse(windows.as_bytes()).is_ok(), "line ends of another system");
}

/// A context with OpenSSH's own programs and what they are linked with, each at its own path.
fn with_openssh(dockerfile: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, bytes: &[u8], mode: u32| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        tar.append_data(&mut header, path, bytes).expect("a tar in memory");
    };
    add("Dockerfile", dockerfile.as_bytes(), 0o644);
    let mut added = Vec::new();
    for program in ["/usr/bin/ssh-add", "/usr/bin/ssh-keygen"] {
        let linked = run(Command::new("ldd").arg(program));
        let linked = String::from_utf8(linked.stdout).expect("text");
        let libraries = linked.split_whitespace().filter(|word| word.starts_with('/'));
        for path in libraries.chain([program]).map(str::to_owned).collect::<Vec<_>>() {
            if !added.contains(&path) {
                add(&format!("root{path}"), &read(Path::new(&path)), 0o755);
                added.push(path);
            }
        }
    }
    tar.into_inner().expect("a tar in memory")
}

on_both_stores!(a_step_lists_and_signs_with_the_keys_of_its_own_build,);

async fn a_step_lists_and_signs_with_the_keys_of_its_own_build(backend: Backend) {
    let service = service::start(backend).await;
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let keys = [key(folder, "ed25519", "256", ""), key(folder, "rsa", "2048", ""), key(folder, "ecdsa", "521", "")];
    let text = format!(
        "FROM busybox\nCOPY root /\n\
         RUN --mount=type=ssh,required=true ssh-add -L && ssh-add -L >/pub && for i in 1 2; do sed -n ${{i}}p /pub >/pub.$i && \
         echo -n {mark} | ssh-keygen -Y sign -n test -f /pub.$i >/signature.$i; done\n\
         RUN --mount=type=ssh,id=deploy,target=/agent,mode=0666 SSH_AUTH_SOCK=/agent ssh-add -L >/deploy\n\
         RUN --mount=type=ssh,id=other ! ssh-add -L 2>/dev/null\n\
         RUN ! ssh-add -L 2>/dev/null\n",
        mark = unique("sign")
    );
    let mark = text.split("echo -n ").nth(1).and_then(|rest| rest.split(' ').next()).expect("the mark").to_owned();
    let part = |file: &Path| Part::bytes(read(file));
    let form = context(with_openssh(&text)).part("ssh.default", part(&keys[0])).part("ssh.default", part(&keys[1]));
    let build = built(&service, &service.token, form.part("ssh.deploy", part(&keys[2]))).await;
    assert_eq!(build["options"]["ssh"], serde_json::json!(["default", "deploy"]));
    let log = service.log(&build).await;
    assert!(log.contains(&public(&keys[0])) && log.contains(&public(&keys[1])), "public keys are no secrets: {log}");
    assert_eq!(super::file_in(&build, "/deploy"), public(&keys[2]), "each id has its own agent");
    for (key, file) in [(&keys[0], "/signature.1"), (&keys[1], "/signature.2")] {
        let signature = super::file_in(&build, file);
        assert!(is_signed_by(folder, key, &mark, signature.as_bytes()), "{signature}");
    }
    service.delete(&build).await;
}
