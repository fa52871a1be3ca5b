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
use crate::domain::Timestamp;
use crate::error::Error;
use crate::store::Topic;

/// Every change of a right wakes, and when a proof ends by itself is known: this often is looked all the same.
const SELDOM: Duration = Duration::from_secs(60);
/// The store's clock, which ends sessions, may be a little behind this one.
const A_MOMENT: Duration = Duration::from_millis(50);

/// The right by which a request was let in, to be looked at again while its answer goes on.
pub(super) struct Right {
    app: App,
    client: Client,
    rule: Option<Rule>,
    shown: Option<Presented>,
    until: Option<Timestamp>,
}

impl Right {
    /// `until`: when the proof ends by itself, if that is known.
    pub(super) fn new(
        app: &App,
        client: &Client,
        rule: Option<Rule>,
        shown: Option<Presented>,
        until: Option<Timestamp>,
    ) -> Self {
        Self { app: app.clone(), client: client.clone(), rule, shown, until }
    }

    /// Comes when the caller would be refused. A store that is away takes no right from anybody.
    pub(super) async fn lost(&self) {
        let mut changed = self.app.builds.store().wakes().subscribe(Topic::Accounts);
        let mut until = self.until;
        loop {
            let pause = until.map_or(SELDOM, |end| end.since(Timestamp::now()).clamp(A_MOMENT, SELDOM));
            changed.woken(pause).await;
            let still = self.app.auth.still(self.shown.as_ref(), self.client.address).await;
            match still.and_then(|caller| may_use(self.rule, &caller).map(|()| caller.until)) {
                Ok(end) => until = end,
                Err(Error::Unauthenticated | Error::Forbidden { .. }) => return,
                Err(_) => {}
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
