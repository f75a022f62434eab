//! What all pulls of these tests have in common.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use sha2::Digest as _;
use tempfile::TempDir;
use vlinders_pull::{
    BucketOptions, Event, HubOptions, Progress, PullError, PullOptions, Puller, Report, Retry, Source, Target,
};

/// Keeps what was told.
#[derive(Default)]
pub(crate) struct Told(Mutex<Vec<String>>);

impl Progress for Told {
    fn event(&self, event: Event<'_>) {
        if !matches!(event, Event::Bytes(_)) {
            self.0.lock().unwrap().push(format!("{event:?}"));
        }
    }
}

impl Told {
    pub(crate) fn count(&self, name: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|event| event.starts_with(name)).count()
    }

    pub(crate) fn all(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

/// A model's place on disk, and how it is filled.
pub(crate) struct Place {
    root: TempDir,
    pub(crate) target: Target,
    pub(crate) options: PullOptions,
    pub(crate) told: Told,
}

impl Place {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let target = Target { folder: root.path().join("model"), gguf: None };
        let options = PullOptions {
            hub: HubOptions { endpoint: "http://127.0.0.1:1".parse().unwrap(), token: None },
            bucket: BucketOptions {
                endpoint: None,
                region: "eu-west-1".to_owned(),
                path_style: None,
                credentials: None,
            },
            connections: 3,
            retry: Retry {
                attempts: 4,
                first_wait: Duration::from_millis(1),
                longest_wait: Duration::from_millis(4),
            },
            include: Vec::new(),
            exclude: Vec::new(),
            verify: false,
        };
        Self { root, target, options, told: Told::default() }
    }

    /// Another loader with the same target.
    pub(crate) fn beside(&self) -> Self {
        Self { target: self.target.clone(), options: self.options.clone(), ..Self::new() }
    }

    pub(crate) async fn pull(&self, source: &str) -> Result<Report, PullError> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder().tls_certs_only([]);
        let puller = Puller::new(builder, self.options.clone()).unwrap();
        let source: Source = source.parse().unwrap();
        puller.pull(&source, &self.target, &self.told).await
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.target.folder
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder().join(name)).unwrap()
    }

    /// Names of all files that a server would see, in order.
    pub(crate) fn visible(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.folder()) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| !name.starts_with(".vlinders-pull")).collect();
        names.sort();
        names
    }

    /// Lengths of the files that are being fetched.
    pub(crate) fn partials(&self) -> Vec<u64> {
        let Ok(entries) = std::fs::read_dir(self.folder().join(".vlinders-pull.files")) else {
            return Vec::new();
        };
        let entries = entries.map(Result::unwrap);
        let partial = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".partial"));
        partial.map(|entry| entry.metadata().unwrap().len()).collect()
    }

    pub(crate) fn record(&self) -> serde_json::Value {
        serde_json::from_slice(&self.read(".vlinders-pull.json")).unwrap()
    }
}

pub(crate) fn sha256(content: &[u8]) -> String {
    sha2::Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The built-in model's files that a server needs.
pub(crate) fn needed() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    vlinders_demo::FILES.iter().copied().filter(|(name, _)| *name != "MODEL_CARD.md")
}

/// Every file of the built-in model that a server needs is there, byte by byte, and nothing else.
pub(crate) fn assert_whole(place: &Place) {
    let mut names: Vec<_> = needed().map(|(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(place.visible(), names, "{}", place.told.all());
    for (name, content) in needed() {
        assert!(place.read(name) == content, "{name} differs");
    }
    assert!(place.partials().is_empty());
}

/// `sha256sum *`
pub(crate) fn sums<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    files.into_iter().map(|(name, content)| format!("{}  {name}\n", sha256(content))).collect()
}
