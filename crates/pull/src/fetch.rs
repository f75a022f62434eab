//! One file: from where an earlier run stopped to the last byte, verified, or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use reqwest::StatusCode;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, ETAG, HeaderValue, IF_RANGE, RANGE};
use tokio::io::{AsyncWriteExt as _, BufWriter};

use crate::bucket::only_this_version;
use crate::digest::{Digested, Digests};
use crate::http::{Failure, Http, passing, shown};
use crate::remote::{Remote, RemoteFile};
use crate::{Event, Progress, PullError};

/// Bytes that wait to be written, for each connection.
const BUFFER: usize = 1 << 20;

/// What fetching a file takes.
pub(crate) struct Fetcher<'a> {
    pub(crate) http: &'a Http,
    pub(crate) remote: &'a Remote,
    pub(crate) source: &'a str,
    pub(crate) revision: &'a str,
    /// Folder of what is not whole yet.
    pub(crate) staging: &'a Path,
    pub(crate) progress: &'a dyn Progress,
}

/// A file that grows.
struct Partial {
    path: PathBuf,
    file: BufWriter<tokio::fs::File>,
    /// Bytes that it has.
    at: u64,
    digests: Digests,
}

/// Where a file is while it is fetched. The id is in the name, so that bytes of another version are never continued.
pub(crate) fn partial_path(staging: &Path, file: &RemoteFile) -> PathBuf {
    staging.join(format!("{}.partial", staged_name(file)))
}

/// Where it waits, verified, for the others.
pub(crate) fn whole_path(staging: &Path, file: &RemoteFile) -> PathBuf {
    staging.join(format!("{}.whole", staged_name(file)))
}

fn staged_name(file: &RemoteFile) -> String {
    let name = file.path.as_str().rsplit('/').next().unwrap_or_default();
    format!("{name}.{}", file.id())
}

// === impl Fetcher ===

impl Fetcher<'_> {
    /// Fetch a file, twice if it comes broken.
    pub(crate) async fn fetch(&self, file: &RemoteFile) -> Result<Digested, PullError> {
        let path = file.path.as_str();
        let partial_path = partial_path(self.staging, file);
        let mut was_broken = false;
        loop {
            let found = self.complete(file, &partial_path).await?;
            let Err((expected, found)) = file.proof.check(file.size, &found) else {
                let whole = whole_path(self.staging, file);
                fs::rename(&partial_path, &whole).map_err(PullError::io("rename", &partial_path))?;
                self.progress.event(Event::Verified { path, by: file.proof.name() });
                return Ok(found);
            };
            let size = fs::metadata(&partial_path).map_or(0, |metadata| metadata.len());
            fs::remove_file(&partial_path).map_err(PullError::io("remove", &partial_path))?;
            if was_broken {
                let (source_name, path) = (self.source.to_owned(), path.to_owned());
                return Err(PullError::Mismatch { source_name, path, expected, found });
            }
            was_broken = true;
            let reason = format!("it is broken: expected {expected}, found {found}");
            self.progress.event(Event::Lost { path, bytes: size, reason: &reason });
        }
    }

    /// All bytes of a file, on disk.
    async fn complete(&self, file: &RemoteFile, path: &Path) -> Result<Digested, PullError> {
        let mut partial = Partial::open(path, file).await?;
        self.progress.event(Event::Begun { path: file.path.as_str(), from: partial.at });
        let mut etag = None;
        let mut failures = 0;
        while file.size.is_none_or(|size| partial.at < size) || file.size == Some(0) {
            let before = partial.at;
            let outcome = self.stream(file, &mut partial, &mut etag).await;
            partial.flush().await?;
            let Err(failure) = outcome else { break };
            failures = if partial.at > before { 1 } else { failures + 1 };
            let url = self.remote.ask(self.revision, file).url;
            self.http.wait(&url, failure, failures, self.progress).await?;
        }
        partial.finish().await
    }

    /// Append what one answer gives.
    async fn stream(
        &self,
        file: &RemoteFile,
        partial: &mut Partial,
        etag: &mut Option<HeaderValue>,
    ) -> Result<(), Failure> {
        let path = file.path.as_str();
        let mut ask = self.remote.ask(self.revision, file);
        only_this_version(&mut ask, file.etag.as_deref());
        ask.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(range) =
            HeaderValue::from_str(&format!("bytes={}-", partial.at)).ok().filter(|_| partial.at > 0)
        {
            ask.headers.insert(RANGE, range);
            ask.headers.extend(etag.clone().map(|etag| (IF_RANGE, etag)));
        }
        let mut response = self.http.send(&ask).await?;
        let lost = |bytes, reason| self.progress.event(Event::Lost { path, bytes, reason });
        match response.status() {
            StatusCode::PRECONDITION_FAILED => {
                let (source_name, path) = (self.source.to_owned(), path.to_owned());
                return Err(PullError::Changed { source_name, path }.into());
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                lost(partial.at, "the server has fewer bytes than were fetched");
                partial.restart(file).await?;
                return Err(Failure::Passing {
                    reason: "the file has another size now".to_owned(),
                    after: None,
                });
            }
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
                let first =
                    range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok());
                if first != Some(partial.at) {
                    let reason = format!("bytes from {first:?} on, asked for those from {}", partial.at);
                    return Err(PullError::Malformed { url: shown(&ask.url), reason }.into());
                }
            }
            _ if partial.at > 0 => {
                lost(partial.at, "the server sends it from the beginning");
                partial.restart(file).await?;
            }
            _ => {}
        }
        let strong = response.headers().get(ETAG).filter(|etag| etag.as_bytes().starts_with(b"\""));
        *etag = strong.cloned();
        while let Some(chunk) = response.chunk().await.map_err(|error| passing(&error))? {
            partial.append(&chunk).await?;
            self.progress.event(Event::Bytes(chunk.len() as u64));
            if file.size.is_some_and(|size| partial.at > size) {
                break;
            }
        }
        if file.size.is_some_and(|size| partial.at < size) {
            let reason = "the server closed the connection before the end".to_owned();
            return Err(Failure::Passing { reason, after: None });
        }
        Ok(())
    }
}

// === impl Partial ===

impl Partial {
    /// Go on with what an earlier run left, if it can be the beginning of the file.
    async fn open(path: &Path, file: &RemoteFile) -> Result<Self, PullError> {
        let there = fs::metadata(path).map_or(0, |metadata| metadata.len());
        let is_beginning = there > 0 && file.size.is_none_or(|size| there <= size);
        let mut digests = Digests::new(&file.proof, file.size);
        let mut at = 0;
        if is_beginning {
            let path = path.to_owned();
            let hash = move || digests.update_from(&path).map(|at| (digests, at));
            (digests, at) = hashed(hash).await?;
        }
        let mut options = tokio::fs::OpenOptions::new();
        options.create(true).append(true);
        let opened = options.open(path).await.map_err(PullError::io("open", path))?;
        if !is_beginning {
            opened.set_len(0).await.map_err(PullError::io("write", path))?;
        }
        Ok(Self { path: path.to_owned(), file: BufWriter::with_capacity(BUFFER, opened), at, digests })
    }

    async fn append(&mut self, bytes: &[u8]) -> Result<(), PullError> {
        self.file.write_all(bytes).await.map_err(PullError::io("write", &self.path))?;
        self.digests.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), PullError> {
        self.file.flush().await.map_err(PullError::io("write", &self.path))
    }

    async fn restart(&mut self, file: &RemoteFile) -> Result<(), PullError> {
        self.flush().await?;
        self.file.get_ref().set_len(0).await.map_err(PullError::io("write", &self.path))?;
        self.digests = Digests::new(&file.proof, file.size);
        self.at = 0;
        Ok(())
    }

    /// Make it last, and say what it is.
    async fn finish(mut self) -> Result<Digested, PullError> {
        self.flush().await?;
        self.file.get_ref().sync_all().await.map_err(PullError::io("write", &self.path))?;
        Ok(self.digests.finish(self.at))
    }
}

/// Work that takes its time, on a thread that may.
pub(crate) async fn hashed<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PullError> + Send + 'static,
) -> Result<T, PullError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => {
            let source = std::io::Error::other(error);
            Err(PullError::Io { action: "hash", path: PathBuf::new(), source })
        }
    }
}
