//! One try of a delivery: a POST to the addresses that were looked at and no others, without redirects and without proxies, within
//! bounds of time and size.

use std::error::Error as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use reqwest::{Client, Response, Url, header, redirect};
use secrecy::{ExposeSecret, SecretBox};

use crate::domain::{Attempt, Delivery, Timestamp, limits};
use crate::egress::Egress;

/// For the whole of a try.
const WITHIN: Duration = Duration::from_secs(10);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Most of an error's text that is kept, in characters.
const ERROR_CHARS: usize = 300;

/// How a try went, and how long the receiver asks us to wait.
pub(super) struct Sent {
    pub attempt: Attempt,
    pub retry_after: Option<Duration>,
}

/// Host and port of an address that can be one of a webhook.
pub(super) fn place(url: &Url) -> Option<(&str, u16)> {
    let host = url.host_str().filter(|host| !host.is_empty() && ["http", "https"].contains(&url.scheme()))?;
    Some((host, url.port_or_known_default()?))
}

/// `v1=` and the HMAC-SHA256 of `TIMESTAMP.BODY`, in hexadecimal.
pub(super) fn signature(secret: &[u8], timestamp: i64, body: &str) -> String {
    let mut signed = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    signed.update(format!("{timestamp}.").as_bytes());
    signed.update(body.as_bytes());
    format!("v1={}", hex::encode(signed.sign()))
}

pub(super) async fn send(egress: &Egress, url: &str, secret: &SecretBox<Vec<u8>>, delivery: &Delivery) -> Sent {
    let (at, began) = (Timestamp::now(), Instant::now());
    let answered = tokio::time::timeout(WITHIN, post(egress, url, secret, delivery, at)).await;
    let answered = answered.unwrap_or_else(|_| Err(late()));
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (status, error, answer, retry_after) = match answered {
        Ok(response) => {
            let (status, retry_after) = (response.status(), asked_to_wait(&response, at));
            let more = if status.is_redirection() { ": redirects are not followed" } else { "" };
            let error = (!status.is_success()).then(|| format!("the receiver answered {status}{more}"));
            (Some(status.as_u16()), error, beginning(response, WITHIN.saturating_sub(began.elapsed())).await, retry_after)
        }
        Err(why) => (None, Some(why), String::new(), None),
    };
    Sent { attempt: Attempt { at, duration_ms, status, error, answer }, retry_after }
}

fn late() -> String {
    format!("no answer within {} s", WITHIN.as_secs())
}

async fn post(
    egress: &Egress,
    url: &str,
    secret: &SecretBox<Vec<u8>>,
    delivery: &Delivery,
    at: Timestamp,
) -> Result<Response, String> {
    let url = Url::parse(url).map_err(|_| "the webhook's address cannot be read".to_owned())?;
    let (host, port) = place(&url).ok_or("the webhook's address is none for requests")?;
    let addresses = egress.resolve(host, port).await.map_err(|why| why.to_string())?;
    let client = client(host, &addresses).map_err(told)?;
    let seconds = at.as_millis().div_euclid(1000);
    let mut request = client
        .post(url)
        .header(header::CONTENT_TYPE, "application/json")
        .header("dockwright-event", delivery.event.as_str())
        .header("dockwright-delivery", delivery.id.to_string())
        .header("dockwright-timestamp", seconds.to_string())
        .header("dockwright-signature", signature(secret.expose_secret(), seconds, &delivery.body));
    if let Some(first) = delivery.redelivery_of {
        request = request.header("dockwright-redelivery-of", first.to_string());
    }
    request.body(delivery.body.clone()).send().await.map_err(told)
}

/// Goes to these addresses alone, whatever the name means by now.
fn client(host: &str, addresses: &[SocketAddr]) -> reqwest::Result<Client> {
    Client::builder()
        .user_agent(concat!("dockwright/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(redirect::Policy::none())
        .resolve_to_addrs(host, addresses)
        .connect_timeout(CONNECT_WITHIN)
        .timeout(WITHIN)
        .build()
}

/// With what lies behind it, and without the address.
fn told(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return late();
    }
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text.chars().take(ERROR_CHARS).collect()
}

fn asked_to_wait(response: &Response, now: Timestamp) -> Option<Duration> {
    retry_after(response.headers().get(header::RETRY_AFTER)?.to_str().ok()?, now)
}

/// Seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Timestamp::from_millis(date.as_millisecond()).since(now))
}

/// What the answer's body begins with, as far as it comes in time.
async fn beginning(mut response: Response, within: Duration) -> String {
    let mut bytes = Vec::new();
    let read = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            bytes.extend_from_slice(&chunk[..chunk.len().min(limits::DELIVERY_ANSWER_BYTES - bytes.len())]);
            if bytes.len() == limits::DELIVERY_ANSWER_BYTES {
                return;
            }
        }
    };
    // An answer that does not end counts with what has come of it.
    let _ = tokio::time::timeout(within, read).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_asks_for_time_in_seconds_or_by_a_date() {
        // The example of RFC 9110, 5.6.7.
        let now = Timestamp::from_millis(784_111_777_000 - 90_000);
        for (value, waits) in [("120", Some(120)), (" 0 ", Some(0)), ("Sun, 06 Nov 1994 08:49:37 GMT", Some(90))] {
            assert_eq!(retry_after(value, now).map(|span| span.as_secs()), waits, "{value}");
        }
        let passed = Timestamp::from_millis(784_111_777_000 + 5000);
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", passed), Some(Duration::ZERO));
        for value in ["", "-1", "1.5", "soon"] {
            assert_eq!(retry_after(value, now), None, "{value}");
        }
    }

    #[test]
    fn the_signature_is_that_of_another_implementation() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac whsec_0123456789abcdef
        let ours = signature(b"whsec_0123456789abcdef", 1_700_000_000, r#"{"a":1}"#);
        assert_eq!(ours, "v1=9f5e37cdc7ea587c7c02062d93283cad000d66a831b2a1676418696db47ed6c2");
    }
}
