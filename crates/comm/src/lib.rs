//! Collectives between the ranks of one model.
//!
//! A rank is one share of a tensor-parallel model. Every rank calls the same collectives in the same
//! order; [`Single`] is the group of one, in which they cost nothing.

mod communicator;
mod single;

pub use self::{
    communicator::{CommError, Communicator},
    single::Single,
};
