//! `chat` in a terminal: what is typed, what is shown, and what Ctrl-C and Ctrl-D do.

use std::process::Stdio;

use rexpect::session::{PtySession, spawn_command};
use serde_json::{Value, json};

use crate::process::{Server, vlinders};
use crate::scripted::Scripted;

const UP: &str = "\u{1b}[A";
const LEFT: &str = "\u{1b}[D";

/// A conversation in a terminal.
struct Terminal {
    session: PtySession,
    _folder: tempfile::TempDir,
}

impl Terminal {
    fn chat(url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = vlinders(folder.path());
        command.args(["chat", "--url", url]).env("TERM", "xterm").stdin(Stdio::inherit());
        let session = spawn_command(command, Some(10_000)).unwrap();
        let mut terminal = Self { session, _folder: folder };
        terminal.shows("/help lists commands");
        terminal.shows("> ");
        terminal
    }

    /// Type keys and Enter.
    fn types(&mut self, keys: &str) {
        self.session.send(keys).unwrap();
        self.session.send_line("").unwrap();
    }

    fn presses_control(&mut self, key: char) {
        self.session.send_control(key).unwrap();
    }

    /// Read on to this text; gives what came before it. The session takes each byte for a character.
    fn shows(&mut self, text: &str) -> String {
        let latin: String = text.bytes().map(char::from).collect();
        self.session.exp_string(&latin).unwrap_or_else(|error| panic!("no `{text}`: {error}"))
    }

    /// Waits for the end and a status of 0.
    fn ends(mut self) {
        self.session.exp_eof().unwrap();
        let status = format!("{:?}", self.session.process().wait().unwrap());
        assert!(status.starts_with("Exited") && status.ends_with(", 0)"), "{status}");
    }
}

fn said(role: &str, content: &str) -> Value {
    json!({ "role": role, "content": content })
}

#[test]
fn the_built_in_model_answers_and_ctrl_d_leaves() {
    let server = Server::start();
    let mut terminal = Terminal::chat(&server.url);
    terminal.types("What is 47 + 38?");
    terminal.shows("85.");
    terminal.shows("> ");
    terminal.presses_control('d');
    terminal.ends();
}

#[test]
fn arrow_keys_edit_and_bring_back_lines() {
    let server = Scripted::start();
    let mut terminal = Terminal::chat(&server.url);
    terminal.types(&format!("h\u{e9}lo 🦋 日本{}\u{7f}llo", LEFT.repeat(6)));
    terminal.shows("you said: h\u{e9}llo");
    let first = server.messages();
    let question = first[0]["content"].as_str().unwrap().to_owned();
    assert!(question.starts_with("h\u{e9}llo") && question.ends_with("🦋 日本"), "{question}");
    terminal.shows("> ");
    terminal.types(UP);
    terminal.shows("you said: h\u{e9}llo");
    let answer = format!("you said: {question}");
    assert_eq!(server.messages(), json!([first[0], said("assistant", &answer), first[0]]));
    terminal.shows("> ");
    terminal.types("/quit");
    terminal.ends();
}

#[test]
fn ctrl_c_stops_the_answer_and_nothing_else() {
    let server = Scripted::start();
    let mut terminal = Terminal::chat(&server.url);
    terminal.types("for ever");
    terminal.shows("on and on and ");
    terminal.presses_control('c');
    terminal.shows("(stopped)");
    let question = server.messages();
    server.hears_of_leaving();
    terminal.shows("> ");
    terminal.types("and now?");
    terminal.shows("you said: and now?");
    let messages = server.messages();
    let stopped = messages[1]["content"].as_str().unwrap();
    assert!(stopped.starts_with("on and on and "), "what was shown is remembered: {messages}");
    assert_eq!((&messages[0], &messages[2]), (&question[0], &said("user", "and now?")));
    terminal.shows("> ");
    // With nothing to stop, it drops the line.
    terminal.session.send("half a line").unwrap();
    terminal.session.flush().unwrap();
    terminal.shows("half a line");
    terminal.presses_control('c');
    terminal.shows("(Ctrl-D or /quit leaves)");
    terminal.shows("> ");
    terminal.presses_control('d');
    terminal.ends();
}

#[test]
fn commands_are_obeyed() {
    let server = Scripted::start();
    let mut terminal = Terminal::chat(&server.url);
    let mut enter = |line: &str, shown: &str| {
        terminal.types(line);
        terminal.shows(shown);
        terminal.shows("> ");
    };
    enter("/help", "Ctrl-C stops an answer.");
    enter("/system", "(no system message)");
    enter("/system Answer in Dutch", "(system message set)");
    enter("/system", "Answer in Dutch");
    terminal.types("one \\");
    terminal.shows("… ");
    let mut enter = |line: &str, shown: &str| {
        terminal.types(line);
        terminal.shows(shown);
        terminal.shows("> ");
    };
    enter("two", "you said: one");
    assert_eq!(server.messages(), json!([said("system", "Answer in Dutch"), said("user", "one \ntwo")]));
    enter("/reset", "(forgotten)");
    enter("//etc", "you said: /etc");
    assert_eq!(server.messages(), json!([said("system", "Answer in Dutch"), said("user", "/etc")]));
    enter("/model", "* scripted");
    enter("/model other", "other is not served here; these are: scripted");
    enter("/sing", "/sing is no command");
    terminal.types("/quit");
    terminal.ends();
}

#[test]
fn a_server_that_goes_away_ends_the_answer_only() {
    let server = Scripted::start();
    let mut terminal = Terminal::chat(&server.url);
    terminal.types("break off");
    terminal.shows("half an ans");
    terminal.shows("error: the stream ended before the answer was complete");
    server.messages();
    terminal.shows("> ");
    terminal.types("again");
    terminal.shows("you said: again");
    assert_eq!(
        server.messages(),
        json!([said("user", "again")]),
        "the question without an answer is forgotten"
    );

    let gone = Server::start();
    let mut terminal = Terminal::chat(&gone.url);
    gone.signal("TERM");
    gone.wait();
    terminal.types("anyone?");
    terminal.shows("error: cannot reach");
    terminal.shows("> ");
    terminal.types("/model");
    terminal.shows("error: cannot reach");
    terminal.shows("> ");
    terminal.presses_control('d');
    terminal.ends();
}

#[test]
fn a_terminal_obeys_no_model() {
    let server = Scripted::start();
    let mut terminal = Terminal::chat(&server.url);
    terminal.types("colours");
    let before = terminal.shows("␛[31mred␇!");
    assert!(!before.contains("[31m"), "{before}");
    terminal.shows("> ");
    terminal.presses_control('d');
    terminal.ends();
}
