//! Threads do what every group does, and miss those that have ended.

use std::thread;
use std::time::Duration;

use super::*;
use crate::conformance::{backwards, conformance};

fn group(size: usize) -> Vec<Box<dyn Communicator>> {
    let boxed = |rank: Threads| Box::new(rank.with_threads(backwards)) as Box<dyn Communicator>;
    Threads::group(size).into_iter().map(boxed).collect()
}

conformance!(group);

#[test]
fn a_rank_whose_thread_ends_is_missed_by_those_that_sleep() {
    let mut ranks = Threads::group(2);
    let second = ranks.pop().unwrap();
    let first = ranks.pop().unwrap();
    let waiting = thread::spawn(move || first.broadcast_bytes(&mut Vec::new(), 1).unwrap_err().to_string());
    thread::sleep(Duration::from_millis(20));
    drop(second);
    assert!(waiting.join().unwrap().ends_with("rank 1 has ended"));
}
