//! Against the same operation on the CPU.
use super::*;
