use std::cell::Cell;
use std::net::TcpListener;

use futures::StreamExt as _;
use secrecy::SecretString;

use super::super::fate;
use super::super::feed::feed;
use super::*;
use crate::client::Client;

const SHORT: Duration = Duration::from_millis(50);

fn patience() -> Patience {
    let (pause, longest_pause) = (Duration::from_millis(1), Duration::from_millis(5));
    Patience { silence: SHORT, answer: SHORT, away: 2 * SHORT, retries: 2 * SHORT, pause, longest_pause }
}

/// A service that takes every connection, and says nothing.
fn silent() -> (TcpListener, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let client = Client::new(&url, SecretString::from("token".to_owned()), None).expect("a client");
    (listener, client)
}

fn refused(status: u16, code: &str, retry_after: Option<u64>) -> anyhow::Error {
    let retry_after = retry_after.map(Duration::from_secs);
    Refused { status, code: code.into(), detail: "x".into(), retry_after }.into()
}

#[tokio::test]
async fn a_service_that_takes_all_and_says_nothing_is_given_up_and_at_fault() {
    let (_listener, client) = silent();
    let mut events = Box::pin(feed(&client, "x", None, patience()));
    let gave_up = loop {
        match events.next().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("it ended well"),
        }
    };
    assert_eq!(fate::of_error(&gave_up), 3, "{gave_up:#}");
    let sent = Sent::new();
    let form = reqwest::multipart::Form::new().text("image", "x");
    let upload = heard(&sent, SHORT, client.upload("/", form, "key")).await.expect_err("no answer");
    let manifest = heard(&sent, SHORT, client.declare(vec![0; 100])).await.expect_err("no answer");
    let blobs = heard(&sent, SHORT, client.send_blobs("x", vec![0; 100].into())).await.expect_err("no answer");
    for error in [upload, manifest, blobs] {
        assert_eq!(fate::of_error(&error), 3, "{error:#}");
        assert!(format!("{error:#}").contains("nothing was heard"), "{error:#}");
    }
}

#[tokio::test]
async fn who_is_still_sent_something_is_not_silent() {
    let sent = Sent::new();
    let slow = async {
        for _ in 0..16 {
            sleep(SHORT / 4).await;
            sent.count(1);
        }
        anyhow::Ok(())
    };
    heard(&sent, 2 * SHORT, slow).await.expect("it went on");
}

#[tokio::test]
async fn what_may_pass_is_tried_again_for_a_while_and_what_stays_is_not() {
    let short = patience();
    let tries = Cell::new(0);
    let told = Cell::new(0);
    let done = again(
        &short,
        |_| told.set(told.get() + 1),
        async || {
            tries.set(tries.get() + 1);
            if tries.get() < 3 { Err(refused(503, "busy", None)) } else { Ok(7) }
        },
    );
    assert_eq!((done.await.expect("at last"), tries.get(), told.get()), (7, 3, 1));
    for (status, code, retry_after) in
        [(400, "x", None), (429, "quota_exceeded", None), (502, "git_unreachable", None), (503, "busy", Some(3600))]
    {
        let tries = Cell::new(0);
        let failed = again(
            &short,
            |_| (),
            async || {
                tries.set(tries.get() + 1);
                anyhow::Result::<()>::Err(refused(status, code, retry_after))
            },
        );
        assert!(failed.await.is_err() && tries.get() == 1, "{status} {code}");
    }
    let (listener, client) = silent();
    drop(listener);
    let began = Instant::now();
    let gone = again(&short, |_| (), async || client.call(reqwest::Method::GET, "/", None).await);
    assert_eq!(fate::of_error(&gone.await.expect_err("nobody is there")), 3);
    assert!(began.elapsed() > SHORT, "it was given a while");
}
