//! Collectives between the ranks of one model.
//!
//! A rank is one share of a tensor-parallel model. Every rank calls the same collectives in the same
//! order. [`Single`] is the group of one, in which they cost nothing; [`Threads`] joins ranks of one process, [`Tcp`] processes.
//! These carry plans, and numbers in memory of the host; what GPUs exchange goes its own way, between kernels.
//! A group is whole or broken: when one rank leaves, every call of the others fails, and says why.

#![allow(unsafe_code, reason = "ranks write their slices of one sum; bytes of numbers go out where they lie")]

mod call;
mod communicator;
#[cfg(test)]
mod conformance;
mod numbers;
mod outline;
mod single;
mod tcp;
mod threads;

pub use self::{
    communicator::{CommError, Communicator},
    numbers::ParallelFor,
    outline::Outline,
    single::Single,
    tcp::{GroupEnd, GroupOptions, GroupSecret, JoinError, Tcp, Watcher},
    threads::Threads,
};
