//! Where a server is and how to be let in. Shared by `chat` and `bench`.

use std::path::PathBuf;

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ClientArgs {
    /// Address of an OpenAI-compatible server, http or https, with or without /v1
    #[arg(long, value_name = "URL", env = "VLINDERS_URL", default_value = "http://127.0.0.1:8000")]
    pub(crate) url: String,

    /// Model to ask for [default: the first that the server lists]
    #[arg(long, value_name = "NAME", env = "VLINDERS_MODEL")]
    pub(crate) model: Option<String>,

    /// File whose first line is the API key; the key itself may stand in VLINDERS_API_KEY
    #[arg(long, value_name = "FILE", env = "VLINDERS_API_KEY_FILE")]
    pub(crate) api_key_file: Option<PathBuf>,

    /// Certificates (PEM) of authorities to trust besides the system's; SSL_CERT_FILE replaces the system's
    #[arg(long, value_name = "FILE", env = "VLINDERS_CA_FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}
