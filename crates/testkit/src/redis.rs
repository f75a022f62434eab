//! Real Redis servers for tests: one, or a cluster of six, on free ports, gone when dropped.

mod cluster;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub use self::cluster::RedisCluster;
use crate::error::TestkitError;

/// One Redis server.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    tls_port: Option<u16>,
    password: Option<String>,
    extra: Vec<String>,
    folder: TempDir,
    child: Option<Child>,
}

const SERVER: &str = "redis-server";
const CLIENT: &str = "redis-cli";
/// Far longer than any start takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

// === impl Redis ===

impl Redis {
    /// Start a server.
    ///
    /// # Errors
    /// Redis is not installed, or does not start.
    pub fn start() -> Result<Self, TestkitError> {
        Self::launch(None, &[])
    }

    /// Start a server that wants a password.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub fn with_password(password: &str) -> Result<Self, TestkitError> {
        Self::launch(Some(password), &[])
    }

    /// Start a server that speaks TLS too, on the port of [`Redis::tls_url`], with this certificate and key in PEM.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub fn with_tls(certificate: &Path, key: &Path) -> Result<Self, TestkitError> {
        let port = free_port()?;
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        let words = [
            ["--tls-port", &port.to_string()],
            ["--tls-cert-file", &certificate],
            ["--tls-key-file", &key],
            ["--tls-ca-cert-file", &certificate],
            ["--tls-auth-clients", "no"],
        ];
        let mut redis = Self::launch(None, words.as_flattened())?;
        redis.tls_port = Some(port);
        Ok(redis)
    }

    fn launch(password: Option<&str>, extra: &[&str]) -> Result<Self, TestkitError> {
        let folder = TempDir::new().map_err(|error| TestkitError::new(std::env::temp_dir(), error))?;
        let password = password.map(str::to_owned);
        let extra = extra.iter().map(|&word| word.to_owned()).collect();
        let mut redis = Self { port: 0, tls_port: None, password, extra, folder, child: None };
        // Somebody else may take a port between its choice and its use.
        let mut outcome = Ok(());
        for _ in 0..5 {
            redis.port = free_port()?;
            outcome = redis.restart();
            if outcome.is_ok() {
                break;
            }
        }
        outcome.map(|()| redis)
    }

    /// End the server at once, as a crash would.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Start the server again, on the same port, without what it knew.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub fn restart(&mut self) -> Result<(), TestkitError> {
        self.stop();
        let mut command = Command::new(SERVER);
        let port = self.port.to_string();
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        if let Some(password) = &self.password {
            command.args(["--requirepass", password, "--masterauth", password]);
        }
        command.args(&self.extra).arg("--dir").arg(self.folder.path());
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(quiet.spawn().map_err(missing)?);
        self.wait()
    }

    fn wait(&mut self) -> Result<(), TestkitError> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let ended =
                self.child.as_mut().is_none_or(|child| child.try_wait().is_ok_and(|ended| ended.is_some()));
            if ended {
                return Err(TestkitError::new(SERVER, format!("ended at once on port {}", self.port)));
            }
            if TcpStream::connect(self.address()).is_ok() && self.client(&["ping"])?.contains("PONG") {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(TestkitError::new(SERVER, "does not answer"))
    }

    /// What `redis-cli` prints for these arguments.
    ///
    /// # Errors
    /// `redis-cli` is not installed.
    pub fn client(&self, args: &[&str]) -> Result<String, TestkitError> {
        let mut command = Command::new(CLIENT);
        command.args(["-p", &self.port.to_string()]);
        if let Some(password) = &self.password {
            command.env("REDISCLI_AUTH", password);
        }
        let output = command.args(args).stdin(Stdio::null()).output().map_err(missing)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// `redis://…`, with the password if there is one.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@{}", self.address()),
            None => format!("redis://{}", self.address()),
        }
    }

    /// `rediss://…`, if it was started with a certificate.
    #[must_use]
    pub fn tls_url(&self) -> Option<String> {
        self.tls_port.map(|port| format!("rediss://127.0.0.1:{port}"))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A port that nobody has, low enough for the second port that nodes of a cluster take 10,000 above it.
fn free_port() -> Result<u16, TestkitError> {
    for _ in 0..200 {
        let found = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = found.map_err(|error| TestkitError::new("127.0.0.1", error))?.port();
        // Ports of the system's own choice are taken by connections too: look below them.
        let port = 10_000 + port % 20_000;
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(port) && free(port + 10_000) {
            return Ok(port);
        }
    }
    Err(TestkitError::new("127.0.0.1", "no free port"))
}

fn missing(error: std::io::Error) -> TestkitError {
    TestkitError::new(SERVER, format!("{error}; on Debian and Ubuntu: apt-get install redis-server"))
}
