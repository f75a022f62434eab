//! Arguments of `vlinders pull`.

use std::path::PathBuf;

use clap::ValueEnum;

const EXAMPLES: &str = "\
Examples:
  vlinders pull --models models.yaml                 every enabled model with a `deploy.source`, to its `path`
  vlinders pull --models models.yaml --dest /mnt     /models/NAME of the file is /mnt/NAME here
  vlinders pull --source hf://Qwen/Qwen3-0.6B --dest models/Qwen3-0.6B
  vlinders pull --source hf://org/model-GGUF@COMMIT --dest models/model-Q8_0.gguf
  vlinders pull --source s3://bucket/llama-3-8b --dest /models/llama-3-8b --s3-endpoint http://minio:9000

Sources, and what proves that a file is whole:
  hf://OWNER/NAME@REVISION     the Hugging Face hub: SHA-256 of large files, Git's SHA-1 of small ones. Write a commit, since
                               branches and tags may mean something else tomorrow.
  s3://BUCKET/PREFIX           S3 and the like: a SHA256SUMS among the objects; else the SHA-256 that an object was uploaded
                               with; else its size and ETag, which is said
  https://HOST/FOLDER/         a folder of a web server with a SHA256SUMS, made by `sha256sum * > SHA256SUMS`

A pull may be stopped or killed at any time: the next one goes on at the byte where it was. Files are fetched into a hidden folder
and appear at their places when all of them are whole. `.vlinders-pull.json` records what they are, so that a further pull only
compares sizes. Two pulls of one model wait for each other.

Secrets come from files or the environment: HF_TOKEN; AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.

Exit status: 0 when all models are there, 1 when one is not, 2 when the command line is wrong.";

/// Fetch models: from the Hugging Face hub, S3 or a web server, resumable and verified
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PullArgs {
    /// Fetch the models of this file [default without --source: ./models.yaml]
    #[arg(long, value_name = "FILE", env = "VLINDERS_MODELS")]
    pub(crate) models: Option<PathBuf>,

    /// Of the file, fetch only this model; may be given several times
    #[arg(long, value_name = "NAME", conflicts_with = "source")]
    pub(crate) model: Vec<String>,

    /// Fetch this instead of the models of a file
    #[arg(long, value_name = "SOURCE", requires = "dest")]
    pub(crate) source: Option<String>,

    /// With --source: the folder or .gguf file to make. Else: what stands for /models of the file
    #[arg(long, value_name = "DIR")]
    pub(crate) dest: Option<PathBuf>,

    /// Only files like this, instead of what a server needs (`*` stops at a slash, `**` does not); may be given several times
    #[arg(long, value_name = "PATTERN")]
    pub(crate) include: Vec<String>,

    /// No files like this; may be given several times
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,

    /// Hash again what is there, and fetch what is damaged
    #[arg(long)]
    pub(crate) verify: bool,

    /// Files fetched at the same time, over a connection each
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) connections: u8,

    /// Failures in a row until a file is given up; after each, it waits twice as long, up to 30s
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) attempts: u32,

    /// Certificates (PEM) of authorities to trust besides the system's; SSL_CERT_FILE replaces the system's
    #[arg(long, value_name = "FILE", env = "VLINDERS_CA_FILE")]
    pub(crate) ca_file: Option<PathBuf>,

    /// Folder with files hf-token, aws-access-key-id, aws-secret-access-key, aws-session-token; those that are there are used
    #[arg(long, value_name = "DIR", help_heading = "Secrets")]
    pub(crate) secrets: Option<PathBuf>,

    /// File with a token of the Hugging Face hub; the token itself may stand in HF_TOKEN
    #[arg(long, value_name = "FILE", env = "HF_TOKEN_PATH", help_heading = "Secrets")]
    pub(crate) hf_token_file: Option<PathBuf>,

    /// The Hugging Face hub, or a mirror of it
    #[arg(
        long,
        value_name = "URL",
        env = "HF_ENDPOINT",
        default_value = "https://huggingface.co",
        help_heading = "Servers"
    )]
    pub(crate) hf_endpoint: String,

    /// An S3 other than that of AWS
    #[arg(long, value_name = "URL", env = "AWS_ENDPOINT_URL", help_heading = "Servers")]
    pub(crate) s3_endpoint: Option<String>,

    /// Region of the bucket
    #[arg(
        long,
        value_name = "NAME",
        env = "AWS_REGION",
        default_value = "us-east-1",
        help_heading = "Servers"
    )]
    pub(crate) s3_region: String,

    /// Where the name of the bucket stands [default: path with --s3-endpoint, else host]
    #[arg(long, value_name = "WHERE", help_heading = "Servers")]
    pub(crate) s3_style: Option<BucketStyle>,
}

/// Where the name of a bucket stands in addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BucketStyle {
    /// In the path: HOST/BUCKET/KEY
    Path,
    /// In the host: BUCKET.HOST/KEY
    Host,
}
