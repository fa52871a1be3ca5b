//! A git server on a port of its own: the real `git http-backend` behind a little HTTP, which writes down what it is asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use base64::Engine as _;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How a server behaves.
#[derive(Clone, Default)]
pub struct Manners {
    /// User and password that everybody has to show.
    pub login: Option<(String, String)>,
    /// Speaks the oldest protocol, which gives no commits by their hash.
    pub old: bool,
    /// Sends everybody to the same path below this.
    pub redirect: Option<String>,
    /// Answers so many requests with 503 before it works.
    pub failing: usize,
    /// Files with its certificate and its key, both in PEM; without them it speaks in the clear.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// Repositories, and the server that gives them away. Both go when it is dropped.
pub struct GitHost {
    pub address: SocketAddr,
    root: tempfile::TempDir,
    seen: Arc<Seen>,
    server: tokio::task::JoinHandle<()>,
}

struct Seen {
    root: PathBuf,
    manners: Manners,
    /// Method, path with query, and what was shown; then the command lines of all programs at that moment.
    requests: Mutex<Vec<String>>,
    commands: Mutex<Vec<u8>>,
}

impl Drop for GitHost {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl GitHost {
    pub async fn start() -> Self {
        Self::start_on("127.0.0.1:0", Manners::default()).await
    }

    pub async fn start_on(address: &str, manners: Manners) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let seen = Seen { root: root.path().to_owned(), manners, requests: Mutex::default(), commands: Mutex::default() };
        let seen = Arc::new(seen);
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let app = Router::new().fallback(answer).with_state(Arc::clone(&seen));
        let server = match seen.manners.tls.as_ref().map(tls) {
            None => tokio::spawn(async move { axum::serve(listener, app).await.expect("serves") }),
            Some(tls) => tokio::spawn(async move { axum::serve(Encrypted { listener, tls }, app).await.expect("serves") }),
        };
        Self { address, root, seen, server }
    }

    /// A new repository without a commit.
    pub fn repository(&self, name: &str) -> Repository {
        let folder = self.root.path().join(format!("{name}.git"));
        git(&self.root.path().join("."), &["init", "-q", "-b", "main", "--bare", folder.to_str().expect("UTF-8")]);
        Repository { folder, work: tempfile::tempdir().expect("a folder"), url: self.url(name) }
    }

    pub fn url(&self, name: &str) -> String {
        let scheme = if self.seen.manners.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/{name}.git", self.address)
    }

    /// What was asked so far: `GET /app.git/info/refs?service=git-upload-pack`, and what was shown with it.
    pub fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().expect("not poisoned").clone()
    }

    /// The command lines of all programs of this machine while it was asked.
    pub fn commands(&self) -> Vec<u8> {
        self.seen.commands.lock().expect("not poisoned").clone()
    }
}

/// Whoever does not come as far as a request is no connection.
struct Encrypted {
    listener: TcpListener,
    tls: TlsAcceptor,
}

impl axum::serve::Listener for Encrypted {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (connection, address) = self.listener.accept().await.expect("a connection");
            if let Ok(connection) = self.tls.accept(connection).await {
                return (connection, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

fn tls((cert, key): &(PathBuf, PathBuf)) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect).expect("certificates");
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("a pair");
    Arc::new(config).into()
}

/// A repository of a [`GitHost`]; each commit is made in a working tree of its own and pushed.
pub struct Repository {
    folder: PathBuf,
    work: tempfile::TempDir,
    pub url: String,
}

impl Repository {
    /// A commit on `main` with exactly these files; its hash.
    pub fn commit(&self, files: &[(&str, &str)]) -> String {
        self.commit_with(|work| {
            for (path, text) in files {
                let path = work.join(path);
                std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                std::fs::write(path, text).expect("written");
            }
        })
    }

    /// A commit on `main` of whatever `fill` puts into an empty working tree; its hash.
    pub fn commit_with(&self, fill: impl FnOnce(&Path)) -> String {
        let work = self.work.path();
        for entry in std::fs::read_dir(work).expect("a folder").flatten() {
            let path = entry.path();
            let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        }
        fill(work);
        self.git(&["add", "--force", "--all", "."]);
        self.record("a commit")
    }

    /// A gitlink at `path` to a commit of another repository, in the index; [`Repository::record`] commits it.
    pub fn link(&self, path: &str, commit: &str) {
        self.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{path}")]);
    }

    /// Commits the index.
    pub fn record(&self, message: &str) -> String {
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs git with this repository and its working tree; what it prints.
    pub fn git(&self, arguments: &[&str]) -> String {
        let (folder, work) = (self.folder.to_str().expect("UTF-8"), self.work.path().to_str().expect("UTF-8"));
        git(self.work.path(), &[&["--git-dir", folder, "--work-tree", work], arguments].concat())
    }
}

/// Git as if by one person at one moment, without anybody's settings.
pub fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = std::process::Command::new("git");
    command.current_dir(folder).args(arguments).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Ada").env(format!("GIT_{who}_EMAIL"), "ada@example.org");
        command.env(format!("GIT_{who}_DATE"), "2024-05-06T07:08:09Z");
    }
    let output = command.output().expect("git is installed");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

async fn answer(State(seen): State<Arc<Seen>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let shown = header("authorization");
    let number = {
        let mut requests = seen.requests.lock().expect("not poisoned");
        requests.push(format!("{} {} {shown}", head.method, head.uri));
        requests.len()
    };
    seen.commands.lock().expect("not poisoned").extend(command_lines());
    let empty = |status: StatusCode, name: &'static str, value: &str| {
        Response::builder().status(status).header(name, value).body(Body::empty()).expect("an answer")
    };
    if number <= seen.manners.failing {
        return empty(StatusCode::SERVICE_UNAVAILABLE, "retry-after", "1");
    }
    if let Some(to) = &seen.manners.redirect {
        return empty(StatusCode::FOUND, "location", &format!("{to}{}", head.uri));
    }
    if let Some((user, password)) = &seen.manners.login {
        let right = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        if shown != format!("Basic {right}") {
            return empty(StatusCode::UNAUTHORIZED, "www-authenticate", "Basic realm=\"git\"");
        }
    }
    let mut backend = tokio::process::Command::new("git");
    backend.arg("http-backend").env("GIT_PROJECT_ROOT", &seen.root).env("GIT_HTTP_EXPORT_ALL", "1");
    backend.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("REMOTE_ADDR", "127.0.0.1");
    backend.env("PATH_INFO", head.uri.path()).env("QUERY_STRING", head.uri.query().unwrap_or_default());
    backend.env("REQUEST_METHOD", head.method.as_str()).env("CONTENT_TYPE", header("content-type"));
    backend.env("HTTP_CONTENT_ENCODING", header("content-encoding"));
    if !seen.manners.old {
        backend.env("GIT_PROTOCOL", header("git-protocol"));
    }
    let mut backend = backend.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("git http-backend");
    let body = to_bytes(body, 64 << 20).await.expect("a body");
    let mut stdin = backend.stdin.take().expect("piped");
    tokio::spawn(async move { stdin.write_all(&body).await });
    cgi(&backend.wait_with_output().await.expect("ends").stdout)
}

/// A CGI answer as one of HTTP.
fn cgi(output: &[u8]) -> Response<Body> {
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let fields: BTreeMap<&str, &str> = head.lines().filter_map(|line| line.split_once(": ")).collect();
    let status = fields.get("Status").and_then(|status| status.split(' ').next()?.parse::<u16>().ok()).unwrap_or(200);
    let mut answer = Response::builder().status(status);
    for (name, value) in fields.into_iter().filter(|(name, _)| *name != "Status") {
        answer = answer.header(name, value);
    }
    answer.body(Body::from(Bytes::copy_from_slice(&output[end + 4..]))).expect("an answer")
}

/// `/proc/*/cmdline` of whatever runs now.
fn command_lines() -> Vec<u8> {
    let processes = std::fs::read_dir("/proc").expect("Linux").flatten();
    processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok()).flatten().collect()
}
