//! A model's folder from beginning to end: what is there, what is missing, and the moment when all of it becomes visible.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::ClientBuilder;

use crate::digest::{Digested, Digests, Proof};
use crate::fetch::{Fetcher, hashed, partial_path, whole_path};
use crate::http::Http;
use crate::lock::Lock;
use crate::path::{OWN, RelativePath};
use crate::record::{Record, RecordedFile};
use crate::remote::{Listing, Remote, RemoteFile};
use crate::selection::Selection;
use crate::{Event, Progress, PullError, PullOptions, Source, space};

/// Names that a message lists at most.
const SHOWN: usize = 8;

/// Fetches models.
#[derive(Debug)]
pub struct Puller {
    http: Http,
    options: PullOptions,
}

/// Where a model goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its folder, or that of its file.
    pub folder: PathBuf,
    /// The GGUF file, if it is one and not a folder.
    pub gguf: Option<String>,
}

/// What is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The exact version.
    pub revision: String,
    /// Files of the model.
    pub files: usize,
    /// Bytes of these.
    pub bytes: u64,
    /// Files that were not there before.
    pub fetched: usize,
    /// Files of an earlier version that are no more.
    pub removed: usize,
}

/// A file of the listing, and what is known of it here.
enum State {
    /// At its place.
    Here(RecordedFile),
    /// Verified, not at its place yet.
    Whole(RecordedFile),
    ToFetch,
}

// === impl Puller ===

impl Puller {
    /// The builder says whose certificates are believed.
    ///
    /// # Errors
    /// No client can be made of it.
    pub fn new(builder: ClientBuilder, options: PullOptions) -> Result<Self, PullError> {
        Ok(Self { http: Http::new(builder, options.retry)?, options })
    }

    /// Make the model of `source` be there, whole, or leave what was there before.
    ///
    /// # Errors
    /// Why it can not be had. What was fetched is kept, and the next call goes on with it.
    pub async fn pull(
        &self,
        source: &Source,
        target: &Target,
        progress: &dyn Progress,
    ) -> Result<Report, PullError> {
        fs::create_dir_all(&target.folder).map_err(PullError::io("make", &target.folder))?;
        let _lock = Lock::take(&target.folder, &format!("{OWN}.lock"), progress).await?;
        let options = &self.options;
        let selection = Selection::new(target.gguf.as_deref(), &options.include, &options.exclude);
        let record = Record::read(&target.record());
        if let Some(report) = self.is_done(source, target, &selection, record.as_ref()).await? {
            return Ok(report);
        }
        let remote = Remote::new(source, options)?;
        let listing = remote.list(&self.http, &selection, progress).await?;
        let name = source.to_string();
        if let Some(wanted) = selection.lacks(listing.files.iter().map(|file| &file.path)) {
            return Err(PullError::Nothing { source_name: name, wanted, there: there(&listing) });
        }
        let staging = target.staging();
        fs::create_dir_all(&staging).map_err(PullError::io("make", &staging))?;
        clean(&staging, &listing.files)?;
        let mut states = Vec::new();
        for file in &listing.files {
            states.push(self.state(file, target, record.as_ref()).await?);
        }
        let to_fetch = states.iter().filter(|state| matches!(state, State::ToFetch)).count();
        let bytes = missing(&staging, &listing.files, &states);
        progress.event(Event::Listed { revision: &listing.revision, files: states.len(), to_fetch, bytes });
        space::check(&staging, bytes)?;

        let fetcher = Fetcher {
            http: &self.http,
            remote: &remote,
            source: &name,
            revision: &listing.revision,
            staging: &staging,
            progress,
        };
        let fetched = futures::stream::iter(listing.files.iter().zip(states))
            .map(async |(file, state)| match state {
                State::ToFetch => {
                    if file.proof == Proof::Size {
                        progress.event(Event::Unproven { path: file.path.as_str() });
                    }
                    Ok(State::Whole(recorded(file, &fetcher.fetch(file).await?)))
                }
                state => Ok(state),
            })
            .buffered(options.connections.max(1))
            .try_collect::<Vec<_>>()
            .await?;
        let files: Vec<_> = listing.files.iter().zip(fetched).collect();
        let removed = publish(target, &files, record.as_ref())?;
        let files = files.into_iter().map(|(_, state)| state.into_record()).collect::<Option<Vec<_>>>();
        let record = Record::new(name, listing.revision, selection.line(), files.unwrap_or_default());
        record.write(&target.record())?;
        fs::remove_dir_all(&staging).map_err(PullError::io("remove", &staging))?;
        Ok(record.report(to_fetch, removed))
    }

    /// Whether an earlier run did all of it, so that nobody has to be asked.
    async fn is_done(
        &self,
        source: &Source,
        target: &Target,
        selection: &Selection,
        record: Option<&Record>,
    ) -> Result<Option<Report>, PullError> {
        let Some(record) = record.filter(|record| {
            source.pinned() == Some(&record.revision)
                && record.source == source.to_string()
                && record.selection == selection.line()
                && !target.staging().exists()
        }) else {
            return Ok(None);
        };
        for file in &record.files {
            if !self.is_here(target, file).await? {
                return Ok(None);
            }
        }
        Ok(Some(record.report(0, 0)))
    }

    /// Whether a file is as it was recorded: by its size, or on request by its content.
    async fn is_here(&self, target: &Target, file: &RecordedFile) -> Result<bool, PullError> {
        let path = target.folder.join(&file.path);
        let has_size = fs::metadata(&path).is_ok_and(|there| there.is_file() && there.len() == file.size);
        if !has_size || !self.options.verify {
            return Ok(has_size);
        }
        Ok(digested(&path, &Proof::Size, Some(file.size)).await?.sha256 == file.sha256)
    }

    async fn state(
        &self,
        file: &RemoteFile,
        target: &Target,
        record: Option<&Record>,
    ) -> Result<State, PullError> {
        let id = file.id();
        let known = record.and_then(|record| record.file(file.path.as_str())).filter(|known| known.id == id);
        if let Some(known) = known {
            return Ok(match self.is_here(target, known).await? {
                true => State::Here(known.clone()),
                false => State::ToFetch,
            });
        }
        // A run that was killed while it moved files, or somebody who copied them, leaves files without a record.
        let staged = whole_path(&target.staging(), file);
        let is_staged = staged.is_file();
        let path = if is_staged { staged } else { target.folder.join(file.path.as_str()) };
        let there = fs::metadata(&path).ok().filter(fs::Metadata::is_file).map(|there| there.len());
        let may_be = there.is_some() && (file.size.is_none() || file.size == there);
        // What only has the right size is believed where we put it ourselves.
        if !may_be || (file.proof == Proof::Size && !is_staged) {
            return Ok(State::ToFetch);
        }
        let found = digested(&path, &file.proof, file.size.or(there)).await?;
        Ok(match file.proof.check(file.size, &found) {
            Err(_) => State::ToFetch,
            Ok(()) if is_staged => State::Whole(recorded(file, &found)),
            Ok(()) => State::Here(recorded(file, &found)),
        })
    }
}

// === impl Target ===

impl Target {
    /// Of the files of one folder, each GGUF file is a model of its own.
    fn own(&self, suffix: &str) -> PathBuf {
        let gguf = self.gguf.as_deref().map(|gguf| format!(".{gguf}")).unwrap_or_default();
        self.folder.join(format!("{OWN}{gguf}{suffix}"))
    }

    fn record(&self) -> PathBuf {
        self.own(".json")
    }

    fn staging(&self) -> PathBuf {
        self.own(".files")
    }
}

// === impl State ===

impl State {
    fn into_record(self) -> Option<RecordedFile> {
        match self {
            Self::Here(file) | Self::Whole(file) => Some(file),
            Self::ToFetch => None,
        }
    }
}

// === impl Record ===

impl Record {
    fn report(&self, fetched: usize, removed: usize) -> Report {
        let bytes = self.files.iter().map(|file| file.size).sum();
        Report { revision: self.revision.clone(), files: self.files.len(), bytes, fetched, removed }
    }
}

fn recorded(file: &RemoteFile, found: &Digested) -> RecordedFile {
    RecordedFile {
        path: file.path.as_str().to_owned(),
        size: found.size,
        sha256: found.sha256.clone(),
        verified_by: file.proof.name().to_owned(),
        id: file.id(),
    }
}

async fn digested(path: &Path, proof: &Proof, size: Option<u64>) -> Result<Digested, PullError> {
    let path = path.to_owned();
    let mut digests = Digests::new(proof, size);
    hashed(move || digests.update_from(&path).map(|size| digests.finish(size))).await
}

/// Bytes that are still to come.
fn missing(staging: &Path, files: &[RemoteFile], states: &[State]) -> u64 {
    let to_fetch = files.iter().zip(states).filter(|(_, state)| matches!(state, State::ToFetch));
    let bytes = to_fetch.map(|(file, _)| {
        let there = fs::metadata(partial_path(staging, file)).map_or(0, |there| there.len());
        file.size.unwrap_or(0).saturating_sub(there)
    });
    bytes.sum()
}

/// Remove what was begun of another version.
fn clean(staging: &Path, files: &[RemoteFile]) -> Result<(), PullError> {
    let wanted: BTreeSet<_> =
        files.iter().flat_map(|file| [partial_path(staging, file), whole_path(staging, file)]).collect();
    for entry in fs::read_dir(staging).map_err(PullError::io("read", staging))? {
        let path = entry.map_err(PullError::io("read", staging))?.path();
        if !wanted.contains(&path) {
            fs::remove_file(&path).map_err(PullError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Move all files to their places, and remove those of an earlier version. Gives the number of the latter.
fn publish(
    target: &Target,
    files: &[(&RemoteFile, State)],
    record: Option<&Record>,
) -> Result<usize, PullError> {
    let staging = target.staging();
    let moves = files.iter().any(|(_, state)| matches!(state, State::Whole(_)));
    if let Some(record) = record.filter(|_| moves) {
        // Whoever is killed below leaves files of two versions, perhaps of the same sizes.
        record.in_motion().write(&target.record())?;
    }
    let mut folders = BTreeSet::from([target.folder.clone()]);
    for (file, _) in files.iter().filter(|(_, state)| matches!(state, State::Whole(_))) {
        let (from, to) = (whole_path(&staging, file), target.folder.join(file.path.as_str()));
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(PullError::io("make", folder))?;
            folders.insert(folder.to_owned());
        }
        fs::rename(&from, &to).map_err(PullError::io("write", &to))?;
    }
    let stays: BTreeSet<_> = files.iter().map(|(file, _)| file.path.as_str()).collect();
    let mut removed = 0;
    for old in record.iter().flat_map(|record| &record.files) {
        // Whoever wrote the record has no say about files elsewhere.
        let Ok(path) = RelativePath::new(&old.path) else { continue };
        let path = target.folder.join(path.as_str());
        if !stays.contains(old.path.as_str()) && path.is_file() {
            fs::remove_file(&path).map_err(PullError::io("remove", &path))?;
            removed += 1;
        }
    }
    for folder in folders {
        let synced = File::open(&folder).and_then(|folder| folder.sync_all());
        synced.map_err(PullError::io("write", &folder))?;
    }
    Ok(removed)
}

/// What a listing has instead.
fn there(listing: &Listing) -> String {
    let names =
        listing.files.iter().map(|file| file.path.as_str()).chain(listing.others.iter().map(String::as_str));
    let names: Vec<_> = names.collect();
    match names.len() {
        0 => "no file at all".to_owned(),
        count if count > SHOWN => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
        _ => names.join(", "),
    }
}
