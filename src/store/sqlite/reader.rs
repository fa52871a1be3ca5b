//! Read-only connections, each on a blocking thread of its own, taking work from one channel.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::store::{Result, StoreError};

type Query = Box<dyn FnOnce(&Connection) + Send>;

pub(super) struct Readers {
    // Taken out only while being dropped.
    sender: Option<Sender<Query>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    pub(super) fn start(connections: Vec<Connection>) -> Result<Self> {
        let (sender, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let threads = connections
            .into_iter()
            .map(|connection| {
                let receiver = Arc::clone(&receiver);
                std::thread::Builder::new().name("store-reader".into()).spawn(move || serve(&connection, &receiver))
            })
            .collect::<std::io::Result<_>>()
            .map_err(|e| StoreError::Unavailable(format!("no thread for the store: {e}")))?;
        Ok(Self { sender: Some(sender), threads })
    }

    pub(super) async fn run<T, F>(&self, query: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let closed = || StoreError::Unavailable("the store is closed".into());
        let query: Query = Box::new(move |connection| {
            // A caller that has gone away needs no answer.
            let _ = reply.send(query(connection));
        });
        self.sender.as_ref().ok_or_else(closed)?.send(query).map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

fn serve(connection: &Connection, receiver: &Mutex<Receiver<Query>>) {
    loop {
        let next = receiver.lock().expect("not poisoned, because receiving does not panic").recv();
        let Ok(query) = next else { return };
        // A panic costs its own caller the answer, not all others their reader.
        let _ = catch_unwind(AssertUnwindSafe(|| query(connection)));
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.sender = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
