//! Starts the binary on a free port and stops it whatever happens to the test.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::thread::JoinHandle;

use serde_json::Value;

/// The binary, in a folder without configuration files and without settings of the caller's environment.
pub(crate) fn vlinders(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vlinders"));
    command.current_dir(folder).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("VLINDERS_") {
            command.env_remove(name);
        }
    }
    command
}

/// A client without encryption.
pub(crate) fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().tls_certs_only([]).build().unwrap()
}

/// Run a command to its end.
pub(crate) fn output(command: &mut Command) -> (Output, String, String) {
    let output = command.output().unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (output, out, err)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A running server, with the built-in model unless configuration files say something else.
pub(crate) struct Server {
    child: Child,
    /// Reads the log, so that the server never waits for a full pipe.
    log: Option<JoinHandle<Vec<String>>>,
    pub(crate) url: String,
    folder: tempfile::TempDir,
}

impl Server {
    /// Start one and wait until it is ready.
    pub(crate) fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), "ready")
    }

    /// Start one with the configuration files of `folder` and wait for the log line that begins with `awaited` and
    /// tells the address.
    pub(crate) fn start_in(folder: tempfile::TempDir, awaited: &str) -> Self {
        let command = vlinders(folder.path());
        Self::spawn(command, folder, awaited)
    }

    /// Start one under limits of the shell, such as `-Hn 300`.
    pub(crate) fn start_limited(limit: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = vlinders(folder.path()).get_program().to_owned();
        let mut command = Command::new("sh");
        command.current_dir(folder.path()).stdin(Stdio::null());
        command.args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\"")]).arg(program);
        Self::spawn(command, folder, "ready")
    }

    /// Start one at a certain port with more arguments.
    pub(crate) fn start_at(port: u16, args: &[&str]) -> Self {
        Self::run("serve", port, args)
    }

    /// Start a head with these arguments.
    pub(crate) fn start_head(args: &[&str]) -> Self {
        Self::run("head", 0, args)
    }

    fn run(role: &str, port: u16, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = vlinders(folder.path());
        command.arg(role).args(args);
        if role == "head" {
            command.args(["--dashboard-port", "0"]);
        }
        Self::listen(command, port, folder, "ready")
    }

    fn spawn(mut command: Command, folder: tempfile::TempDir, awaited: &str) -> Self {
        command.arg("serve");
        Self::listen(command, 0, folder, awaited)
    }

    fn listen(mut command: Command, port: u16, folder: tempfile::TempDir, awaited: &str) -> Self {
        let mut child = command
            .args(["--host", "127.0.0.1", "--port", &port.to_string(), "--log-format", "json"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut seen = Vec::new();
        let Some(address) = wait_for(awaited, &mut lines, &mut seen) else {
            let _ = child.kill();
            panic!("the server never said `{awaited}`; its log:\n{}", seen.join("\n"));
        };
        let log = std::thread::spawn(move || {
            seen.extend(lines.lines().map_while(Result::ok));
            seen
        });
        Self { child, log: Some(log), url: format!("http://{address}"), folder }
    }

    /// A command that talks to this server, to be given more arguments.
    pub(crate) fn client(&self, name: &str) -> Command {
        let mut command = vlinders(self.folder.path());
        command.args([name, "--url", &self.url]);
        command
    }

    /// `host:port` it listens on.
    pub(crate) fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// One line of `/proc/…/limits`: its soft and its hard limit.
    pub(crate) fn limit(&self, name: &str) -> (String, String) {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.child.id())).unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let mut words = line.split_whitespace().map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap())
    }

    /// Send a signal, by its short name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Wait for its end; gives its status and its log.
    pub(crate) fn wait(mut self) -> (ExitStatus, Vec<String>) {
        let status = self.child.wait().unwrap();
        (status, self.log.take().unwrap().join().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for(awaited: &str, lines: &mut BufReader<ChildStderr>, seen: &mut Vec<String>) -> Option<String> {
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        seen.push(line);
        if event["message"].as_str().is_some_and(|message| message.starts_with(awaited)) {
            return event["address"].as_str().map(str::to_owned);
        }
    }
}
