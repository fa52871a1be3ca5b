//! Answers that go on, as logs and events do: they break off when their reader loses the right to them.

use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use axum::body::{Body, HttpBody};
use axum::response::Response;
use futures::StreamExt;

use super::access::Rule;
use super::guard::Client;
use super::{App, may_use};
use crate::auth::Presented;
use crate::error::Error;
use crate::store::Topic;

/// The end of a session and the expiry of a token wake nobody: the right is looked at again this often.
const LOOK_AGAIN: Duration = Duration::from_secs(3);
/// A password takes a good deal of work to look at: beside every change of an account, this often is enough.
const SELDOM: Duration = Duration::from_secs(60);

/// The right by which a request was let in, to be looked at again while its answer goes on.
pub(super) struct Right {
    app: App,
    client: Client,
    rule: Option<Rule>,
    shown: Option<Presented>,
}

impl Right {
    pub(super) fn new(app: &App, client: &Client, rule: Option<Rule>, shown: Option<Presented>) -> Self {
        Self { app: app.clone(), client: client.clone(), rule, shown }
    }

    /// Comes when the caller would be refused. A store that is away takes no right from anybody.
    pub(super) async fn lost(&self) {
        let mut changed = self.app.builds.store().wakes().subscribe(Topic::Accounts);
        let shown = self.shown.as_ref();
        let pause = if shown.is_some_and(Presented::is_password) { SELDOM } else { LOOK_AGAIN };
        loop {
            changed.sleep(pause).await;
            let still = self.app.auth.still(shown, self.client.address).await.and_then(|caller| may_use(self.rule, &caller));
            if let Err(Error::Unauthenticated | Error::Forbidden { .. }) = still {
                return;
            }
        }
    }
}

/// The same answer, for as long as whoever asked for it could ask for it again. One whose length is known is under way already.
pub(super) fn while_allowed(response: Response, right: Arc<Right>) -> Response {
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    let (parts, body) = response.into_parts();
    let mut frames = body.into_data_stream();
    let body = stream! {
        let mut lost = std::pin::pin!(right.lost());
        loop {
            tokio::select! {
                frame = frames.next() => match frame {
                    Some(frame) => yield frame,
                    None => return,
                },
                // Not a plain end, which would say that there is no more.
                () = &mut lost => {
                    yield Err(axum::Error::new(std::io::Error::other("the right to read on has ended")));
                    return;
                }
            }
        }
    };
    Response::from_parts(parts, Body::from_stream(body))
}
