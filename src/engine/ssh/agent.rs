//! The agent's side of its protocol (draft-ietf-sshm-ssh-agent): it names its keys and signs with them, and does nothing else.

use super::key::SigningKey;
use super::wire::{Reader, put_string, put_u32};

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES: u8 = 12;
const REQUEST_SIGN: u8 = 13;
const SIGNATURE: u8 = 14;
/// Longest message, in bytes (OpenSSH's `MAX_AGENT_REPLY_LEN`).
const MESSAGE_BYTES: usize = 256 * 1024;

/// Some private keys, served as an ssh agent serves them.
#[derive(Default)]
pub struct Agent {
    keys: Vec<SigningKey>,
}

/// A message that no client of an agent sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message to the ssh agent is longer than {MESSAGE_BYTES} bytes")]
pub struct TooLong;

impl Agent {
    pub fn add(&mut self, key: SigningKey) {
        self.keys.push(key);
    }

    /// What is answered to one message, both without their length.
    fn answer(&self, message: &[u8]) -> Vec<u8> {
        let mut reader = Reader::new(message);
        let answered = match reader.byte() {
            Some(REQUEST_IDENTITIES) => Some(self.identities()),
            Some(REQUEST_SIGN) => self.signature(&mut reader),
            // Adding, removing, locking, extensions: the keys are the build's, and stay as they were sent.
            _ => None,
        };
        answered.unwrap_or_else(|| vec![FAILURE])
    }

    fn identities(&self) -> Vec<u8> {
        let mut out = vec![IDENTITIES];
        put_u32(&mut out, self.keys.len());
        for key in &self.keys {
            put_string(&mut out, key.public());
            put_string(&mut out, key.comment().as_bytes());
        }
        out
    }

    fn signature(&self, request: &mut Reader<'_>) -> Option<Vec<u8>> {
        let (public, data, flags) = (request.string()?, request.string()?, request.u32()?);
        let key = self.keys.iter().find(|key| key.public() == public)?;
        let mut out = vec![SIGNATURE];
        put_string(&mut out, &key.sign(data, flags)?);
        Some(out)
    }
}

/// One connection to an agent: bytes come in pieces as they please.
#[derive(Default)]
pub struct Conversation {
    pending: Vec<u8>,
}

impl Conversation {
    /// Takes what came and answers what is to be sent back, which may be nothing yet.
    ///
    /// # Errors
    /// [`TooLong`]: the connection must end.
    pub fn take(&mut self, agent: &Agent, bytes: &[u8]) -> Result<Vec<u8>, TooLong> {
        self.pending.extend_from_slice(bytes);
        let mut out = Vec::new();
        let mut done = 0;
        while let Some(length) = Reader::new(&self.pending[done..]).u32() {
            let length = usize::try_from(length).ok().filter(|length| *length <= MESSAGE_BYTES).ok_or(TooLong)?;
            let Some(message) = self.pending[done + 4..].get(..length) else { break };
            put_string(&mut out, &agent.answer(message));
            done += 4 + length;
        }
        self.pending.drain(..done);
        Ok(out)
    }
}
