//! Clients that send slowly or not at all: others are served beside them, and they are sent away.

use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::times;
use crate::support::service::{self, Backend, Running, dockerfile};

/// The time for headers is 10 s; some more for a machine under load.
const SENT_AWAY: Duration = Duration::from_secs(20);

/// What a slow client has sent when it falls silent.
#[derive(Clone, Copy)]
enum Sends {
    Nothing,
    HalfAHead,
    /// One byte of its head each second: never silent, never done.
    Drip,
}

/// Connects and dawdles until it is sent away; how long that took.
async fn dawdle(service: &Running, sends: Sends) -> Duration {
    let began = Instant::now();
    let mut socket = TcpStream::connect(service.address).await.expect("is accepted");
    let head = b"POST /api/v1/builds HTTP/1.1\r\nhost: x\r\nx-long: ";
    match sends {
        Sends::Nothing => {}
        Sends::HalfAHead => socket.write_all(head).await.expect("sent"),
        Sends::Drip => socket.write_all(&head[..4]).await.expect("sent"),
    }
    let (mut reads, mut writes) = socket.split();
    let dripping = async {
        if matches!(sends, Sends::Drip) {
            let mut each = tokio::time::interval(Duration::from_secs(1));
            for byte in head[4..].iter().chain(std::iter::repeat(&b'x')) {
                each.tick().await;
                if writes.write_all(&[*byte]).await.is_err() {
                    break;
                }
            }
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    let reading = reads.read_to_end(&mut answer);
    tokio::select! {
        ended = tokio::time::timeout(SENT_AWAY, reading) => { let _ = ended.expect("it is sent away"); }
        () = dripping => {}
    }
    // Closed without a word, or with one that says why.
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn alone_slow_clients_hold_up_nobody() {
    let service = service::start_with(Backend::Sqlite, |s| s.engine = Some("unix:///nowhere.sock".into())).await;
    let kinds = [Sends::Nothing, Sends::HalfAHead, Sends::Drip];
    let slow = join_all((0..times(450, 8000)).map(|n| dawdle(&service, kinds[n % kinds.len()])));
    let others = async {
        let (mut worst, began) = (Duration::ZERO, Instant::now());
        while began.elapsed() < Duration::from_secs(5) {
            let asked = Instant::now();
            let answer = service.post(dockerfile("FROM busybox\n").text("push", "false")).await;
            assert_eq!(answer.status(), 202);
            worst = worst.max(asked.elapsed());
        }
        worst
    };
    let (sent_away, worst) = tokio::join!(slow, others);
    println!("the others waited {worst:?} at most; the slow ones were sent away after {:?}", sent_away.iter().max());
    assert!(worst < Duration::from_secs(1), "the others waited for up to {worst:?}");
}
