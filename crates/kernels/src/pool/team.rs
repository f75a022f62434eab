//! Threads for each rank of a model that is split among threads of one process: ranks compute at the same time, so they
//! can not take turns on one pool.

use std::sync::atomic::Ordering;

use super::step::{StepGuard, begin_step_in};
use super::{MAX_THREADS, Pool};
use crate::topology::topology;

/// The threads of one rank, that of the rank itself included. They stay until the process ends.
#[derive(Clone, Copy)]
pub struct Team(&'static Pool);

/// Share the threads of the process among `teams` ranks, each of which gets one at least. `max_threads` is the most that
/// they may have together. Where the threads of the process are bound to cores, so are these.
#[must_use]
pub fn split_threads(teams: usize, max_threads: Option<usize>) -> Vec<Team> {
    let process = Pool::global();
    let threads = process.num_threads.load(Ordering::Relaxed).min(max_threads.unwrap_or(MAX_THREADS)).max(1);
    let cpus = process.plan.cpus();
    let is_crowded = threads.max(teams) > topology().usable;
    let cut = |team: usize| threads * team / teams.max(1);
    let team = |team: usize| {
        let own = cut(team)..cut(team + 1);
        let size = own.len().max(1);
        let pool: &'static Pool = Box::leak(Box::new(Pool::with_room_for(size)));
        if own.len() == size
            && let Some(cpus) = cpus.get(own)
        {
            pool.plan.set(cpus.to_vec());
        }
        pool.resize(size);
        pool.crowded.store(is_crowded, Ordering::Relaxed);
        Team(pool)
    };
    (0..teams).map(team).collect()
}

// === impl Team ===

impl Team {
    /// Begin a step on this thread, with the threads of the team: see [`begin_step`](super::begin_step).
    pub fn begin_step(self) -> StepGuard {
        begin_step_in(self.0, usize::MAX)
    }

    /// How many threads it has.
    #[must_use]
    pub fn num_threads(self) -> usize {
        self.0.num_threads.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Team {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Team({} threads)", self.num_threads())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::{Barrier, Mutex};
    use std::thread::{self, ThreadId};

    use super::*;
    use crate::{num_threads, parallel_for, set_num_threads};

    /// The threads that take part in many small regions of a step.
    fn threads_of(team: Team) -> HashSet<ThreadId> {
        let _step = team.begin_step();
        let seen = Mutex::new(HashSet::new());
        // Chunks that wait for each other need a thread each.
        let all = Barrier::new(num_threads());
        parallel_for(num_threads(), &|_| {
            all.wait();
            seen.lock().unwrap().insert(thread::current().id());
        })
        .unwrap();
        seen.into_inner().unwrap()
    }

    #[test]
    fn teams_share_the_threads_and_compute_at_the_same_time() {
        set_num_threads(5);
        let sizes =
            |teams, most| split_threads(teams, most).into_iter().map(Team::num_threads).collect::<Vec<_>>();
        assert_eq!(sizes(2, None), [2, 3]);
        assert_eq!(sizes(2, Some(2)), [1, 1]);
        assert_eq!(sizes(8, None), [1; 8]);
        let teams = split_threads(2, None);
        let seen: Vec<_> = thread::scope(|scope| {
            let ranks: Vec<_> = teams.into_iter().map(|team| scope.spawn(move || threads_of(team))).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        });
        assert_eq!(seen.iter().map(HashSet::len).collect::<Vec<_>>(), [2, 3]);
        assert!(seen[0].is_disjoint(&seen[1]));
    }

    #[test]
    fn a_step_of_a_team_ends_with_its_guard() {
        set_num_threads(4);
        let team = split_threads(2, None)[0];
        let inside = {
            let _step = team.begin_step();
            num_threads()
        };
        assert_eq!((inside, num_threads()), (2, 4));
    }
}
