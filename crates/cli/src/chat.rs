//! `vlinders chat`: a conversation with any OpenAI-compatible server, in a terminal or for one question.

mod ask;
mod conversation;
mod line;
mod session;
mod shown;

use std::io::{IsTerminal as _, Read as _, stdin};
use std::process::ExitCode;

use anyhow::Context as _;

use self::{ask::Asker, conversation::Conversation, session::Session};
use crate::args::ChatArgs;
use crate::client::Client;

/// Ended by Ctrl-C, as shells count it.
const INTERRUPTED: u8 = 130;

/// Hold a conversation, or ask one question.
pub(crate) fn run(args: &ChatArgs) -> anyhow::Result<ExitCode> {
    // With a thread of its own, the connection of a stopped answer is closed while the next line is typed: that is how
    // the server learns that it can stop.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let client = Client::new(&args.client)?;
    let conversation = Conversation::new(args.system.as_deref());
    if let Some(question) = question(args)? {
        anyhow::ensure!(!question.trim().is_empty(), "the question is empty");
        return runtime.block_on(async {
            let model = client.model(args.client.model.as_deref()).await?;
            ask_once(&Asker::new(client, model, args), conversation, &question).await
        });
    }
    let model = runtime.block_on(client.model(args.client.model.as_deref()))?;
    let asker = Asker::new(client, model, args);
    Session::new(&runtime, asker, conversation, args.history_file.clone())?.run()?;
    Ok(ExitCode::SUCCESS)
}

/// The one question to ask: of `--message`, or all of standard input where that is no terminal.
fn question(args: &ChatArgs) -> anyhow::Result<Option<String>> {
    if let Some(message) = &args.message {
        return Ok(Some(message.clone()));
    }
    if stdin().is_terminal() {
        return Ok(None);
    }
    let mut text = String::new();
    stdin().read_to_string(&mut text).context("cannot read the question from standard input")?;
    Ok(Some(text))
}

async fn ask_once(asker: &Asker, mut conversation: Conversation, question: &str) -> anyhow::Result<ExitCode> {
    conversation.push_user(question);
    let answer = asker.ask(&conversation).await?;
    Ok(if answer.cancelled { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}
