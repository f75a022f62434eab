//! The processes of one model, started and watched as a supervisor would.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::net::Net;
use crate::process::{http, vlinders};

/// The rank timeout of groups that are not told another one: tests run beside each other, and none must be taken for stopped.
const PATIENCE: &str = "60s";
const SECRET: &str = "0c5f7e1d-between-us";
const MOST: Duration = Duration::from_secs(60);

/// Ranks of one model, each a process.
pub(super) struct Group {
    ranks: Vec<Rank>,
    /// What each rank is told beside its place in the group.
    args: Vec<Vec<String>>,
    /// How many ranks each process is.
    ranks_here: usize,
    folder: tempfile::TempDir,
}

struct Rank {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Group {
    /// Start `size` ranks with the same arguments and wait until rank 0 is ready, or has ended.
    pub(super) fn start(size: usize, net: &Net, args: &[&str]) -> Self {
        Self::start_each(net, &vec![args; size])
    }

    /// The same where each rank has arguments of its own.
    pub(super) fn start_each(net: &Net, args: &[&[&str]]) -> Self {
        let mut group = Self::of(args, 1);
        group.restart(net);
        group
    }

    /// The same where each of `size` processes is several ranks.
    pub(super) fn start_several(size: usize, ranks_here: usize, net: &Net, args: &[&str]) -> Self {
        let mut group = Self::of(&vec![args; size], ranks_here);
        group.restart(net);
        group
    }

    fn of(args: &[&[&str]], ranks_here: usize) -> Self {
        let args = args.iter().map(|args| args.iter().map(ToString::to_string).collect()).collect();
        Self { ranks: Vec::new(), args, ranks_here, folder: tempfile::tempdir().unwrap() }
    }

    /// Start one rank of `size` and wait until it looks for the others.
    pub(super) fn alone(net: &Net, rank: usize, size: usize) -> Self {
        let mut group = Self::of(&vec![&[][..]; size], 1);
        group.ranks.push(group.spawn(net, rank, size));
        let began = Instant::now();
        while !group.log_of(0).contains("joining the other ranks") {
            assert!(began.elapsed() < MOST, "it does not look for the others:\n{}", group.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        group
    }

    /// Start all ranks again, at the same addresses.
    pub(super) fn restart(&mut self, net: &Net) {
        let size = self.args.len();
        self.ranks = (0..size).map(|rank| self.spawn(net, rank, size)).collect();
        let began = Instant::now();
        while !self.log_of(0).contains("\"ready: ") && self.ranks[0].child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < MOST, "rank 0 does not become ready:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn spawn(&self, net: &Net, rank: usize, size: usize) -> Rank {
        let binary = vlinders(self.folder.path());
        let prefix = net.prefix(rank);
        let mut command = match prefix.split_first() {
            None => binary,
            Some((program, rest)) => {
                let mut command = Command::new(program);
                command.args(rest).arg(binary.get_program()).current_dir(self.folder.path());
                command.stdin(Stdio::null());
                command
            }
        };
        command.args(["worker", "--model", vlinders_demo::MODEL_NAME, "--log-format", "json"]);
        command.args(["--host", "127.0.0.1", "--port", "0"]).args(&self.args[rank]);
        if size > 1 {
            let (place, ranks) = (rank.to_string(), (size * self.ranks_here).to_string());
            if self.ranks_here == 1 {
                command.args(["--rank", &place]);
            } else {
                command.args(["--process", &place, "--ranks-here", &self.ranks_here.to_string()]);
            }
            command.args(["--ranks", &ranks, "--leader", net.leader(rank)]);
            if !self.args[rank].iter().any(|arg| arg == "--rank-timeout") {
                command.args(["--rank-timeout", PATIENCE]);
            }
            command.env("VLINDERS_GROUP_SECRET", SECRET);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, into) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        let reader = std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                *into.lock().unwrap() += &(line + "\n");
            }
        });
        Rank { child, log, reader: Some(reader) }
    }

    pub(super) fn size(&self) -> usize {
        self.ranks.len()
    }

    /// Where rank 0 answers.
    pub(super) fn url(&self) -> String {
        let log = self.log_of(0);
        let line = log.lines().find(|line| line.contains("\"ready: "));
        let line = line.unwrap_or_else(|| panic!("rank 0 is not ready:\n{}", self.log()));
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        format!("http://{}", event["address"].as_str().unwrap())
    }

    /// Wait until a request is being computed.
    pub(super) async fn wait_for_running(&self) {
        let began = Instant::now();
        loop {
            let metrics =
                http().get(format!("{}/metrics", self.url())).send().await.unwrap().text().await.unwrap();
            let runs = |line: &str| line.starts_with("vlinders_num_requests_running") && line.ends_with(" 1");
            if metrics.lines().any(runs) {
                return;
            }
            assert!(began.elapsed() < MOST, "no request runs:\n{metrics}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) fn signal(&self, rank: usize, name: &str) {
        let pid = self.ranks[rank].child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    pub(super) fn signal_all(&self, name: &str) {
        (0..self.size()).for_each(|rank| self.signal(rank, name));
    }

    /// The status with which a rank ends; `None` when a signal ended it.
    pub(super) fn wait(&mut self, rank: usize) -> Option<i32> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.ranks[rank].child.try_wait().unwrap() {
                if let Some(reader) = self.ranks[rank].reader.take() {
                    reader.join().unwrap();
                }
                return status.code();
            }
            assert!(began.elapsed() < MOST, "rank {rank} does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(super) fn wait_all(&mut self) -> Vec<Option<i32>> {
        (0..self.size()).map(|rank| self.wait(rank)).collect()
    }

    /// Every rank must end with status 1; gives all that they said, which must not be the secret.
    pub(super) fn fails(&mut self) -> String {
        assert_eq!(self.wait_all(), vec![Some(1); self.size()], "{}", self.log());
        assert!(!self.log().contains(SECRET), "{}", self.log());
        self.log()
    }

    fn log_of(&self, rank: usize) -> String {
        self.ranks[rank].log.lock().unwrap().clone()
    }

    pub(super) fn log(&self) -> String {
        let log = |rank| format!("rank {rank}:\n{}", self.log_of(rank));
        (0..self.size()).map(log).collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for rank in &mut self.ranks {
            let _ = rank.child.kill();
            let _ = rank.child.wait();
        }
    }
}
