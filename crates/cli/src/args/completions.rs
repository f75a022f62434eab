//! Arguments of `vlinders completions`.

use clap_complete::Shell;

const EXAMPLES: &str = "\
Examples:
  vlinders completions bash > /etc/bash_completion.d/vlinders
  vlinders completions zsh  > ~/.zfunc/_vlinders
  vlinders completions fish > ~/.config/fish/completions/vlinders.fish";

/// Print a completion script for a shell
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}
