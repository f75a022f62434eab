//! When the server has to go: SIGTERM and SIGINT.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for the signals that end a server.
#[derive(Debug)]
pub struct Shutdown {
    terminate: Signal,
    interrupt: Signal,
}

/// What ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownCause {
    /// SIGTERM, as Kubernetes sends it.
    Terminate,
    /// SIGINT, as ctrl-C sends it.
    Interrupt,
}

// === impl Shutdown ===

impl Shutdown {
    /// Take over both signals: from now on they no longer end the process by themselves.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Wait for the next signal. Wait once more to notice an impatient second one.
    pub async fn requested(&mut self) -> ShutdownCause {
        tokio::select! {
            _ = self.terminate.recv() => ShutdownCause::Terminate,
            _ = self.interrupt.recv() => ShutdownCause::Interrupt,
        }
    }
}

// === impl ShutdownCause ===

impl ShutdownCause {
    /// Name of the signal.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }
}
