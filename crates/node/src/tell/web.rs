//! Posts notices to a web address, again and again for a while where it does not take them.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use datamesh_engine::world::Clock;
use tokio::sync::oneshot;
use ureq::Agent;

use crate::web_agent::agent;

/// How long one attempt may take.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(10);
/// Attempts for one notice.
const ATTEMPTS: u32 = 6;
/// The pause before the second attempt; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_secs(1);

/// Why a notice was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum WebError {
    #[error("the address answered with status {0}")]
    Status(u16),
    #[error("the address can't be reached: {0}")]
    Unreachable(#[from] ureq::Error),
    #[error("no thread could be had to post with")]
    NoThread,
}

impl WebError {
    /// Whether it may be otherwise in a while.
    fn may_pass(&self) -> bool {
        match self {
            Self::Status(status) => *status >= 500 || matches!(status, 408 | 425 | 429),
            Self::Unreachable(_) | Self::NoThread => true,
        }
    }
}

/// A web address that wants to know of alerts.
pub(super) struct Web {
    address: String,
    clock: Arc<dyn Clock>,
    agent: Agent,
}

impl Web {
    pub(super) fn new(address: String, clock: Arc<dyn Clock>) -> Self {
        Self { address, clock, agent: agent(ATTEMPT_DEADLINE) }
    }

    pub(super) async fn post(&self, notice: Bytes) -> Result<(), WebError> {
        let mut pause = PAUSE_FIRST;
        let mut attempt = 1;
        loop {
            match self.try_once(notice.clone()).await {
                Err(error) if attempt < ATTEMPTS && error.may_pass() => {
                    tracing::debug!(%error, attempt, "an alert was not taken, it is posted again in a while");
                    self.clock.sleep(pause).await;
                    attempt += 1;
                    pause *= 2;
                }
                outcome => return outcome,
            }
        }
    }

    /// One attempt, on a thread of its own: it blocks, and nobody is to wait for it when the node stops.
    async fn try_once(&self, notice: Bytes) -> Result<(), WebError> {
        let (agent, address) = (self.agent.clone(), self.address.clone());
        let (sender, receiver) = oneshot::channel();
        let post = move || {
            let request = agent.post(&address).header("content-type", "application/json");
            let outcome = match request.send(&notice[..]) {
                Ok(answer) if answer.status().is_success() => Ok(()),
                Ok(answer) => Err(WebError::Status(answer.status().as_u16())),
                Err(error) => Err(WebError::from(error)),
            };
            // Nobody waits any more where the node stops.
            let _ = sender.send(outcome);
        };
        thread::Builder::new().name("webhook".to_owned()).spawn(post).map_err(|_| WebError::NoThread)?;
        receiver.await.unwrap_or(Err(WebError::NoThread))
    }
}
