//! What a build's steps ask for over its session and nobody else may see: secrets (`RUN --mount=type=secret`) and ssh agents
//! (`RUN --mount=type=ssh`). Both are served from memory; the engine puts a secret into a file system in memory, and an agent behind a
//! socket, for as long as the step runs.
//!
//! Source: moby/buildkit `session/secrets/secrets.go`, `session/sshforward/ssh.go`.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::Secrets;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::Ssh;
use bollard_buildkit_proto::moby::sshforward::v1::{BytesMessage, CheckAgentRequest, CheckAgentResponse};
use futures::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::errors::fault;
use crate::domain::BuildSecret;
use crate::engine::Result;
use crate::engine::ssh::{Agent, Conversation, SigningKey};

/// The agent that a mount without an id means.
const DEFAULT: &str = "default";
/// In which a stream names its agent.
const ID: &str = "buildkit.ssh.id";

/// One build's secrets and agents. Empty by default.
#[derive(Clone, Default)]
pub(super) struct Served(Arc<Inner>);

#[derive(Default)]
struct Inner {
    secrets: Vec<BuildSecret>,
    agents: BTreeMap<String, Agent>,
}

impl Served {
    /// # Errors
    /// When a key cannot be read, which was seen to when it came.
    pub(super) fn new(secrets: Vec<BuildSecret>, keys: &[BuildSecret]) -> Result<Self> {
        let mut agents: BTreeMap<String, Agent> = BTreeMap::new();
        for key in keys {
            let read = SigningKey::parse(key.expose()).map_err(|why| fault(format!("the ssh key {:?} {why}", key.id())))?;
            agents.entry(key.id().to_owned()).or_default().add(read);
        }
        Ok(Self(Arc::new(Inner { secrets, agents })))
    }

    /// The agent's id, if there is one: the engine takes this refusal for none.
    fn agent_id(&self, asked: &str) -> Result<String, Status> {
        let id = if asked.is_empty() { DEFAULT } else { asked };
        let found = self.0.agents.contains_key(id);
        found.then(|| id.to_owned()).ok_or_else(|| Status::unimplemented(format!("no ssh key {id:?} was sent with this build")))
    }
}

#[tonic::async_trait]
impl Secrets for Served {
    async fn get_secret(&self, request: Request<GetSecretRequest>) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        let found = self.0.secrets.iter().find(|secret| secret.id() == id);
        let secret = found.ok_or_else(|| Status::not_found(format!("no secret {id:?} was sent with this build")))?;
        Ok(Response::new(GetSecretResponse { data: secret.expose().to_vec() }))
    }
}

#[tonic::async_trait]
impl Ssh for Served {
    async fn check_agent(&self, request: Request<CheckAgentRequest>) -> Result<Response<CheckAgentResponse>, Status> {
        self.agent_id(&request.into_inner().id).map(|_| Response::new(CheckAgentResponse {}))
    }

    type ForwardAgentStream = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        let asked = request.metadata().get(ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
        let (id, inner) = (self.agent_id(asked)?, Arc::clone(&self.0));
        let mut incoming = request.into_inner();
        let answers = async_stream::try_stream! {
            let agent = inner.agents.get(&id).ok_or_else(|| Status::internal("the agent went away"))?;
            let mut talk = Conversation::default();
            while let Some(message) = incoming.message().await? {
                let answer = talk.take(agent, &message.data).map_err(|error| Status::invalid_argument(error.to_string()))?;
                if !answer.is_empty() {
                    yield BytesMessage { data: answer };
                }
            }
        };
        Ok(Response::new(Box::pin(answers)))
    }
}
