//! `vlinders pull`: makes models be there, one after the other.

mod shown;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use vlinders_edge::Shutdown;
use vlinders_pull::{BucketOptions, Credentials, HubOptions, PullOptions, Puller, Retry, Secret, Source};

use self::shown::Shown;
use crate::args::{BucketStyle, PullArgs};
use crate::client::trust;
use crate::config::{ConfigError, FetchedModel, Problem, format_bytes, resolve_sources, secret, target_at};

/// Fetch what is not there yet.
pub(crate) fn run(args: &PullArgs) -> anyhow::Result<ExitCode> {
    let models = models(args)?;
    if models.is_empty() {
        println!("no enabled model has a `deploy.source`: nothing to fetch");
        return Ok(ExitCode::SUCCESS);
    }
    let options = options(args)?;
    let encrypted = models.iter().any(|model| is_encrypted(&model.source, &options));
    let builder = trust(reqwest::Client::builder(), encrypted, args.ca_file.as_deref())?;
    let builder = builder.user_agent(concat!("vlinders/", env!("CARGO_PKG_VERSION")));
    let puller = Puller::new(builder, options)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let outcome = runtime.block_on(async {
        // As the first process of a container it would not end by a signal otherwise.
        let mut shutdown = Shutdown::listen().context("cannot listen for signals")?;
        tokio::select! {
            code = pull_all(&puller, &models) => Ok(code),
            cause = shutdown.requested() => {
                eprintln!("stopped by {}; what was fetched is kept, and the next run goes on there", cause.as_str());
                Ok(ExitCode::FAILURE)
            }
        }
    });
    // A file that is being hashed is nothing to wait for.
    runtime.shutdown_background();
    outcome
}

async fn pull_all(puller: &Puller, models: &[FetchedModel]) -> ExitCode {
    let mut failed = Vec::new();
    for model in models {
        let shown = Shown::new(&model.name);
        let outcome = puller.pull(&model.source, &model.target, &shown).await;
        drop(shown);
        match outcome {
            Ok(report) => {
                let bytes = format_bytes(report.bytes);
                let place = model.target.folder.display();
                println!(
                    "{}: {} files, {bytes}, of {} are in {place}; {} of them were fetched now",
                    model.name, report.files, report.revision, report.fetched
                );
            }
            // The others may be had all the same.
            Err(error) => {
                eprintln!("error: {}: {error}", model.name);
                failed.push(model.name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("{} of {} models are not there: {}", failed.len(), models.len(), failed.join(", "));
    ExitCode::FAILURE
}

fn models(args: &PullArgs) -> anyhow::Result<Vec<FetchedModel>> {
    if let (Some(source), Some(dest)) = (&args.source, &args.dest) {
        let source = source.parse().map_err(|error: vlinders_pull::SourceError| {
            ConfigError::from(Problem::option("--source", error.found, error.remedy))
        })?;
        let target = target_at(dest);
        return Ok(vec![FetchedModel { name: dest.display().to_string(), source, target }]);
    }
    let file = args.models.clone().unwrap_or_else(|| PathBuf::from("models.yaml"));
    Ok(resolve_sources(&file, args.dest.as_deref(), &args.model)?)
}

fn options(args: &PullArgs) -> anyhow::Result<PullOptions> {
    let token = args.hf_token_file.clone().or_else(|| in_folder(args, "hf-token"));
    let token = secret(token.as_deref(), "HF_TOKEN").map_err(ConfigError::from)?;
    let of_aws =
        |file: &str, name: &str| secret(in_folder(args, file).as_deref(), name).map_err(ConfigError::from);
    let key_id = of_aws("aws-access-key-id", "AWS_ACCESS_KEY_ID")?;
    let key = of_aws("aws-secret-access-key", "AWS_SECRET_ACCESS_KEY")?;
    let session = of_aws("aws-session-token", "AWS_SESSION_TOKEN")?;
    let credentials = match (key_id, key) {
        (Some(key_id), Some(key)) => {
            Some(Credentials { key_id, secret: Secret::new(key), token: session.map(Secret::new) })
        }
        (None, None) => None,
        _ => bail!(
            "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set; set both, or none for a bucket that everybody may read"
        ),
    };
    Ok(PullOptions {
        hub: HubOptions {
            endpoint: address("--hf-endpoint", &args.hf_endpoint)?,
            token: token.map(Secret::new),
        },
        bucket: BucketOptions {
            endpoint: args.s3_endpoint.as_deref().map(|url| address("--s3-endpoint", url)).transpose()?,
            region: args.s3_region.clone(),
            path_style: args.s3_style.map(|style| style == BucketStyle::Path),
            credentials,
        },
        connections: usize::from(args.connections),
        retry: Retry { attempts: args.attempts, ..Retry::default() },
        include: args.include.clone(),
        exclude: args.exclude.clone(),
        verify: args.verify,
    })
}

/// Whether certificates of authorities are needed.
fn is_encrypted(source: &Source, options: &PullOptions) -> bool {
    let url = match source {
        Source::Hub { .. } => Some(&options.hub.endpoint),
        Source::Bucket { .. } => options.bucket.endpoint.as_ref(),
        Source::Folder(url) => Some(url),
    };
    url.is_none_or(|url| url.scheme() == "https")
}

/// A file of the folder of secrets, if it is there: a mounted secret need not have all keys.
fn in_folder(args: &PullArgs, name: &str) -> Option<PathBuf> {
    args.secrets.as_deref().map(|folder: &Path| folder.join(name)).filter(|file| file.is_file())
}

fn address(option: &str, text: &str) -> Result<reqwest::Url, ConfigError> {
    let url = reqwest::Url::parse(text).ok();
    url.filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host()).ok_or_else(|| {
        Problem::option(option, format!("`{text}` is no address"), "write one such as https://host:9000")
            .into()
    })
}
