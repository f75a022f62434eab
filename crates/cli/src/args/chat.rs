//! Arguments of `vlinders chat`.

use super::ClientArgs;

const EXAMPLES: &str = "\
Examples:
  vlinders chat                                        a conversation with the server on this machine
  vlinders chat -m 'What do peacock butterflies eat?'  one question, the answer on standard output
  cat question.txt | vlinders chat                     the same, from a file
  vlinders chat --url https://llm.example.org --model gpt-4 --system 'Answer in Dutch'
  vlinders chat --url https://llm.intern --ca-file our-ca.pem

In a conversation, /help lists what can be typed. Ctrl-C stops an answer, Ctrl-D leaves.";

/// Talk to a server from a terminal
///
/// Streams answers of any OpenAI-compatible server and remembers the conversation.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,

    /// Ask this one question, print the answer and leave
    #[arg(short, long, value_name = "TEXT", help_heading = "Conversation")]
    pub(crate) message: Option<String>,

    /// System message: how the model is to behave
    #[arg(long, value_name = "TEXT", help_heading = "Conversation")]
    pub(crate) system: Option<String>,

    /// Randomness: 0 always takes the most likely token [default: the server's]
    #[arg(long, value_name = "NUMBER", help_heading = "Conversation")]
    pub(crate) temperature: Option<f64>,

    /// Longest answer in tokens [default: the server's]
    #[arg(long, value_name = "N", help_heading = "Conversation")]
    pub(crate) max_tokens: Option<u64>,

    /// Makes a random answer repeatable
    #[arg(long, value_name = "N", help_heading = "Conversation")]
    pub(crate) seed: Option<i64>,

    /// Keep typed lines in this file between conversations
    #[arg(long, value_name = "FILE", env = "VLINDERS_CHAT_HISTORY", help_heading = "Conversation")]
    pub(crate) history_file: Option<std::path::PathBuf>,
}
