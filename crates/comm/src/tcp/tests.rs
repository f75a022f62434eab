//! Connections do what every group of ranks does; and what becomes of a group whose ranks do not come, do not belong to it, or
//! fall silent.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use super::*;
use crate::conformance::{backwards, conformance, tensor};

fn options(rank: usize, size: usize, leader: &str) -> GroupOptions {
    GroupOptions {
        secret: GroupSecret::new(*b"between us"),
        join_timeout: Duration::from_secs(60),
        silence: Duration::from_secs(30),
        ..GroupOptions::new(rank, size, leader)
    }
}

/// An address that is free, as far as one can know.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn join_all(all: Vec<GroupOptions>) -> Vec<Result<Tcp, JoinError>> {
    let joining: Vec<_> = all.into_iter().map(|options| thread::spawn(move || Tcp::join(&options))).collect();
    joining.into_iter().map(|rank| rank.join().unwrap()).collect()
}

fn ranks(size: usize) -> Vec<Tcp> {
    let leader = free_address();
    let all = (0..size).map(|rank| options(rank, size, &leader)).collect();
    join_all(all).into_iter().map(Result::unwrap).collect()
}

fn group(size: usize) -> Vec<Box<dyn Communicator>> {
    let boxed = |rank: Tcp| Box::new(rank.with_threads(backwards)) as Box<dyn Communicator>;
    ranks(size).into_iter().map(boxed).collect()
}

conformance!(group);

#[test]
fn ranks_of_one_machine_know_each_other() {
    assert!(ranks(3).iter().all(|rank| rank.ranks_here() == [0, 1, 2]));
}

#[test]
fn ranks_that_do_not_come_are_named() {
    let leader = free_address();
    let brief = Duration::from_millis(300);
    let short = |rank| GroupOptions { join_timeout: brief, ..options(rank, 4, &leader) };
    let mut outcomes = join_all(vec![short(0), GroupOptions { join_timeout: brief * 20, ..short(2) }]);
    let second = outcomes.pop().unwrap().err().unwrap().to_string();
    let first = outcomes.pop().unwrap().err().unwrap().to_string();
    assert_eq!(first, "rank 1, 3 did not come within 300ms; each rank of the group must be started");
    assert!(second.starts_with(&format!("rank 0 does not answer at {leader} (")), "{second}");
    let error = Tcp::join(&options(4, 4, &leader)).err().unwrap().to_string();
    assert_eq!(error, "rank 4 of 4: ranks count from 0, and a group has at least two");
}

#[test]
fn who_does_not_belong_is_turned_away_and_the_group_meets_all_the_same() {
    let leader = free_address();
    let first = thread::spawn({
        let options = options(0, 2, &leader);
        move || Tcp::join(&options)
    });
    let other_size = Tcp::join(&options(1, 3, &leader)).err().unwrap().to_string();
    assert!(other_size.ends_with("it was started with 2 ranks, this one with 3"), "{other_size}");
    let secret = GroupSecret::new(*b"a guess");
    let stranger = Tcp::join(&GroupOptions { secret, ..options(1, 2, &leader) }).err().unwrap().to_string();
    assert!(stranger.ends_with("it knows another group secret"), "{stranger}");
    let mut browser = TcpStream::connect(&leader).unwrap();
    browser.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let second = Tcp::join(&options(1, 2, &leader)).unwrap();
    let first = first.join().unwrap().unwrap();
    let met = thread::spawn(move || (first.barrier().is_ok(), first));
    assert!(second.barrier().is_ok());
    assert!(met.join().unwrap().0);
}

/// A connection that is open and silent, as that of a process that was stopped.
#[test]
fn silence_breaks_the_group_while_nobody_computes() {
    let (near, far) = connected();
    let health = Arc::new(Health::new(0, vec![None, Some(near)], vec![None, None]));
    let silence = Duration::from_millis(400);
    let watching = Arc::clone(&health);
    let began = Instant::now();
    thread::spawn(move || pulse::watch(&watching, silence));
    let reason = health.wait();
    assert!(began.elapsed() >= silence);
    assert!(reason.starts_with("rank 1 has given no sign of life for "), "{reason}");
    drop(far);
}

#[test]
fn a_closed_connection_breaks_the_group_at_once() {
    let (near, far) = connected();
    let health = Arc::new(Health::new(0, vec![None, Some(near)], vec![None, None]));
    let watching = Arc::clone(&health);
    thread::spawn(move || pulse::watch(&watching, Duration::from_secs(3600)));
    assert_eq!(health.wait_for(Duration::from_millis(100)), None);
    drop(far);
    assert_eq!(health.wait(), "rank 1 is gone: its connection was closed");
}

#[test]
fn a_rank_that_waits_for_numbers_hears_of_the_end() {
    let mut ranks = ranks(3);
    let (third, second) = (ranks.pop().unwrap(), ranks.pop().unwrap());
    let watcher = ranks[0].watcher();
    let waiting =
        thread::spawn(move || second.all_reduce(&tensor(&[1.0])).map(drop).unwrap_err().to_string());
    thread::sleep(Duration::from_millis(50));
    drop(third);
    assert!(waiting.join().unwrap().ends_with("rank 2 has ended"));
    assert_eq!(watcher.wait(), GroupEnd::Broken("rank 2 has ended".to_owned()));
}

#[test]
fn the_first_rank_is_asked_once_and_the_group_goes_on() {
    let ranks = ranks(3);
    let watcher = ranks[0].watcher();
    ranks[2].watcher().ask_to_end();
    assert_eq!(watcher.wait(), GroupEnd::Asked { rank: 2 });
    let met: Vec<_> =
        ranks.into_iter().map(|rank| thread::spawn(move || (rank.barrier().is_ok(), rank))).collect();
    let met: Vec<_> = met.into_iter().map(|rank| rank.join().unwrap()).collect();
    assert!(met.iter().all(|(met, _)| *met));
    drop(met);
    assert!(matches!(watcher.wait(), GroupEnd::Broken(_)));
}

#[test]
fn what_is_no_message_is_an_error() {
    let (near, far) = connected();
    let tcp = Tcp {
        rank: 0,
        size: 2,
        health: Arc::new(Health::new(0, vec![None, None], vec![None, Some(near)])),
        calls: Calls::default(),
        hosts: vec![0; 2],
        scratch: Mutex::default(),
        parallel: serially,
    };
    (&far).write_all(&[0xff; 64]).unwrap();
    let error = tcp.broadcast_bytes(&mut Vec::new(), 1).unwrap_err().to_string();
    assert_eq!(error, "rank 1 sends what is no message");
}

fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let near = listener.accept().unwrap().0;
    near.set_nonblocking(true).unwrap();
    (near, far)
}
