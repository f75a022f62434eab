//! Which heads of attention one rank has.

use vlinders_comm::Communicator;

use crate::{LayerError, Span};

/// More ranks than this are not listed as valid.
const MOST_RANKS: usize = 64;

/// The heads of one rank: a whole number of queries' heads, and the heads of keys and values that they look at. Where there
/// are fewer of the latter than ranks, several ranks have the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Of queries.
    pub q: Span,
    /// Of keys and of values.
    pub kv: Span,
}

// === impl Heads ===

impl Heads {
    /// The share of a rank, of `q` heads of queries and `kv` heads of keys and values.
    ///
    /// # Errors
    /// When heads would have to be cut: says which numbers of ranks are possible.
    pub fn share(q: usize, kv: usize, communicator: &dyn Communicator) -> Result<Self, LayerError> {
        let (rank, ranks) = (communicator.rank(), communicator.size());
        if !can_split(q, kv, ranks) {
            let valid = (1..=q.min(MOST_RANKS)).filter(|ranks| can_split(q, kv, *ranks)).collect();
            return Err(LayerError::CanNotSplit { ranks, q, kv, valid });
        }
        // Ranks of one group look at the same head where these are scarce.
        let kv_len = (kv / ranks).max(1);
        let kv = Span::of(kv, kv * rank / ranks, kv_len);
        Ok(Self { q: Span::of(q, q / ranks * rank, q / ranks), kv })
    }
}

fn can_split(q: usize, kv: usize, ranks: usize) -> bool {
    ranks > 0 && q.is_multiple_of(ranks) && (kv.is_multiple_of(ranks) || ranks.is_multiple_of(kv))
}

#[cfg(test)]
mod tests {
    use vlinders_comm::Outline;

    use super::*;

    fn share(q: usize, kv: usize, rank: usize, ranks: usize) -> Result<(Vec<usize>, Vec<usize>), String> {
        let heads = Heads::share(q, kv, &Outline::new(rank, ranks).unwrap()).map_err(|e| e.to_string())?;
        Ok((heads.q.range().collect(), heads.kv.range().collect()))
    }

    #[test]
    fn every_query_finds_its_keys_on_its_rank() {
        for (q, kv) in [(8, 8), (8, 4), (8, 2), (8, 1), (12, 4), (6, 3)] {
            for ranks in [1, 2, 3, 4, 6, 8, 12] {
                if !can_split(q, kv, ranks) {
                    continue;
                }
                let mut seen = Vec::new();
                for rank in 0..ranks {
                    let (queries, keys) = share(q, kv, rank, ranks).unwrap();
                    // As the kernel pairs them: equal groups, in order.
                    let group = queries.len() / keys.len();
                    for (i, query) in queries.iter().enumerate() {
                        assert_eq!(keys[i / group], query / (q / kv), "{q} {kv} rank {rank} of {ranks}");
                    }
                    seen.extend(queries);
                }
                assert_eq!(seen, (0..q).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_number_of_ranks_that_cuts_heads_is_told_which_do_not() {
        let error = share(12, 4, 0, 8).unwrap_err();
        assert_eq!(
            error,
            "tensor_parallel_size 8 does not go with 12 heads of queries and 4 of keys and values: possible are 1, 2, 4, 12"
        );
        assert!(share(12, 4, 0, 3).is_err(), "three ranks would cut the four heads of keys");
    }
}
