//! Ownership, reuse and eviction of blocks.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::block_table::BlockTable;
use crate::prefix::BlockHasher;

fn hash(content: u32) -> BlockHash {
    BlockHasher::with_seed(1).hash(None, &[content], &[])
}

/// Fill, seal and drop a block with each content, in this order.
fn pool_with_idle(num_blocks: usize, contents: &[u32]) -> BlockPool {
    let pool = BlockPool::new(num_blocks);
    contents.iter().for_each(|content| drop(pool.allocate().unwrap().seal(Some(hash(*content)))));
    pool.assert_consistent();
    pool
}

#[test]
fn dropping_gives_back() {
    let pool = BlockPool::new(2);
    let first = pool.allocate().unwrap();
    let second = pool.allocate().unwrap();
    assert_ne!(first.id(), second.id());
    assert!(pool.allocate().is_none(), "a held block is not given again");
    drop(first);
    assert_eq!((pool.num_free(), pool.num_held()), (1, 1));
    let shared = second.seal(None);
    let again = shared.clone();
    drop(shared);
    assert_eq!(pool.num_held(), 1, "one owner is left");
    drop(again);
    assert_eq!((pool.num_free(), pool.num_held(), pool.num_idle()), (2, 0, 0));
    pool.assert_consistent();
}

#[test]
fn content_is_found_while_held_and_while_idle() {
    let pool = BlockPool::new(1);
    let block = pool.allocate().unwrap();
    assert!(pool.find(hash(1)).is_none(), "not before it is full");
    let block = block.seal(Some(hash(1)));
    let found = pool.find(hash(1)).unwrap();
    assert_eq!(found.id(), block.id());
    drop(block);
    assert_eq!((pool.num_held(), pool.num_idle()), (1, 0));
    drop(found);
    assert_eq!((pool.num_held(), pool.num_idle()), (0, 1));
    let found = pool.find(hash(1)).unwrap();
    assert_eq!((pool.num_held(), pool.num_idle()), (1, 0));
    assert!(pool.allocate().is_none(), "a block in use is not evicted");
    drop(found);
    drop(pool.allocate().unwrap());
    assert!(pool.find(hash(1)).is_none(), "evicted content is gone");
    pool.assert_consistent();
}

#[test]
fn the_least_recently_used_goes_first() {
    let check = |idle: &[u32], used: &[u32], allocated: usize, expect: &[u32]| {
        let pool = pool_with_idle(4, idle);
        used.iter().for_each(|content| drop(pool.find(hash(*content)).unwrap()));
        let held: Vec<_> = (0..allocated).map(|_| pool.allocate().unwrap()).collect();
        let left: Vec<u32> = (0..10).filter(|content| pool.find(hash(*content)).is_some()).collect();
        assert_eq!(left, expect);
        drop(held);
        pool.assert_consistent();
    };
    check(&[1, 2], &[], 2, &[1, 2]);
    check(&[1, 2], &[], 3, &[2]);
    check(&[1, 2, 3, 4], &[], 1, &[2, 3, 4]);
    check(&[1, 2, 3, 4], &[1], 1, &[1, 3, 4]);
    check(&[1, 2, 3, 4], &[1, 2, 3], 3, &[3]);
    check(&[1, 2, 3, 4], &[], 4, &[]);
}

#[test]
fn equal_content_twice_is_found_once() {
    let pool = BlockPool::new(2);
    let first = pool.allocate().unwrap().seal(Some(hash(1)));
    let second = pool.allocate().unwrap().seal(Some(hash(1)));
    assert_eq!(pool.find(hash(1)).unwrap().id(), first.id());
    drop(second);
    assert_eq!(pool.num_idle(), 0, "the second is blank");
    drop(first);
    assert_eq!(pool.num_idle(), 1);
    pool.assert_consistent();
}

#[test]
fn the_beginning_of_a_prefix_is_evicted_last() {
    let pool = BlockPool::new(3);
    let mut table = BlockTable::default();
    (0..3).for_each(|_| table.push(pool.allocate().unwrap()));
    table.seal([1, 2, 3].map(|content| Some(hash(content))).into_iter());
    drop(table);
    let _held = pool.allocate().unwrap();
    assert!(pool.find(hash(3)).is_none());
    assert!(pool.find(hash(1)).is_some() && pool.find(hash(2)).is_some());
}

#[test]
fn a_table_lists_full_blocks_then_those_that_fill() {
    let pool = BlockPool::new(4);
    let mut table = BlockTable::default();
    (0..3).for_each(|_| table.push(pool.allocate().unwrap()));
    let all: Vec<_> = table.ids(0).collect();
    assert_eq!(all.len(), 3);
    table.seal([None, None].into_iter());
    assert_eq!((table.num_full(), table.len()), (2, 3));
    for from in 0..=3 {
        assert_eq!(table.ids(from).collect::<Vec<_>>(), all[from..]);
    }
    table.clear();
    assert!(table.is_empty());
    assert_eq!(pool.num_held(), 0);
}

#[derive(Debug, Clone)]
enum Op {
    Allocate,
    Seal(usize, u32),
    Find(u32),
    Clone(usize),
    DropMutable(usize),
    DropShared(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Allocate),
        3 => (any::<usize>(), 0..12_u32).prop_map(|(which, content)| Op::Seal(which, content)),
        2 => (0..12_u32).prop_map(Op::Find),
        1 => any::<usize>().prop_map(Op::Clone),
        1 => any::<usize>().prop_map(Op::DropMutable),
        3 => any::<usize>().prop_map(Op::DropShared),
    ]
}

proptest! {
    /// Against a model in which each block has the content it was last sealed with. Of two blocks that are sealed
    /// with the same content, only the first can be found.
    #[test]
    fn blocks_have_one_content_while_they_are_held(num_blocks in 1..6_usize, ops in vec(op(), 0..80)) {
        let pool = BlockPool::new(num_blocks);
        let mut filling: Vec<MutableBlock> = Vec::new();
        let mut full: Vec<(SharedBlock, u32, bool)> = Vec::new();
        for op in ops {
            match op {
                Op::Allocate => match pool.allocate() {
                    Some(block) => {
                        prop_assert!(filling.iter().all(|other| other.id() != block.id()));
                        prop_assert!(full.iter().all(|(other, _, _)| other.id() != block.id()));
                        filling.push(block);
                    }
                    None => prop_assert_eq!(pool.num_held(), num_blocks),
                },
                Op::Seal(which, content) if !filling.is_empty() => {
                    let block = filling.swap_remove(which % filling.len());
                    let first = pool.find(hash(content)).is_none();
                    full.push((block.seal(Some(hash(content))), content, first));
                }
                Op::Find(content) => {
                    let held = full.iter().any(|(_, other, first)| *other == content && *first);
                    if let Some(block) = pool.find(hash(content)) {
                        let same = full.iter().filter(|(other, _, _)| other.id() == block.id());
                        prop_assert!(same.clone().all(|(_, other, _)| *other == content));
                        full.push((block, content, true));
                    } else {
                        prop_assert!(!held, "what is held is found");
                    }
                }
                Op::Clone(which) if !full.is_empty() => {
                    let (block, content, first) = &full[which % full.len()];
                    full.push((block.clone(), *content, *first));
                }
                Op::DropMutable(which) if !filling.is_empty() => {
                    filling.swap_remove(which % filling.len());
                }
                Op::DropShared(which) if !full.is_empty() => {
                    full.swap_remove(which % full.len());
                }
                _ => {}
            }
            pool.assert_consistent();
            let mut ids: Vec<_> = full.iter().map(|(block, _, _)| block.id()).collect();
            ids.extend(filling.iter().map(MutableBlock::id));
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!(ids.len(), pool.num_held());
        }
        drop((filling, full));
        prop_assert_eq!(pool.num_free(), num_blocks);
        pool.assert_consistent();
    }
}
