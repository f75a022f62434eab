//! The conversation in a terminal: reads lines, obeys commands, shows answers.

use std::path::PathBuf;

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tokio::runtime::Runtime;

use super::ask::Asker;
use super::conversation::Conversation;
use super::line::{HELP, Line};

/// A conversation in progress.
pub(super) struct Session<'a> {
    runtime: &'a Runtime,
    editor: DefaultEditor,
    asker: Asker,
    conversation: Conversation,
    history_file: Option<PathBuf>,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        runtime: &'a Runtime,
        asker: Asker,
        conversation: Conversation,
        history_file: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let mut editor = DefaultEditor::new()?;
        if let Some(file) = &history_file {
            // There is none the first time.
            let _ = editor.load_history(file);
        }
        Ok(Self { runtime, editor, asker, conversation, history_file })
    }

    /// Until `/quit` or Ctrl-D.
    pub(super) fn run(&mut self) -> anyhow::Result<()> {
        println!(
            "{} at {} · /help lists commands, Ctrl-D leaves",
            self.asker.model,
            self.asker.client.root()
        );
        while let Some(line) = self.read()? {
            match Line::parse(&line) {
                Line::Empty => {}
                Line::Say(text) => self.say(&text),
                Line::Reset => {
                    self.conversation.reset();
                    println!("(forgotten)");
                }
                Line::System(None) => {
                    println!("{}", self.conversation.system().unwrap_or("(no system message)"))
                }
                Line::System(Some(text)) if text == "-" => {
                    self.conversation.set_system("");
                    println!("(no system message)");
                }
                Line::System(Some(text)) => {
                    self.conversation.set_system(&text);
                    println!("(system message set)");
                }
                Line::Model(name) => self.switch_model(name),
                Line::Help => println!("{HELP}"),
                Line::Quit => break,
                Line::Unknown(command) => println!("{command} is no command; /help lists them"),
            }
        }
        if let Some(file) = &self.history_file {
            self.editor.save_history(file)?;
        }
        Ok(())
    }

    /// The next line, with its continuations; `None` at the end.
    fn read(&mut self) -> anyhow::Result<Option<String>> {
        let mut text = String::new();
        loop {
            let prompt = if text.is_empty() { "> " } else { "… " };
            match self.editor.readline(prompt) {
                Ok(line) => match line.strip_suffix('\\') {
                    Some(start) => {
                        text.push_str(start);
                        text.push('\n');
                    }
                    None => {
                        text.push_str(&line);
                        // A history of one line only fails when it is disabled.
                        let _ = self.editor.add_history_entry(&text);
                        return Ok(Some(text));
                    }
                },
                Err(ReadlineError::Interrupted) if !text.is_empty() => text.clear(),
                Err(ReadlineError::Interrupted) => println!("(Ctrl-D or /quit leaves)"),
                Err(ReadlineError::Eof) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn say(&mut self, text: &str) {
        self.conversation.push_user(text);
        match self.runtime.block_on(self.asker.ask(&self.conversation)) {
            Ok(answer) if answer.cancelled && answer.text.is_empty() => self.conversation.pop_unanswered(),
            Ok(answer) => {
                self.conversation.push_assistant(&answer.text);
                if answer.cancelled {
                    println!("(stopped)");
                }
            }
            Err(error) => {
                self.conversation.pop_unanswered();
                println!("error: {error}");
            }
        }
    }

    fn switch_model(&mut self, name: Option<String>) {
        let asked = self.runtime.block_on(async {
            tokio::select! {
                models = self.asker.client.models() => Some(models),
                _ = tokio::signal::ctrl_c() => None,
            }
        });
        let models = match asked {
            Some(Ok(models)) => models,
            Some(Err(error)) => return println!("error: {error}"),
            None => return println!("(stopped)"),
        };
        match name {
            Some(name) if models.contains(&name) => self.asker.model = name,
            Some(name) => println!("{name} is not served here; these are: {}", models.join(", ")),
            None => {
                for model in models {
                    let mark = if model == self.asker.model { "*" } else { " " };
                    println!("{mark} {model}");
                }
            }
        }
    }
}
