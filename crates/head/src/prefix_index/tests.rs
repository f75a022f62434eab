//! Against a plain model that keeps a list for each replica.

use proptest::prelude::*;

use super::*;
use crate::prefix_chain::BLOCK_BYTES;

/// A prompt of these blocks, each filled with its letter.
fn chain(blocks: &[u8]) -> PrefixChain {
    let text: Vec<u8> = blocks.iter().flat_map(|block| [*block; BLOCK_BYTES]).collect();
    PrefixChain::of([text.as_slice()])
}

fn matches(index: &PrefixIndex, blocks: &[u8]) -> Vec<u32> {
    let mut matched = Vec::new();
    index.matches(&chain(blocks), &mut matched);
    matched
}

#[test]
fn who_was_sent_more_of_it_matches_more() {
    let mut index = PrefixIndex::default();
    index.record(0, &chain(b"abcdefgh"), 100);
    index.record(1, &chain(b"abcd"), 100);
    index.record(2, &chain(b"xbcd"), 100);
    // Of who knows less, a lower bound is told.
    assert_eq!(matches(&index, b"abcdefghij"), [8, 3, 0]);
    assert_eq!(matches(&index, b"abcdz"), [4, 4, 0]);
    assert_eq!(matches(&index, b"q"), [0, 0, 0]);
    assert_eq!(matches(&index, b""), [0, 0, 0]);
}

#[test]
fn what_was_used_least_recently_is_forgotten_from_its_end() {
    let mut index = PrefixIndex::default();
    index.record(0, &chain(b"abcd"), 6);
    index.record(0, &chain(b"wxyz"), 6);
    assert_eq!((matches(&index, b"abcd"), matches(&index, b"wxyz")), (vec![2], vec![4]));
    index.record(0, &chain(b"ab"), 6);
    index.record(0, &chain(b"mn"), 6);
    assert_eq!((matches(&index, b"abcd"), matches(&index, b"wxyz")), (vec![2], vec![2]));
}

#[test]
fn a_new_process_holds_nothing() {
    let mut index = PrefixIndex::default();
    index.record(0, &chain(b"ab"), 9);
    index.record(1, &chain(b"abc"), 9);
    index.clear(1);
    index.clear(7);
    assert_eq!(matches(&index, b"abc"), [2, 0]);
    index.clear(0);
    assert_eq!(index.len(), 0);
}

#[test]
fn using_the_same_again_and_again_takes_no_memory() {
    let mut index = PrefixIndex::default();
    for _ in 0..10_000 {
        index.record(0, &chain(b"abc"), 9);
    }
    assert!(index.replicas[0].order.len() < 100);
    assert_eq!(matches(&index, b"abc"), [3]);
}

proptest! {
    #[test]
    fn it_agrees_with_a_list_for_each_replica(
        requests in prop::collection::vec((0..3_u16, prop::collection::vec(0..3_u8, 1..8)), 1..60),
        capacity in 1..20_usize,
    ) {
        let mut index = PrefixIndex::default();
        // Most recently used last.
        let mut lists: [Vec<u64>; 3] = Default::default();
        for (place, blocks) in &requests {
            let chain = chain(blocks);
            let list = &mut lists[usize::from(*place)];
            for hash in chain.hashes().iter().take(capacity).rev() {
                list.retain(|known| known != hash);
                list.push(*hash);
            }
            let surplus = list.len().saturating_sub(capacity);
            list.drain(..surplus);
            index.record(*place, &chain, capacity);
            let mut matched = Vec::new();
            index.matches(&chain, &mut matched);
            let whole = |list: &Vec<u64>| chain.hashes().iter().take_while(|hash| list.contains(hash)).count();
            let most = lists.iter().map(whole).max().unwrap_or(0);
            prop_assert_eq!(matched.iter().copied().max().unwrap_or(0) as usize, most);
            for (found, list) in matched.iter().zip(&lists) {
                prop_assert!(*found as usize <= whole(list));
            }
        }
        for (place, list) in lists.iter().enumerate().take(index.replicas.len()) {
            prop_assert_eq!(index.replicas[place].held, list.len());
        }
        let all: std::collections::HashSet<_> = lists.iter().flatten().collect();
        prop_assert_eq!(index.len(), all.len());
        for place in 0..3 {
            index.clear(place);
        }
        prop_assert_eq!(index.len(), 0);
    }
}
