//! Whether the other ranks are alive: each tells each, several times within the silence that is allowed. A rank that was
//! killed closes its connections, one that was stopped or cut off falls silent; either breaks the group at once on all ranks.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::CommError;

/// Signs of life within the silence that is allowed.
const BEATS: u32 = 5;
/// The longest nap, so that a rank that is leaving is gone soon.
const NAP: Duration = Duration::from_millis(200);
const BEAT: u8 = b'.';
const LEAVE: u8 = b'!';
const ASK: u8 = b'?';
const MOST_REASON: usize = 4096;

/// Whether there still is a group, and the connections that say so.
#[derive(Debug)]
pub(super) struct Health {
    rank: usize,
    pulse: Vec<Option<TcpStream>>,
    /// Closed when the group breaks, so that whoever waits for data hears of it.
    data: Vec<Option<TcpStream>>,
    is_broken: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Why the group is broken.
    reason: Option<String>,
    /// The rank that has asked for the end.
    asked: Option<usize>,
}

/// What may become of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupEnd {
    /// It is broken, for this reason.
    Broken(String),
    /// A rank was told to end, and asks the first one to finish what it has and to end the group.
    Asked {
        /// That rank.
        rank: usize,
    },
}

impl fmt::Display for GroupEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(reason) => CommError::Broken(reason.clone()).fmt(f),
            Self::Asked { rank } => write!(f, "rank {rank} was told to end"),
        }
    }
}

/// What was heard of one rank.
struct Heard {
    last: Instant,
    waiting: Vec<u8>,
}

// === impl Health ===

impl Health {
    pub(super) fn new(rank: usize, pulse: Vec<Option<TcpStream>>, data: Vec<Option<TcpStream>>) -> Self {
        Self {
            rank,
            pulse,
            data,
            is_broken: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// The connection for data with a rank.
    pub(super) fn data(&self, rank: usize) -> Option<&TcpStream> {
        self.data.get(rank)?.as_ref()
    }

    /// Why the group is broken, if it is.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.is_broken.load(Ordering::Acquire) { Err(self.wait()) } else { Ok(()) }
    }

    /// Wait until the group is broken, and hear why.
    pub(super) fn wait(&self) -> String {
        self.wait_while(|state| state.reason.is_none()).reason.clone().unwrap_or_default()
    }

    /// Wait until the group is broken or a rank asks for its end; that is told once.
    pub(super) fn wait_for_end(&self) -> GroupEnd {
        let mut state = self.wait_while(|state| state.reason.is_none() && state.asked.is_none());
        match state.asked.take() {
            Some(rank) => GroupEnd::Asked { rank },
            None => GroupEnd::Broken(state.reason.clone().unwrap_or_default()),
        }
    }

    fn wait_while(&self, condition: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let waited = self.changed.wait_while(self.lock(), |state| condition(state));
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`wait`](Self::wait), but not for longer than `patience`.
    pub(super) fn wait_for(&self, patience: Duration) -> Option<String> {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, patience, |state| state.reason.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.reason.clone()
    }

    /// Ask the first rank to end the group once it has finished what it has.
    pub(super) fn ask_to_end(&self) {
        if let Some(mut first) = self.pulse.first().and_then(Option::as_ref) {
            // Where it can not be reached, the group is about to break.
            let _ = first.write(&[ASK]);
        }
    }

    /// Break the group and tell the others. The first reason is the one that counts.
    pub(super) fn leave(&self, why: &str) {
        {
            let mut state = self.lock();
            if state.reason.is_some() {
                return;
            }
            state.reason = Some(why.to_owned());
            self.is_broken.store(true, Ordering::Release);
        }
        let text = &why.as_bytes()[..why.len().min(MOST_REASON)];
        let message = [&[LEAVE][..], &(text.len() as u16).to_le_bytes(), text].concat();
        for mut stream in self.pulse.iter().flatten() {
            // Who does not hear it, hears that this rank is gone.
            let _ = stream.write_all(&message);
        }
        for stream in self.data.iter().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.changed.notify_all();
    }

    /// This rank has ended: tell the others, and stop looking after them.
    pub(super) fn end(&self) {
        self.leave(&format!("rank {} has ended", self.rank));
        for stream in self.pulse.iter().flatten() {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    fn asked_by(&self, rank: usize) {
        self.lock().asked = Some(rank);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Give signs of life and look for those of the others until the group is broken. A rank may be silent for as long as `silence`.
pub(super) fn watch(health: &Arc<Health>, silence: Duration) {
    let interval = silence / BEATS;
    let now = Instant::now();
    let mut heard: Vec<Heard> =
        health.pulse.iter().map(|_| Heard { last: now, waiting: Vec::new() }).collect();
    let (mut last_beat, mut last_look) = (None, now);
    while health.check().is_ok() {
        let now = Instant::now();
        if now - last_look > silence / 2 {
            // This process itself has been stopped, or the machine has slept: that says nothing about the others.
            heard.iter_mut().for_each(|heard| heard.last = now);
        }
        last_look = now;
        let is_time = last_beat.is_none_or(|last| now - last >= interval);
        for (rank, (stream, heard)) in health.pulse.iter().zip(&mut heard).enumerate() {
            let Some(stream) = stream else { continue };
            match look_after(rank, stream, heard, is_time, silence) {
                Ok(false) => {}
                Ok(true) => health.asked_by(rank),
                Err(why) => return health.leave(&why),
            }
        }
        if is_time {
            last_beat = Some(now);
        }
        nap(health, NAP.min(interval));
    }
}

/// Read what a rank said, and say that this one is alive. Gives whether it asks for the end; the error is why the group is broken.
fn look_after(
    rank: usize,
    mut stream: &TcpStream,
    heard: &mut Heard,
    is_time: bool,
    silence: Duration,
) -> Result<bool, String> {
    let closed = || format!("rank {rank} is gone: its connection was closed");
    let lost = |error: &io::Error| match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => closed(),
        _ => format!("rank {rank} is gone: {error}"),
    };
    let (mut buffer, mut asks) = ([0; 4096], false);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(closed()),
            Ok(bytes) => {
                heard.last = Instant::now();
                asks |= heard.take(&buffer[..bytes])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(lost(&error)),
        }
    }
    if heard.last.elapsed() > silence {
        return Err(format!(
            "rank {rank} has given no sign of life for {:.1} s: it was stopped, or cut off",
            heard.last.elapsed().as_secs_f64()
        ));
    }
    if is_time {
        match stream.write(&[BEAT]) {
            // A full socket is one that nobody reads; silence will tell.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(lost(&error)),
            _ => {}
        }
    }
    Ok(asks)
}

// === impl Heard ===

impl Heard {
    /// Understand what was received: whether the rank asks for the end. The error is the reason with which it has left.
    fn take(&mut self, bytes: &[u8]) -> Result<bool, String> {
        self.waiting.extend_from_slice(bytes);
        let short = self.waiting.iter().take_while(|byte| [BEAT, ASK].contains(byte)).count();
        let asks = self.waiting.drain(..short).any(|byte| byte == ASK);
        match self.waiting.as_slice() {
            [] | [LEAVE] | [LEAVE, _] => Ok(asks),
            [LEAVE, low, high, text @ ..] => {
                let length = usize::from(u16::from_le_bytes([*low, *high]));
                match text.get(..length) {
                    Some(text) => Err(String::from_utf8_lossy(text).into_owned()),
                    None => Ok(asks),
                }
            }
            _ => Err("a rank says what no rank says".to_owned()),
        }
    }
}

/// Sleep until a rank says something, or for as long as `nap`.
fn nap(health: &Health, nap: Duration) {
    let mut fds: Vec<_> =
        health.pulse.iter().flatten().map(|stream| PollFd::new(stream, PollFlags::IN)).collect();
    let nap = Timespec { tv_sec: nap.as_secs() as i64, tv_nsec: i64::from(nap.subsec_nanos()) };
    // A signal ends the nap early, which does no harm.
    let _ = poll(&mut fds, Some(&nap));
}
