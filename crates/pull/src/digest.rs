//! What proves that a file is whole, and how it is computed while bytes come.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use crate::PullError;

/// Bytes that are read at a time.
const READ: usize = 1 << 20;

/// What a listing says about the content of a file, in lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Of the content.
    Sha256(String),
    /// Git's name of the content: SHA-1 of a header with the size, and the content.
    GitBlob(String),
    /// Nothing but the size and what the server calls this version.
    Size,
}

/// Digests of the bytes so far.
#[derive(Clone)]
pub(crate) struct Digests {
    sha256: Context,
    /// Only where the proof needs it.
    git: Option<Context>,
}

/// Digests of a whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Digested {
    pub(crate) size: u64,
    pub(crate) sha256: String,
    git: Option<String>,
}

// === impl Proof ===

impl Proof {
    /// How it is called where somebody reads what was proved.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::GitBlob(_) => "git-sha1",
            Self::Size => "size",
        }
    }

    /// # Errors
    /// What was expected and what was found.
    pub(crate) fn check(&self, size: Option<u64>, found: &Digested) -> Result<(), (String, String)> {
        if let Some(size) = size.filter(|size| *size != found.size) {
            return Err((format!("{size} bytes"), format!("{} bytes", found.size)));
        }
        match self {
            Self::Sha256(expected) if *expected != found.sha256 => {
                Err((format!("sha256 {expected}"), format!("sha256 {}", found.sha256)))
            }
            Self::GitBlob(expected) if found.git.as_ref() != Some(expected) => {
                let found = found.git.clone().unwrap_or_default();
                Err((format!("git sha1 {expected}"), format!("git sha1 {found}")))
            }
            _ => Ok(()),
        }
    }
}

// === impl Digests ===

impl Digests {
    /// Of a file that has to show `proof`, and is so large.
    pub(crate) fn new(proof: &Proof, size: Option<u64>) -> Self {
        let git = matches!(proof, Proof::GitBlob(_)).then(|| {
            let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
            context.update(format!("blob {}\0", size.unwrap_or(0)).as_bytes());
            context
        });
        Self { sha256: Context::new(&SHA256), git }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(git) = &mut self.git {
            git.update(bytes);
        }
    }

    pub(crate) fn finish(self, size: u64) -> Digested {
        let hex_of = |context: Context| hex(context.finish().as_ref());
        Digested { size, sha256: hex_of(self.sha256), git: self.git.map(hex_of) }
    }

    /// Add what is in a file, and give how many bytes these are.
    pub(crate) fn update_from(&mut self, path: &Path) -> Result<u64, PullError> {
        let mut file = File::open(path).map_err(PullError::io("read", path))?;
        let mut buffer = vec![0; READ];
        let mut size = 0;
        loop {
            let count = file.read(&mut buffer).map_err(PullError::io("read", path))?;
            if count == 0 {
                return Ok(size);
            }
            self.update(&buffer[..count]);
            size += count as u64;
        }
    }
}

/// SHA-256 of some text.
pub(crate) fn sha256(text: &str) -> String {
    hex(ring::digest::digest(&SHA256, text.as_bytes()).as_ref())
}

/// Lower-case digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Whether it is so many hexadecimal digits.
pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.chars().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `git hash-object` and `sha256sum` give them for "hello\n".
    #[test]
    fn known_digests() {
        let git = Proof::GitBlob("ce013625030ba8dba906f756967f9e9ca394464a".to_owned());
        let mut digests = Digests::new(&git, Some(6));
        digests.update(b"hel");
        digests.update(b"lo\n");
        let found = digests.finish(6);
        assert_eq!(git.check(Some(6), &found), Ok(()));
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(Proof::Sha256(sha256.to_owned()).check(None, &found), Ok(()));
        assert!(Proof::Sha256("0".repeat(64)).check(None, &found).is_err());
        assert!(Proof::GitBlob("0".repeat(40)).check(None, &found).is_err());
        assert_eq!(Proof::Size.check(Some(7), &found), Err(("7 bytes".into(), "6 bytes".into())));
    }
}
