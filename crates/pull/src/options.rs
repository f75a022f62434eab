//! How models are fetched: where from, with which rights, how eagerly.

use reqwest::Url;

use crate::{Retry, Secret};

/// Everything that is the same for all models of a run.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// The Hugging Face hub, or a mirror of it.
    pub hub: HubOptions,
    /// S3, or what speaks its language.
    pub bucket: BucketOptions,
    /// Files that are fetched at the same time, over a connection each.
    pub connections: usize,
    /// What is done about failures that may pass.
    pub retry: Retry,
    /// Patterns of the files to fetch; empty is what a server needs.
    pub include: Vec<String>,
    /// Patterns of files to leave out.
    pub exclude: Vec<String>,
    /// Hash again what is there already.
    pub verify: bool,
}

/// The Hugging Face hub, or a mirror of it.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// Where it is.
    pub endpoint: Url,
    /// For models that are not everybody's.
    pub token: Option<Secret>,
}

/// S3, or what speaks its language.
#[derive(Debug, Clone)]
pub struct BucketOptions {
    /// Where it is; `None` is that of AWS in the region.
    pub endpoint: Option<Url>,
    /// Region that requests are signed for.
    pub region: String,
    /// Bucket in the path (`true`) or in the host name; `None` is the path where an endpoint is given.
    pub path_style: Option<bool>,
    /// `None` asks without a signature.
    pub credentials: Option<Credentials>,
}

/// What requests to S3 are signed with.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Access key id.
    pub key_id: String,
    /// Secret access key.
    pub secret: Secret,
    /// Session token of temporary credentials.
    pub token: Option<Secret>,
}
