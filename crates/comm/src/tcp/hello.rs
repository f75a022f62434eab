//! How two ranks meet on a fresh connection: each proves that it knows the secret of the group, and one says who it is.
//!
//! The side that connects sends magic and a nonce; the other answers with a nonce and a code over both; the first replies with its
//! [`Hello`] and a code over nonces and hello. Codes are HMAC-SHA256, so nobody learns the secret, and what was recorded can not be
//! played back. What follows is not encrypted: a group belongs on a network of its own.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Name and version of what is spoken.
const MAGIC: [u8; 16] = *b"vlinders-ranks-1";
const NONCE: usize = 32;
const CODE: usize = 32;
/// How long one side waits for the other's next word.
const PATIENCE: Duration = Duration::from_secs(5);

/// What all members of a group know and nobody else. Never shown.
#[derive(Clone, Default)]
pub struct GroupSecret(Vec<u8>);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To find the others, through the first rank.
    Join = 1,
    /// Tensors and plans.
    Data = 2,
    /// Signs of life.
    Pulse = 3,
}

/// Who connects, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) purpose: Purpose,
    pub(super) rank: u32,
    pub(super) size: u32,
    /// Where this rank accepts connections.
    pub(super) port: u16,
    /// Names this start of the group; 0 while that is not known.
    pub(super) session: u64,
    /// Names the machine that it runs on.
    pub(super) host: u64,
}

const HELLO: usize = 27;

// === impl GroupSecret ===

impl GroupSecret {
    /// The secret `bytes`. Empty is none: whoever reaches a rank may join its group.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    fn code(&self, side: &[u8], parts: [&[u8]; 3]) -> Hmac<Sha256> {
        // A key of any length will do.
        let mut code = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0)
            .unwrap_or_else(|_| <Hmac<Sha256> as KeyInit>::new(&Default::default()));
        code.update(side);
        parts.iter().for_each(|part| code.update(part));
        code
    }
}

impl fmt::Debug for GroupSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "GroupSecret(none)" } else { "GroupSecret(..)" })
    }
}

// === impl Hello ===

impl Hello {
    fn to_bytes(self) -> [u8; HELLO] {
        let mut bytes = [0; HELLO];
        bytes[0] = self.purpose as u8;
        bytes[1..5].copy_from_slice(&self.rank.to_le_bytes());
        bytes[5..9].copy_from_slice(&self.size.to_le_bytes());
        bytes[9..11].copy_from_slice(&self.port.to_le_bytes());
        bytes[11..19].copy_from_slice(&self.session.to_le_bytes());
        bytes[19..27].copy_from_slice(&self.host.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; HELLO]) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let purpose = match bytes[0] {
            1 => Purpose::Join,
            2 => Purpose::Data,
            3 => Purpose::Pulse,
            _ => return None,
        };
        Some(Self {
            purpose,
            rank: word(1),
            size: word(5),
            port: u16::from_le_bytes([bytes[9], bytes[10]]),
            session: long(11),
            host: long(19),
        })
    }
}

/// Introduce this rank to whoever accepted the connection.
///
/// # Errors
/// The other side is no rank, is of another version, knows another secret, or is gone.
pub(super) fn introduce(stream: &TcpStream, secret: &GroupSecret, hello: Hello) -> io::Result<()> {
    prepare(stream)?;
    let ours: [u8; NONCE] = rand::random();
    let mut stream = stream;
    stream.write_all(&[&MAGIC[..], &ours].concat())?;
    let (magic, theirs) = (receive::<{ MAGIC.len() }>(stream)?, receive::<NONCE>(stream)?);
    if magic != MAGIC {
        return Err(refused("what answers there is no rank of this version"));
    }
    let code = receive::<CODE>(stream)?;
    secret
        .code(b"accept", [&ours, &theirs, &[]])
        .verify_slice(&code)
        .map_err(|_| refused("it knows another group secret"))?;
    let hello = hello.to_bytes();
    let code = secret.code(b"connect", [&theirs, &ours, &hello]).finalize().into_bytes();
    stream.write_all(&[&hello[..], &code].concat())
}

/// Let the one who connected introduce itself.
///
/// # Errors
/// It is no rank, is of another version, knows another secret, or is gone.
pub(super) fn welcome(stream: &TcpStream, secret: &GroupSecret) -> io::Result<Hello> {
    prepare(stream)?;
    let ours: [u8; NONCE] = rand::random();
    let mut stream = stream;
    let magic = receive::<{ MAGIC.len() }>(stream)?;
    if magic != MAGIC {
        return Err(refused("it is no rank of this version"));
    }
    let theirs = receive::<NONCE>(stream)?;
    let code = secret.code(b"accept", [&theirs, &ours, &[]]).finalize().into_bytes();
    stream.write_all(&[&MAGIC[..], &ours, &code].concat())?;
    let (hello, code) = (receive::<HELLO>(stream)?, receive::<CODE>(stream)?);
    secret
        .code(b"connect", [&ours, &theirs, &hello])
        .verify_slice(&code)
        .map_err(|_| refused("it knows another group secret"))?;
    Hello::from_bytes(&hello).ok_or_else(|| refused("it does not say what it wants"))
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

pub(super) fn receive<const N: usize>(mut stream: &TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const HELLO: Hello =
        Hello { purpose: Purpose::Pulse, rank: 3, size: 5, port: 40_000, session: 1 << 63, host: 7 << 40 };

    fn meet(ours: &[u8], theirs: &[u8]) -> (Result<(), String>, Result<Hello, String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let theirs = GroupSecret::new(theirs);
        let other = thread::spawn(move || welcome(&listener.accept().unwrap().0, &theirs));
        let introduced = introduce(&stream, &GroupSecret::new(ours), HELLO).map_err(|e| e.to_string());
        drop(stream);
        (introduced, other.join().unwrap().map_err(|e| e.to_string()))
    }

    #[test]
    fn who_knows_the_secret_is_let_in() {
        assert_eq!(meet(b"leaf", b"leaf"), (Ok(()), Ok(HELLO)));
        assert_eq!(meet(b"", b""), (Ok(()), Ok(HELLO)));
    }

    #[test]
    fn who_does_not_is_not_and_does_not_trust_the_other_either() {
        for (ours, theirs) in [(&b"leaf"[..], &b"root"[..]), (b"", b"root"), (b"leaf", b"")] {
            let (introduced, welcomed) = meet(ours, theirs);
            assert_eq!(introduced.unwrap_err(), "it knows another group secret");
            assert!(welcomed.is_err());
        }
    }

    /// One who answers with what it was sent knows nothing.
    #[test]
    fn a_code_is_good_for_one_side_and_one_meeting() {
        let secret = GroupSecret::new(*b"leaf");
        let code = |side: &[u8], a: &[u8]| secret.code(side, [a, b"nonce", &[]]).finalize().into_bytes();
        assert_ne!(code(b"accept", b"one"), code(b"connect", b"one"));
        assert_ne!(code(b"accept", b"one"), code(b"accept", b"two"));
    }

    #[test]
    fn strangers_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let error = welcome(&listener.accept().unwrap().0, &GroupSecret::default()).unwrap_err();
        assert_eq!(error.to_string(), "it is no rank of this version");
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", GroupSecret::new(*b"leaf")), "GroupSecret(..)");
    }
}
