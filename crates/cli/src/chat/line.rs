//! What a typed line means.

/// A line of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// Nothing to do.
    Empty,
    /// Something to say to the model.
    Say(String),
    Reset,
    /// With text: set it; without: show it.
    System(Option<String>),
    /// With a name: switch to it; without: list them.
    Model(Option<String>),
    Help,
    Quit,
    /// Begins with a slash but is no command.
    Unknown(String),
}

/// What `/help` prints.
pub(super) const HELP: &str = "\
/reset          forget the conversation
/system TEXT    set how the model is to behave; without text, show it; `/system -` removes it
/model NAME     talk to another model; without a name, list them
/help           this list
/quit           leave (as does Ctrl-D)

A line that ends with \\ goes on in the next one. A line that begins with // is said with one slash.
Ctrl-C stops an answer.";

impl Line {
    pub(super) fn parse(line: &str) -> Self {
        let line = line.trim();
        let Some(command) = line.strip_prefix('/') else {
            return if line.is_empty() { Self::Empty } else { Self::Say(line.to_owned()) };
        };
        if command.starts_with('/') {
            return Self::Say(command.to_owned());
        }
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = Some(rest.trim()).filter(|rest| !rest.is_empty()).map(str::to_owned);
        match name {
            "reset" | "clear" => Self::Reset,
            "system" => Self::System(rest),
            "model" | "models" => Self::Model(rest),
            "help" | "?" => Self::Help,
            "quit" | "exit" | "q" => Self::Quit,
            _ => Self::Unknown(format!("/{name}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        assert_eq!(Line::parse("  "), Line::Empty);
        assert_eq!(Line::parse(" what? "), Line::Say("what?".to_owned()));
        assert_eq!(Line::parse("//etc"), Line::Say("/etc".to_owned()));
        assert_eq!(Line::parse("/reset"), Line::Reset);
        assert_eq!(
            Line::parse("/system  Answer in Dutch. "),
            Line::System(Some("Answer in Dutch.".to_owned()))
        );
        assert_eq!(Line::parse("/system"), Line::System(None));
        assert_eq!(Line::parse("/model a"), Line::Model(Some("a".to_owned())));
        assert_eq!(Line::parse("/quit"), Line::Quit);
        assert_eq!(Line::parse("/sing"), Line::Unknown("/sing".to_owned()));
    }
}
