//! A process in a running container, over a connection that is upgraded to its raw bytes: bollard's decoder of a terminal stalls
//! when a chunk begins with a byte 0 to 2.

use async_trait::async_trait;
use http::{HeaderValue, Method, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};

use super::calls::{part, request};
use super::endings::{LOOK_AGAIN, MARK, Mark};
use super::errors::{Doing, Refused, fault};
use super::transport::broken;
use super::{CALL_TIMEOUT, Docker};
use crate::engine::Result;
use crate::engine::containers::{Exec, ExecRequest, Terminals};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ExecState {
    pub running: bool,
    pub exit_code: Option<i64>,
    /// As the engine's host counts processes; 0 when there is none.
    #[serde(default)]
    pub pid: i32,
    #[serde(rename = "ContainerID")]
    pub container: String,
}

#[async_trait]
impl Terminals for Docker {
    async fn exec(&self, container: &str, request: &ExecRequest) -> Result<Exec> {
        let mark = Mark::new(container, request.user.clone());
        let id = self.make_exec(container, request, &mark).await?;
        self.marks.keep(&id, mark).map_err(|error| fault(format!("what ends the process could not be written down: {error}")))?;
        let unclaimed = Unclaimed { docker: self.clone(), container: container.to_owned(), exec: Some(id.clone()) };
        let exec = self.start_exec(id, request.tty).await?;
        if let Some((columns, rows)) = request.size.filter(|_| request.tty) {
            self.set_first_size(&exec.id, columns, rows).await;
        }
        unclaimed.claim();
        Ok(exec)
    }

    async fn resize(&self, exec: &str, columns: u16, rows: u16) -> Result<()> {
        let uri = format!("/exec/{}/resize?h={rows}&w={columns}", part(exec));
        match self.act(Method::POST, &uri, None, std::time::Duration::ZERO).await {
            // One that has ended has no size.
            Err(refused) if self.exit_code(exec).await?.is_none() => Err(refused.error),
            _ => Ok(()),
        }
    }

    async fn exit_code(&self, exec: &str) -> Result<Option<i64>> {
        let state: ExecState = self.get(&format!("/exec/{}/json", part(exec))).await?;
        Ok(state.exit_code.filter(|_| !state.running))
    }

    async fn end(&self, container: &str, exec: &str) -> Result<()> {
        self.end_exec(container, exec).await
    }
}

impl Docker {
    async fn make_exec(&self, container: &str, request: &ExecRequest, mark: &Mark) -> Result<String> {
        let mut body = json!({
            "AttachStdin": true,
            "AttachStdout": true,
            "AttachStderr": true,
            "Privileged": false,
            "DetachKeys": no_detach_keys(mark),
            "Tty": request.tty,
            "Cmd": request.command,
            "Env": [format!("{MARK}={}", mark.value())],
        });
        if let Some(user) = &request.user {
            body["User"] = json!(user);
        }
        self.exec_id(container, &body).await
    }

    /// The engine waits long for one that never starts, so that is looked for meanwhile. A size that could not be set is no reason to
    /// take the terminal away: its output tells what is wrong.
    async fn set_first_size(&self, exec: &str, columns: u16, rows: u16) {
        let ended = async {
            while let Ok(None) = self.exit_code(exec).await {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::select! {
            _ = self.resize(exec, columns, rows) => {}
            () = ended => {}
        }
    }

    pub(super) async fn exec_id(&self, container: &str, body: &Value) -> Result<String> {
        let made: Result<Value, Refused> = self.post(&format!("/containers/{}/exec", part(container)), body).await;
        made?["Id"].as_str().map(str::to_owned).ok_or_else(|| fault("the engine made a process without an id"))
    }

    async fn start_exec(&self, id: String, tty: bool) -> Result<Exec> {
        let body = json!({"Detach": false, "Tty": tty});
        let mut start = request(Method::POST, &format!("/exec/{}/start", part(&id)), Some(&body))?;
        start.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        start.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("tcp"));
        let answer = tokio::time::timeout(CALL_TIMEOUT, self.transport.send_ok(start, Doing::Container))
            .await
            .map_err(|_| super::errors::unavailable("the engine did not start the process in time"))??;
        if answer.response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(fault(format!("the engine answered {} instead of upgrading", answer.response.status())));
        }
        let upgraded = hyper::upgrade::on(answer.response).await.map_err(broken)?;
        let (output, input) = tokio::io::split(TokioIo::new(upgraded));
        Ok(Exec { id, output: Box::pin(output), input: Box::pin(input) })
    }
}

/// The keys by which one leaves a terminal, which the engine looks for in what is typed or pasted, and cannot be told not to: so long and
/// chance a row that it never comes. The first of them alone is held back until the next key; Ctrl-^ is the one that fewest programs know.
fn no_detach_keys(mark: &Mark) -> String {
    mark.value().chars().fold("ctrl-^".to_owned(), |keys, key| format!("{keys},{key}"))
}

/// A process that nobody holds yet: ended when its start is given up.
struct Unclaimed {
    docker: Docker,
    container: String,
    exec: Option<String>,
}

impl Unclaimed {
    fn claim(mut self) {
        self.exec = None;
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        let Some(exec) = self.exec.take() else { return };
        let (docker, container) = (self.docker.clone(), std::mem::take(&mut self.container));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = docker.end_exec(&container, &exec).await {
                    tracing::warn!(container, %error, "a process whose start was given up may be left");
                }
            });
        }
    }
}
