//! A private PostgreSQL server for one test: its own data, its own port, gone with the value.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::TestkitError;

/// Where Debian and its children keep the programs of each version; they are not on the PATH.
const VERSIONS: &str = "/usr/lib/postgresql";
const USER: &str = "vlinders";
const PASSWORD: &str = "butterfly-7!";
/// The password as a URL has it.
const PASSWORD_IN_URL: &str = "butterfly-7%21";
/// How long a server may take to answer, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between the choice of a free port and its use, another test can take it.
const PORT_TRIES: usize = 5;

/// A running (or stopped) server. It listens on the loopback address, and asks for a password.
#[derive(Debug)]
pub struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    /// The account it runs as, where we are root: PostgreSQL refuses to be root.
    account: Option<Account>,
    port: u16,
    server: Option<Child>,
}

#[derive(Debug, Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

// === impl Postgres ===

impl Postgres {
    /// Make an empty database and start a server.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or does not start; its log is in the error.
    pub fn start() -> Result<Self, TestkitError> {
        let programs = programs()?;
        let folder = tempfile::Builder::new()
            .prefix("vlinders-postgres-")
            .tempdir()
            .map_err(|error| TestkitError::new(std::env::temp_dir(), error))?;
        let account = Account::needed()?;
        let mut server = Self { folder, programs, account, port: 0, server: None };
        server.initialise()?;
        let mut tries = 1;
        loop {
            server.port = free_port()?;
            match server.restart() {
                Ok(()) => return Ok(server),
                Err(error) if tries == PORT_TRIES => return Err(error),
                Err(_) => tries += 1,
            }
        }
    }

    /// The URL of its database, with user and password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{}/postgres", self.port)
    }

    /// The password in [`Self::url`], as it is before it is escaped: nothing may show it.
    #[must_use]
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// The port it listens on, the same after [`Self::restart`].
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stop it at once, as a crash would: connections break, what was not committed is gone.
    pub fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        if let Some(pid) = Pid::from_raw(server.id().cast_signed()) {
            // "immediate shutdown": no checkpoint, recovery at the next start. A killed postmaster would leave
            // its children behind for a while, with the port. It fails when the process is gone already.
            let _ = kill_process(pid, Signal::QUIT);
        }
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if !matches!(server.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = server.kill();
        let _ = server.wait();
    }

    /// Start it again, stopped or not, with the same data on the same port.
    ///
    /// # Errors
    /// It does not come up; its log is in the error.
    pub fn restart(&mut self) -> Result<(), TestkitError> {
        self.stop();
        let log = File::create(self.log()).map_err(|error| TestkitError::new(self.log(), error))?;
        let errors = log.try_clone().map_err(|error| TestkitError::new(self.log(), error))?;
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.folder.path());
        command.args(["-p", &self.port.to_string(), "-h", "127.0.0.1"]);
        // Nothing has to survive the machine; what is committed has to survive the server.
        for setting in ["fsync=off", "full_page_writes=off", "shared_buffers=16MB"] {
            command.args(["-c", setting]);
        }
        let server = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        self.server = Some(server.map_err(|error| TestkitError::new(&self.programs, error))?);
        self.wait_until_ready()
    }

    /// Run SQL with psql as the owner of the database, and give what it prints: a row a line, `|` between columns.
    ///
    /// # Errors
    /// The server is stopped, or refuses it.
    pub fn sql(&self, sql: &str) -> Result<String, TestkitError> {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &self.url(), "-c", sql]);
        let output = command.output().map_err(|error| TestkitError::new(&self.programs, error))?;
        let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        self.succeeded(&output).map(|()| text)
    }

    fn initialise(&self) -> Result<(), TestkitError> {
        let fail = |error: std::io::Error| TestkitError::new(self.folder.path(), error);
        let password = self.folder.path().join("password");
        File::create(&password).and_then(|mut file| file.write_all(PASSWORD.as_bytes())).map_err(fail)?;
        if let Some(Account { uid, gid }) = self.account {
            for path in [self.folder.path(), &password] {
                std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(fail)?;
            }
        }
        let mut command = self.program("initdb");
        command.arg("-D").arg(self.data()).args(["-U", USER, "--no-sync", "--encoding=UTF8", "--locale=C"]);
        command.args(["--auth=scram-sha-256", "--pwfile"]).arg(&password);
        let output = command.output().map_err(|error| TestkitError::new(&self.programs, error))?;
        self.succeeded(&output)
    }

    fn wait_until_ready(&mut self) -> Result<(), TestkitError> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut probe = Command::new(self.programs.join("pg_isready"));
            probe.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
            if probe.status().is_ok_and(|status| status.success()) {
                return Ok(());
            }
            if self.server.as_mut().is_none_or(|server| !matches!(server.try_wait(), Ok(None))) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.stop();
        let mut log = String::new();
        let _ = File::open(self.log()).and_then(|mut file| file.read_to_string(&mut log));
        Err(TestkitError::new(self.data(), format!("PostgreSQL does not start: {log}")))
    }

    /// One of its programs, as the account that owns the data.
    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = match self.account {
            None => Command::new(program),
            Some(Account { uid, gid }) => {
                let mut command = Command::new("setpriv");
                command.args([&format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups", "--"]);
                command.arg(program);
                command
            }
        };
        // the folder a test runs in may be one that this account can not enter
        command.current_dir("/").env_remove("PGDATA").env_remove("PGOPTIONS");
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn succeeded(&self, output: &Output) -> Result<(), TestkitError> {
        if output.status.success() {
            return Ok(());
        }
        Err(TestkitError::new(&self.programs, String::from_utf8_lossy(&output.stderr)))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

// === impl Account ===

impl Account {
    /// The account that the Debian package makes, when we are root.
    fn needed() -> Result<Option<Self>, TestkitError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let users = Path::new("/etc/passwd");
        let text = std::fs::read_to_string(users).map_err(|error| TestkitError::new(users, error))?;
        let fields = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let found = fields.into_iter().find(|fields| fields.first() == Some(&"postgres"));
        let number = |index: usize| found.as_ref()?.get(index)?.parse().ok();
        match (number(2), number(3)) {
            (Some(uid), Some(gid)) => Ok(Some(Self { uid, gid })),
            _ => Err(TestkitError::new(
                users,
                "PostgreSQL does not run as root, and there is no account \"postgres\"; run the tests as another user, or: useradd --system postgres",
            )),
        }
    }
}

/// The folder of programs of the newest version.
fn programs() -> Result<PathBuf, TestkitError> {
    let folders = std::fs::read_dir(VERSIONS).into_iter().flatten().flatten().map(|entry| entry.path());
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let usable = folders.filter(|path| path.join("bin/initdb").exists() && version(path).is_some());
    let newest = usable.max_by_key(version).map(|path| path.join("bin"));
    newest.ok_or_else(|| {
        TestkitError::new(
            VERSIONS,
            "there is no PostgreSQL server here; on Debian or Ubuntu: sudo apt-get install postgresql",
        )
    })
}

fn free_port() -> Result<u16, TestkitError> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|error| TestkitError::new("127.0.0.1:0", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_and_port_survive_a_restart_and_a_password_is_needed() {
        let mut server = Postgres::start().unwrap();
        server.sql("create table kept (number int); insert into kept values (7)").unwrap();
        let port = server.port();
        server.stop();
        assert!(server.sql("select 1").is_err(), "it is stopped");
        server.restart().unwrap();
        assert_eq!(server.port(), port);
        assert_eq!(server.sql("select number, number + 1 from kept").unwrap(), "7|8");
        let stranger = server.url().replace(PASSWORD_IN_URL, "wrong");
        let mut command = Command::new(server.programs.join("psql"));
        assert!(!command.args(["-d", &stranger, "-c", "select 1"]).output().unwrap().status.success());
    }
}
