//! The group of one rank: every collective is the identity.

use candle_core::Tensor;

use crate::{CommError, Communicator};

/// One rank alone. A tensor is returned as it is, without a copy.
#[derive(Debug, Clone, Copy, Default)]
pub struct Single;

// === impl Single ===

impl Communicator for Single {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_reduce(&self, x: &Tensor) -> Result<Tensor, CommError> {
        Ok(x.clone())
    }

    fn all_gather(&self, x: &Tensor) -> Result<Tensor, CommError> {
        Ok(x.clone())
    }

    fn broadcast(&self, x: &Tensor, root: usize) -> Result<Tensor, CommError> {
        match root {
            0 => Ok(x.clone()),
            rank => Err(CommError::NoSuchRank { rank, size: 1 }),
        }
    }

    fn barrier(&self) -> Result<(), CommError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn every_collective_is_the_identity() {
        let x = Tensor::new(&[1f32, -2.0], &Device::Cpu).unwrap();
        let values = |t: Tensor| t.to_vec1::<f32>().unwrap();
        assert_eq!(values(Single.all_reduce(&x).unwrap()), [1.0, -2.0]);
        assert_eq!(values(Single.all_gather(&x).unwrap()), [1.0, -2.0]);
        assert_eq!(values(Single.broadcast(&x, 0).unwrap()), [1.0, -2.0]);
        Single.barrier().unwrap();
    }

    #[test]
    fn a_missing_root_is_an_error() {
        let x = Tensor::new(&[1f32], &Device::Cpu).unwrap();
        let error = Single.broadcast(&x, 3).unwrap_err().to_string();
        assert_eq!(error, "there is no rank 3 in a group of 1");
    }
}
