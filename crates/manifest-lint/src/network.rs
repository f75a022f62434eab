//! Network policies, evaluated: may this pod talk to that one on this port?
//!
//! Semantics of `networking.k8s.io/v1`: a pod that no policy selects for a direction is open in it; one that is selected gets the
//! union of what those policies allow; a connection needs both ends. Items of `from` and `to` are alternatives, the selectors inside
//! one item must all match.

mod allowed;
mod endpoint;
mod policy;
mod selector;
#[cfg(test)]
mod tests;

pub(crate) use self::allowed::{Verdict, verdict};
pub(crate) use self::endpoint::{Endpoint, Pod};
pub(crate) use self::policy::{Peer, Policy};
pub(crate) use self::selector::selects;
