//! `dockwright doctor`: what is there, what is not, and what to do about it. It looks, and makes nothing: it may be run before the
//! first start, beside a running service, and by another user than the service's.

use std::io::ErrorKind as IoErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::fs::{Access, access};

use super::say;
use crate::config::{Config, StoreUrl};
use crate::context::git;
use crate::context::storage::free_bytes;
use crate::domain::{ErrorKind, ImageRef, Timestamp};
use crate::egress::Egress;
use crate::engine::docker::Docker;
use crate::engine::{Engine, EngineError, EngineInfo};
use crate::registry::{RegistryClient, Timeouts};
use crate::store::sqlite;
use crate::wiring::{check_folder, database, open_store, open_vault};

/// A certificate that ends within so many days is told of.
const EXPIRES_SOON: i64 = 14;
/// How long one part may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What one check found: what is well, or what is wrong and what to do.
type Finding = Result<String, Trouble>;

struct Trouble {
    wrong: String,
    remedy: String,
    /// Not wrong yet, but soon, or for some.
    ahead: bool,
}

fn trouble<T>(wrong: impl Into<String>, remedy: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble { wrong: wrong.into(), remedy: remedy.into(), ahead: false })
}

/// Success only when nothing is wrong; what soon will be is only told.
pub fn run(config: Config, registry: &str) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let findings = runtime.block_on(async {
        let engine = ask_engine(&config).await;
        let insecure = engine.as_ref().map(|info| info.insecure_registries.clone()).unwrap_or_default();
        vec![
            ("settings", settings(&config)),
            ("address", address(&config).await),
            ("tls", tls(&config)),
            ("disk", disk(&config)),
            ("store", store(&config).await),
            ("engine", engine_found(engine)),
            ("git", git().await),
            ("registry", reachable(registry, insecure).await),
        ]
    });
    let healthy = findings.iter().all(|(_, finding)| finding.as_ref().err().is_none_or(|trouble| trouble.ahead));
    for (name, finding) in findings {
        match finding {
            Ok(detail) => say(&format!("ok    {name:9} {detail}\n")),
            Err(Trouble { wrong, remedy, ahead }) => {
                let mark = if ahead { "WARN" } else { "FAIL" };
                say(&format!("{mark}  {name:9} {wrong}\n                what to do: {remedy}\n"));
            }
        }
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The data folder and the keys.
fn settings(config: &Config) -> Finding {
    let folder = config.data_dir.display();
    let there = existing(&config.data_dir);
    if !there.is_dir() {
        return trouble(format!("{} is no folder", there.display()), "choose another with --data-dir");
    }
    if access(&there, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return trouble(
            format!("this account may not write to {}", there.display()),
            "choose another folder with --data-dir, or run this as the account that the service runs as",
        );
    }
    if let Err(error) = check_folder(config) {
        return trouble(error.to_string(), "every store needs a folder of its own");
    }
    let there = config.key.is_some() || config.key_file.exists();
    let keys = if there { open_vault(config).map(|vault| Some(vault.keys())) } else { Ok(None) };
    match keys {
        Ok(Some(1)) => Ok(format!("data in {folder}, one key")),
        Ok(Some(keys)) => Ok(format!("data in {folder}, {keys} keys: the first one seals, the others can be read")),
        Ok(None) if config.data_dir.is_dir() => Ok(format!("data in {folder}; the first start makes the key")),
        Ok(None) => Ok(format!("data will be in {folder}, which the first start makes")),
        Err(error) => trouble(format!("the key cannot be used: {error:#}"), "mend the key file, or set DOCKWRIGHT_KEY"),
    }
}

/// The path, or the nearest folder above it that is there.
fn existing(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.ancestors().find(|above| above.exists()).unwrap_or(&path).to_owned()
}

/// Is the address free, or ours already?
async fn address(config: &Config) -> Finding {
    let address = config.listen;
    if !config.role.serves() {
        return Ok("a worker listens nowhere".into());
    }
    let secure = config.tls_cert.is_some();
    if !address.ip().is_loopback() && !secure {
        return trouble(
            format!("{address} is open to other machines without TLS: tokens and passwords cross the network in the clear"),
            "set --tls-cert and --tls-key, or listen on 127.0.0.1 behind a reverse proxy that speaks TLS",
        );
    }
    match TcpListener::bind(address) {
        Ok(_) => Ok(format!("{address} is free")),
        Err(error) if error.kind() == IoErrorKind::AddrInUse && dockwright_answers(address, secure).await => {
            Ok(format!("a dockwright answers on {address}"))
        }
        Err(error) if error.kind() == IoErrorKind::AddrInUse => trouble(
            format!("another program has {address}"),
            format!("stop it (ss -ltnp 'sport = :{}' names it), or choose another address with --listen", address.port()),
        ),
        Err(error) => trouble(format!("{address} cannot be listened on: {error}"), "choose another address with --listen"),
    }
}

async fn dockwright_answers(address: SocketAddr, secure: bool) -> bool {
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy();
    // Only whether it is there is asked: it is sent nothing, and its certificate has a name that is not known here.
    let Ok(client) = client.danger_accept_invalid_certs(secure).build() else { return false };
    let scheme = if secure { "https" } else { "http" };
    let Ok(answer) = client.get(format!("{scheme}://{address}/healthz")).send().await else { return false };
    answer.status().is_success() && answer.text().await.is_ok_and(|body| body == r#"{"status":"ok"}"#)
}

/// The certificate and its key, if the service is to speak TLS itself.
fn tls(config: &Config) -> Finding {
    use std::os::unix::fs::PermissionsExt;
    let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) else {
        return Ok("not spoken by the service itself".into());
    };
    if let Err(error) = crate::http::tls(cert, key) {
        return trouble(format!("{error:#}"), "name a PEM file with the certificate chain and one with its key");
    }
    match std::fs::metadata(key) {
        Ok(meta) if meta.permissions().mode() & 0o077 != 0 => {
            trouble(format!("{} may be read by others", key.display()), format!("chmod 600 {}", key.display()))
        }
        Ok(_) => still_good(cert, Timestamp::now()),
        Err(error) => trouble(format!("{}: {error}", key.display()), "name a file that this account can read"),
    }
}

/// Whether the certificates are in force, and for how long.
fn still_good(cert: &Path, now: Timestamp) -> Finding {
    let shown = cert.display();
    let renew = "renew it and restart the service, which reads it at its start";
    let (begins, ends) = match in_force(cert) {
        Ok(times) => times,
        Err(error) => return trouble(format!("{shown}: {error:#}"), "name a PEM file with the certificate chain"),
    };
    let days = (ends - now.as_millis()).div_euclid(24 * 3600 * 1000);
    match days {
        _ if now.as_millis() < begins => trouble(format!("{shown} is not in force yet"), "check this machine's clock"),
        ..0 => trouble(format!("{shown} has expired"), renew),
        0..EXPIRES_SOON => {
            let wrong = format!("{shown} and its key fit each other, but it expires in {days} days");
            Err(Trouble { wrong, remedy: renew.into(), ahead: true })
        }
        _ => Ok(format!("{shown} and its key fit each other, for {days} days")),
    }
}

/// From when until when all certificates of a chain are in force, in milliseconds since 1970.
fn in_force(cert: &Path) -> anyhow::Result<(i64, i64)> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let (mut begins, mut ends) = (i64::MIN, i64::MAX);
    for certificate in CertificateDer::pem_file_iter(cert)? {
        let certificate = certificate?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate)?;
        let validity = parsed.validity();
        begins = begins.max(validity.not_before.timestamp().saturating_mul(1000));
        ends = ends.min(validity.not_after.timestamp().saturating_mul(1000));
    }
    Ok((begins, ends))
}

fn disk(config: &Config) -> Finding {
    let floor = config.min_free_disk;
    let folder = existing(&config.data_dir);
    match free_bytes(&folder) {
        Ok(free) if free >= floor.0 => Ok(format!("{} MiB are free below {}", free >> 20, config.data_dir.display())),
        Ok(free) => trouble(
            format!("only {} MiB are free below {}, less than {floor}: uploads are refused", free >> 20, folder.display()),
            "free some room, choose another folder with --data-dir, or lower --min-free-disk",
        ),
        Err(error) => trouble(format!("the free room is not known: {error}"), "check the data folder's rights"),
    }
}

async fn store(config: &Config) -> Finding {
    let remedy = match config.store {
        StoreUrl::Sqlite if sqlite::in_use(&database(config)) => return Ok("a running dockwright has it".into()),
        StoreUrl::Sqlite if !database(config).exists() => return Ok("embedded; the first start makes it".into()),
        StoreUrl::Sqlite => "check the rights of the files in the data folder, and its file system",
        StoreUrl::Redis(_) => "check that the Redis server runs and that --store names it",
    };
    let opened = tokio::time::timeout(PATIENCE, async {
        let store = open_store(config).await?;
        store.ping().await?;
        anyhow::Ok(store.warnings().await.unwrap_or_default())
    });
    match opened.await {
        Ok(Ok(warnings)) if warnings.is_empty() => Ok("answers, and keeps what it acknowledged".into()),
        Ok(Ok(warnings)) => {
            trouble(warnings.join("; "), "set appendonly yes, appendfsync always and maxmemory-policy noeviction in Redis")
        }
        Ok(Err(error)) => trouble(format!("{error:#}"), remedy),
        Err(_) => trouble(format!("does not answer within {} s", PATIENCE.as_secs()), remedy),
    }
}

async fn ask_engine(config: &Config) -> Result<EngineInfo, EngineError> {
    Docker::connect(config.engine.as_deref())?.info().await
}

fn engine_found(engine: Result<EngineInfo, EngineError>) -> Finding {
    match engine {
        Ok(info) => Ok(format!("version {}, {} on {}, {}", info.version, info.architecture, info.os, info.storage_driver)),
        Err(error) if error.message.to_lowercase().contains("permission denied") => trouble(
            error.message,
            "add this account to the engine's group (usermod -aG docker NAME, then log in anew); whoever is in it is root here",
        ),
        Err(error) => {
            trouble(error.message, "start the Docker engine (systemctl start docker), or name it with --engine or DOCKER_HOST")
        }
    }
}

async fn git() -> Finding {
    match git::installed().await {
        Ok(version) => Ok(format!("version {version}")),
        Err(why) => Err(Trouble {
            wrong: format!("git {why}: builds from git sources are refused"),
            remedy: "install it, 2.37 or newer (apt-get install git)".into(),
            ahead: true,
        }),
    }
}

/// Asks as a publisher would; a registry that wants a password answers all the same.
async fn reachable(registry: &str, insecure: Vec<String>) -> Finding {
    let Ok(image) = format!("{registry}/dockwright/doctor:none").parse::<ImageRef>() else {
        return trouble(format!("{registry:?} is no registry's name"), "name one with --registry HOST[:PORT]");
    };
    let client = RegistryClient::new(Timeouts { connect: PATIENCE, request: PATIENCE }, Egress::near());
    client.set_insecure(insecure);
    match client.manifest(&image, None).await {
        Ok(_) => Ok(format!("{} answers", image.host())),
        Err(refusal) if refusal.error.kind == ErrorKind::Auth => Ok(format!("{} answers, and asks for a password", image.host())),
        Err(refusal) => trouble(
            refusal.error.message,
            "start one (scripts/services up registry), or check another with --registry; nothing can be published to this one",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_soon_expires_is_told_of() {
        let cert = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls/cert.pem");
        let (begins, ends) = in_force(&cert).expect("a certificate");
        let day = 24 * 3600 * 1000;
        let found = |millis: i64| match still_good(&cert, Timestamp::from_millis(millis)) {
            Ok(well) => format!("ok {well}"),
            Err(trouble) => format!("{} {}", if trouble.ahead { "warn" } else { "fail" }, trouble.wrong),
        };
        for (at, mark, words) in [
            (begins - 1, "fail", "not in force yet"),
            (ends - 15 * day, "ok", "for 15 days"),
            (ends - 14 * day, "ok", "for 14 days"),
            (ends - 14 * day + 1, "warn", "expires in 13 days"),
            (ends - 1, "warn", "expires in 0 days"),
            (ends + 1, "fail", "has expired"),
        ] {
            let told = found(at);
            assert!(told.starts_with(mark) && told.contains(words), "{told}, not {mark} {words}");
        }
    }
}
