//! Messages that are not what rank 0 sent.

use std::ops::Range;

use vlinders_engine::{SeqId, SequenceWork};

use super::*;

fn plan(step: u64) -> StepPlan {
    let work = SequenceWork {
        seq: SeqId(0),
        tokens: 0..2,
        start: 0,
        reset_blocks: true,
        blocks: 0..1,
        sample: true,
        num_generated: 0,
    };
    StepPlan { step, work: vec![work], tokens: vec![5, 6], blocks: vec![7], ..StepPlan::default() }
}

fn message(plan: &StepPlan, chain: u64) -> Vec<u8> {
    let body = postcard::to_extend(plan, Vec::new()).unwrap();
    [xxh3_64_with_seed(&body, chain).to_le_bytes().to_vec(), body].concat()
}

fn error(message: &[u8]) -> String {
    receive(message, &mut 0).unwrap_err().0
}

#[test]
fn plans_arrive_as_they_were_sent() {
    let mut chain = 0;
    for step in 1..4 {
        let sent = message(&plan(step), chain);
        assert_eq!(receive(&sent, &mut chain).unwrap(), plan(step));
    }
}

#[test]
fn a_plan_that_is_lost_damaged_or_sent_twice_is_noticed() {
    let first = message(&plan(1), 0);
    let mut chain = 0;
    receive(&first, &mut chain).unwrap();
    let lost = message(&plan(3), 99);
    assert!(
        receive(&lost, &mut chain.clone()).unwrap_err().0.contains("is not the one that rank 0 sent next")
    );
    assert!(receive(&first, &mut chain.clone()).is_err(), "sent twice");
    for at in 0..first.len() {
        let mut damaged = first.clone();
        damaged[at] ^= 4;
        assert!(error(&damaged).contains("is not the one"), "byte {at}");
        assert!(receive(&first[..at], &mut 0).is_err(), "cut at {at}");
    }
}

#[test]
fn a_plan_that_points_outside_of_itself_is_refused() {
    let mut bad = plan(1);
    bad.work[0].tokens = 0..3;
    assert!(error(&message(&bad, 0)).contains("points outside of itself"));
    bad.work[0].tokens = Range { start: 2, end: 1 };
    assert!(error(&message(&bad, 0)).contains("points outside of itself"));
    let hash = xxh3_64_with_seed(&[0xff; 12], 0).to_le_bytes();
    assert!(error(&[&hash[..], &[0xff; 12]].concat()).contains("can not be read"));
}
