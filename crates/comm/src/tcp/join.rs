//! How ranks find each other: all go to the first, which tells everyone where the others are; then each two connect.
//!
//! A rank accepts connections from those with higher numbers and goes to those with lower ones, twice each: for data, and for
//! signs of life.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use super::GroupOptions;
use super::accept::{Accepting, Guest};
use super::hello::{Hello, Purpose, introduce, receive};
use super::host::this_host;

/// Between two attempts to reach a rank that does not answer.
const RETRY: Duration = Duration::from_millis(100);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How long ranks that know of each other may take to connect.
const MEETING: Duration = Duration::from_secs(30);
/// Between two words about who is waited for.
const WORD: Duration = Duration::from_secs(10);
/// Longest answer of the first rank.
const MOST_BYTES: u32 = 1 << 20;

/// Why a rank could not join its group.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// There is no such rank.
    #[error("rank {rank} of {size}: ranks count from 0, and a group has at least two")]
    NoSuchRank {
        /// The rank asked for.
        rank: usize,
        /// Ranks in the group.
        size: usize,
    },
    /// The address of the first rank can not be listened on.
    #[error("can not listen on {address} for the other ranks: {source}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The first rank does not answer.
    #[error("rank 0 does not answer at {address} ({source}); is it started, and reachable from here?")]
    NoLeader {
        /// Its address.
        address: String,
        /// What the last attempt came to.
        source: io::Error,
    },
    /// Who answers there is not of this group.
    #[error("rank 0 at {address} can not be joined: {reason}")]
    Refused {
        /// Its address.
        address: String,
        /// Why.
        reason: String,
    },
    /// Some ranks did not come.
    #[error("rank {missing} did not come within {waited:?}; each rank of the group must be started")]
    Missing {
        /// They.
        missing: String,
        /// How long they were waited for.
        waited: Duration,
    },
    /// Two ranks could not connect.
    #[error("rank {rank} can not be reached from this one: {source}")]
    Unreachable {
        /// The other one.
        rank: usize,
        /// What the system said.
        source: io::Error,
    },
}

/// The connections of one rank, by rank; none with itself.
#[derive(Debug)]
pub(super) struct Mesh {
    pub(super) data: Vec<Option<TcpStream>>,
    pub(super) pulse: Vec<Option<TcpStream>>,
    /// The machine of each rank.
    pub(super) hosts: Vec<u64>,
}

/// What the first rank knows once all have come.
struct Roster {
    session: u64,
    /// Where each rank accepts connections, and its machine; the address of the first is the one it is known under.
    members: Vec<(SocketAddr, u64)>,
}

/// Find the other ranks and connect with all of them.
pub(super) fn join(options: &GroupOptions) -> Result<Mesh, JoinError> {
    let GroupOptions { rank, size, .. } = *options;
    if rank >= size || size < 2 {
        return Err(JoinError::NoSuchRank { rank, size });
    }
    let own = Hello {
        purpose: Purpose::Join,
        rank: rank as u32,
        size: size as u32,
        port: 0,
        session: 0,
        host: this_host(),
    };
    if rank == 0 {
        let accepting = Accepting::start(listen(&options.leader)?, options.secret.clone());
        let roster = gather(options, &accepting, own.host)?;
        connect(options, &accepting, own, &roster)
    } else {
        let (accepting, roster) = find(options, own)?;
        connect(options, &accepting, own, &roster)
    }
}

/// Listen where the others will look. In a container the address may be one that only the outside knows.
fn listen(leader: &str) -> Result<TcpListener, JoinError> {
    let failed = |source| JoinError::Listen { address: leader.to_owned(), source };
    let addresses: Vec<SocketAddr> = leader.to_socket_addrs().map_err(failed)?.collect();
    match TcpListener::bind(&addresses[..]) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            let any = addresses.iter().map(|address| match address {
                SocketAddr::V4(_) => SocketAddr::new(IpAddr::from([0; 4]), address.port()),
                SocketAddr::V6(_) => SocketAddr::new(IpAddr::from([0; 16]), address.port()),
            });
            TcpListener::bind(&any.collect::<Vec<_>>()[..]).map_err(failed)
        }
        outcome => outcome.map_err(failed),
    }
}

/// As the first rank: wait until all others have come, and tell each of all.
fn gather(options: &GroupOptions, accepting: &Accepting, host: u64) -> Result<Roster, JoinError> {
    let size = options.size;
    let session = rand::random::<u64>() | 1;
    let began = Instant::now();
    let mut last_word = began;
    let mut guests: Vec<Option<Guest>> = (0..size).map(|_| None).collect();
    let missing = |guests: &[Option<Guest>]| {
        let missing = (1..size).filter(|rank| guests[*rank].is_none());
        missing.map(|rank| rank.to_string()).collect::<Vec<_>>().join(", ")
    };
    while guests[1..].iter().any(Option::is_none) {
        if began.elapsed() > options.join_timeout {
            return Err(JoinError::Missing { missing: missing(&guests), waited: options.join_timeout });
        }
        if last_word.elapsed() > WORD {
            last_word = Instant::now();
            tracing::info!(missing = missing(&guests), "waiting for the other ranks of the model");
        }
        let Some(guest) = accepting.next(RETRY) else { continue };
        let Hello { purpose, rank, size: theirs, .. } = guest.hello;
        let reason = if purpose != Purpose::Join {
            "this rank 0 was started anew; start all ranks again".to_owned()
        } else if theirs as usize != size {
            format!("it was started with {size} ranks, this one with {theirs}")
        } else if rank == 0 || rank as usize >= size {
            format!("there is no other rank {rank} in a group of {size}")
        } else {
            // Whoever was there before has been started again since.
            guests[rank as usize] = Some(guest);
            continue;
        };
        tracing::warn!(from = %guest.address, reason, "a rank was not let in");
        answer(&guest.stream, 1, &reason);
    }
    let nobody = SocketAddr::new(IpAddr::from([0; 4]), 0);
    let member = |guest: &Option<Guest>| match guest {
        Some(guest) => (SocketAddr::new(guest.address.ip(), guest.hello.port), guest.hello.host),
        None => (nobody, host),
    };
    let roster = Roster { session, members: guests.iter().map(member).collect() };
    let text = roster.to_text();
    for guest in guests.iter().flatten() {
        answer(&guest.stream, 0, &text);
    }
    Ok(roster)
}

fn answer(mut stream: &TcpStream, status: u8, text: &str) {
    let length = (text.len() as u32).to_le_bytes();
    // Who does not hear it, will not connect; that is noticed then.
    let _ = stream.write_all(&[&[status][..], &length, text.as_bytes()].concat());
}

/// As another rank: go to the first, say where this one is, and hear where all are.
fn find(options: &GroupOptions, own: Hello) -> Result<(Accepting, Roster), JoinError> {
    let address = &options.leader;
    let deadline = Instant::now() + options.join_timeout;
    let mut last_word = Instant::now();
    loop {
        let source = match try_find(options, own, deadline) {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(reason)) => return Err(JoinError::Refused { address: address.clone(), reason }),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(JoinError::Refused { address: address.clone(), reason: error.to_string() });
            }
            Err(error) => error,
        };
        if Instant::now() > deadline {
            return Err(JoinError::NoLeader { address: address.clone(), source });
        }
        if last_word.elapsed() > WORD {
            last_word = Instant::now();
            tracing::info!(address, error = %source, "waiting for rank 0 of the model");
        }
        thread::sleep(RETRY);
    }
}

/// One attempt; the inner error is an answer of the first rank.
fn try_find(
    options: &GroupOptions,
    own: Hello,
    deadline: Instant,
) -> io::Result<Result<(Accepting, Roster), String>> {
    let stream = dial(&options.leader)?;
    // The others are let in where this rank reaches the first, and nowhere else.
    let listener = TcpListener::bind((stream.local_addr()?.ip(), 0))?;
    let port = listener.local_addr()?.port();
    let accepting = Accepting::start(listener, options.secret.clone());
    introduce(&stream, &options.secret, Hello { port, ..own })?;
    let left = deadline.saturating_duration_since(Instant::now()).max(RETRY);
    stream.set_read_timeout(Some(left))?;
    let [status] = receive::<1>(&stream)?;
    let length = u32::from_le_bytes(receive::<4>(&stream)?).min(MOST_BYTES);
    let mut text = String::new();
    (&stream).take(u64::from(length)).read_to_string(&mut text)?;
    if status != 0 {
        return Ok(Err(text));
    }
    let roster = Roster::from_text(&text, stream.peer_addr()?);
    Ok(roster
        .filter(|roster| roster.members.len() == options.size)
        .map_or_else(|| Err("its answer makes no sense".to_owned()), |roster| Ok((accepting, roster))))
}

fn dial(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, ATTEMPT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Connect with every other rank.
fn connect(
    options: &GroupOptions,
    accepting: &Accepting,
    own: Hello,
    roster: &Roster,
) -> Result<Mesh, JoinError> {
    let GroupOptions { rank, size, .. } = *options;
    let none = || (0..size).map(|_| None).collect::<Vec<Option<TcpStream>>>();
    let (mut data, mut pulse) = (none(), none());
    for other in 0..rank {
        let open = |purpose| -> io::Result<TcpStream> {
            let stream = TcpStream::connect_timeout(&roster.members[other].0, ATTEMPT)?;
            introduce(&stream, &options.secret, Hello { purpose, session: roster.session, ..own })?;
            ready(stream)
        };
        let unreachable = |source| JoinError::Unreachable { rank: other, source };
        data[other] = Some(open(Purpose::Data).map_err(unreachable)?);
        pulse[other] = Some(open(Purpose::Pulse).map_err(unreachable)?);
    }
    let began = Instant::now();
    while (rank + 1..size).any(|other| data[other].is_none() || pulse[other].is_none()) {
        if began.elapsed() > MEETING {
            let missing = (rank + 1..size).filter(|other| data[*other].is_none() || pulse[*other].is_none());
            let missing = missing.map(|rank| rank.to_string()).collect::<Vec<_>>().join(", ");
            return Err(JoinError::Missing { missing, waited: MEETING });
        }
        let Some(guest) = accepting.next(RETRY) else { continue };
        let other = guest.hello.rank as usize;
        let places = match guest.hello.purpose {
            Purpose::Data => &mut data,
            Purpose::Pulse => &mut pulse,
            Purpose::Join => {
                answer(&guest.stream, 1, "the group is complete; start all ranks again");
                continue;
            }
        };
        let is_expected = guest.hello.session == roster.session && other > rank && other < size;
        if let Some(place) = places.get_mut(other).filter(|_| is_expected) {
            let stream =
                ready(guest.stream).map_err(|source| JoinError::Unreachable { rank: other, source })?;
            *place = Some(stream);
        }
    }
    Ok(Mesh { data, pulse, hosts: roster.members.iter().map(|(_, host)| *host).collect() })
}

fn ready(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

// === impl Roster ===

impl Roster {
    fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.session);
        for (address, host) in &self.members {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{address} {host}");
        }
        text
    }

    /// The roster of a text; `leader` is where the first rank was reached.
    fn from_text(text: &str, leader: SocketAddr) -> Option<Self> {
        let mut lines = text.lines();
        let session = lines.next()?.parse().ok()?;
        let member = |line: &str| {
            let (address, host) = line.split_once(' ')?;
            Some((address.parse().ok()?, host.parse().ok()?))
        };
        let mut members: Vec<_> = lines.map(member).collect::<Option<_>>()?;
        members.first_mut()?.0 = leader;
        Some(Self { session, members })
    }
}
