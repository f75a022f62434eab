//! Messages between ranks: a header that says which call it belongs to, then bytes where they lie. Sending and receiving go on
//! at the same time, so that two ranks that send each other more than sockets hold do not wait for each other for ever.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::CommError;
use crate::call::{Call, Kind};

/// Bytes of a header: kind, number, tag, length.
pub(super) const HEADER: usize = 32;
/// How long a rank looks at its sockets before it sleeps on them.
const AWAKE: Duration = Duration::from_micros(100);
/// How long it sleeps at most before it looks whether the group still is one.
const NAP: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// A message on its way to a rank.
pub(super) struct Sending<'a> {
    pub(super) rank: usize,
    header: [u8; HEADER],
    payload: &'a [u8],
    sent: usize,
    /// Where to stop: behind the header, or behind the payload.
    end: usize,
}

/// A message on its way from a rank.
pub(super) struct Receiving<'a> {
    pub(super) rank: usize,
    header: [u8; HEADER],
    /// Where its bytes go, in order.
    payload: Vec<&'a mut [u8]>,
    received: usize,
    length: usize,
    /// The call that its header must be of, until that was seen.
    unchecked: Option<Call>,
    /// Whether its header must say `length`.
    any_length: bool,
}

// === impl Sending ===

impl<'a> Sending<'a> {
    pub(super) fn new(rank: usize, call: Call, payload: &'a [u8]) -> Self {
        let end = HEADER + payload.len();
        Self { rank, header: header(call, payload.len()), payload, sent: 0, end }
    }

    /// The header first; the payload when it is asked for with [`rest`](Self::rest).
    pub(super) fn header(rank: usize, call: Call, payload: &'a [u8]) -> Self {
        Self { end: HEADER, ..Self::new(rank, call, payload) }
    }

    /// The payload, after the header.
    pub(super) fn rest(self) -> Self {
        Self { end: HEADER + self.payload.len(), ..self }
    }

    fn is_done(&self) -> bool {
        self.sent == self.end
    }

    /// Send what the socket takes: whether that is anything.
    fn go_on(&mut self, mut stream: &TcpStream) -> io::Result<bool> {
        let before = self.sent;
        while !self.is_done() {
            let parts = [
                IoSlice::new(&self.header[self.sent.min(HEADER)..]),
                IoSlice::new(&self.payload[self.sent.saturating_sub(HEADER)..self.end - HEADER]),
            ];
            match stream.write_vectored(&parts) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(self.sent > before)
    }
}

// === impl Receiving ===

impl<'a> Receiving<'a> {
    /// A message of `call` whose length is known.
    pub(super) fn new(rank: usize, call: Call, payload: Vec<&'a mut [u8]>) -> Self {
        let length = payload.iter().map(|part| part.len()).sum();
        let unchecked = Some(call);
        Self { rank, header: [0; HEADER], payload, received: 0, length, unchecked, any_length: false }
    }

    /// Its header alone, whatever length that says.
    pub(super) fn header(rank: usize, call: Call) -> Self {
        Self { any_length: true, ..Self::new(rank, call, Vec::new()) }
    }

    /// Its bytes, after its header has been received.
    pub(super) fn rest(rank: usize, call: Call, payload: Vec<&'a mut [u8]>) -> Self {
        Self { received: HEADER, unchecked: None, ..Self::new(rank, call, payload) }
    }

    fn is_done(&self) -> bool {
        self.received == HEADER + self.length
    }

    /// Receive what there is: whether that is anything.
    fn go_on(&mut self, mut stream: &TcpStream) -> io::Result<bool> {
        let before = self.received;
        while !self.is_done() {
            let mut parts = Vec::with_capacity(1 + self.payload.len());
            let mut skip = self.received.saturating_sub(HEADER);
            if self.received < HEADER {
                parts.push(IoSliceMut::new(&mut self.header[self.received..]));
            }
            for part in &mut self.payload {
                let skipped = skip.min(part.len());
                skip -= skipped;
                if skipped < part.len() {
                    parts.push(IoSliceMut::new(&mut part[skipped..]));
                }
            }
            match stream.read_vectored(&mut parts) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => self.received += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(self.received > before)
    }

    /// How many bytes its header says that the message has.
    pub(super) fn announced(&self) -> usize {
        self.word(24) as usize
    }

    fn word(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.header[at..at + 8]);
        u64::from_le_bytes(bytes)
    }

    /// As soon as the header is there: an error unless the message is the one that is expected. A shorter one would be waited
    /// for for ever, and a longer one would be taken for several.
    fn check(&mut self) -> Result<(), CommError> {
        let Some(call) = self.unchecked.take_if(|_| self.received >= HEADER) else { return Ok(()) };
        let Some(kind) = Kind::ALL.into_iter().find(|kind| *kind as u64 == self.word(0)) else {
            return Err(CommError::Tensor(format!("rank {} sends what is no message", self.rank)));
        };
        let theirs = Call { kind, number: self.word(8), tag: self.word(16) };
        if theirs != call {
            return Err(CommError::diverged(self.rank, theirs, call));
        }
        if !self.any_length && self.announced() != self.length {
            let (rank, length) = (self.rank, self.announced());
            let problem = format!("rank {rank} sends {length} bytes where {} belong", self.length);
            return Err(CommError::Tensor(problem));
        }
        Ok(())
    }
}

fn header(call: Call, length: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let words = [call.kind as u64, call.number, call.tag, length as u64];
    for (place, word) in header.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    header
}

/// Send and receive everything, in any order. Streams do not block. `check` is asked now and then whether to go on.
///
/// # Errors
/// The rank whose connection failed, and how; or what `check` says.
pub(super) fn exchange<'s>(
    stream_of: impl Fn(usize) -> Option<&'s TcpStream>,
    sending: &mut [Sending<'_>],
    receiving: &mut [Receiving<'_>],
    check: impl Fn() -> Result<(), CommError>,
) -> Result<(), Failed> {
    let mut idle_since = None;
    loop {
        let mut progress = false;
        let mut done = true;
        for message in sending.iter_mut().filter(|message| !message.is_done()) {
            let stream = stream_of(message.rank).ok_or(Failed::Gone(message.rank, None))?;
            progress |= message.go_on(stream).map_err(|e| Failed::Gone(message.rank, Some(e)))?;
            done &= message.is_done();
        }
        for message in receiving.iter_mut().filter(|message| !message.is_done()) {
            let stream = stream_of(message.rank).ok_or(Failed::Gone(message.rank, None))?;
            let outcome = message.go_on(stream);
            message.check().map_err(Failed::Broken)?;
            progress |= outcome.map_err(|e| Failed::Gone(message.rank, Some(e)))?;
            done &= message.is_done();
        }
        if done {
            return Ok(());
        }
        if progress {
            idle_since = None;
            continue;
        }
        let now = Instant::now();
        if now - *idle_since.get_or_insert(now) < AWAKE {
            std::hint::spin_loop();
            continue;
        }
        check().map_err(Failed::Broken)?;
        sleep(&stream_of, sending, receiving);
        idle_since = None;
    }
}

/// Why an exchange was not finished.
pub(super) enum Failed {
    /// The connection with a rank.
    Gone(usize, Option<io::Error>),
    /// The group.
    Broken(CommError),
}

/// Until a socket has something, or it is time to look again.
fn sleep<'s>(
    stream_of: &impl Fn(usize) -> Option<&'s TcpStream>,
    sending: &[Sending<'_>],
    receiving: &[Receiving<'_>],
) {
    let sends = sending.iter().filter(|m| !m.is_done()).map(|m| (m.rank, PollFlags::OUT));
    let receives = receiving.iter().filter(|m| !m.is_done()).map(|m| (m.rank, PollFlags::IN));
    let mut fds: Vec<_> = sends
        .chain(receives)
        .filter_map(|(rank, flags)| Some(PollFd::new(stream_of(rank)?, flags)))
        .collect();
    // A signal ends the wait early, which does no harm.
    let _ = poll(&mut fds, Some(&NAP));
}
