//! Takes connections in the background and hands on those that have introduced themselves.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use super::GroupSecret;
use super::hello::{Hello, welcome};

/// Between two looks at the door.
const LOOK: Duration = Duration::from_millis(5);
/// Connections that may introduce themselves at the same time; one more is closed.
const MOST_GUESTS: usize = 256;

/// A connection that has introduced itself.
pub(super) struct Guest {
    pub(super) stream: TcpStream,
    pub(super) address: SocketAddr,
    pub(super) hello: Hello,
}

/// A door that is open until this is dropped.
pub(super) struct Accepting {
    guests: Receiver<Guest>,
    closed: Arc<AtomicBool>,
}

// === impl Accepting ===

impl Accepting {
    pub(super) fn start(listener: TcpListener, secret: GroupSecret) -> Self {
        let (sender, guests) = sync_channel(MOST_GUESTS);
        let closed = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&closed);
        // Without a thread nobody comes, which whoever waits for them will say.
        let _ = thread::Builder::new()
            .name("accept-ranks".to_owned())
            .spawn(move || accept(&listener, &secret, &sender, &watched));
        Self { guests, closed }
    }

    /// The next one, if it comes within `patience`.
    pub(super) fn next(&self, patience: Duration) -> Option<Guest> {
        self.guests.recv_timeout(patience).ok()
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

fn accept(listener: &TcpListener, secret: &GroupSecret, guests: &SyncSender<Guest>, closed: &AtomicBool) {
    if listener.set_nonblocking(true).is_err() {
        return;
    }
    let inside = Arc::new(AtomicUsize::new(0));
    while !closed.load(Ordering::Relaxed) {
        let Ok((stream, address)) = listener.accept() else {
            thread::sleep(LOOK);
            continue;
        };
        if stream.set_nonblocking(false).is_err() || inside.load(Ordering::Relaxed) >= MOST_GUESTS {
            continue;
        }
        inside.fetch_add(1, Ordering::Relaxed);
        let (secret, guests, left) = (secret.clone(), guests.clone(), Arc::clone(&inside));
        // A slow one must not keep the others waiting.
        let spawned = thread::Builder::new().name("greet-rank".to_owned()).spawn(move || {
            match welcome(&stream, &secret) {
                // Nobody waits for guests any more when the door is being closed.
                Ok(hello) => drop(guests.send(Guest { stream, address, hello })),
                Err(error) => {
                    tracing::warn!(from = %address, %error, "a connection to this rank was refused")
                }
            }
            left.fetch_sub(1, Ordering::Relaxed);
        });
        if spawned.is_err() {
            inside.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
