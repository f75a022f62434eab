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

    fn gather(&self, x: &Tensor, root: usize) -> Result<Option<Tensor>, CommError> {
        CommError::check_root(root, 1)?;
        Ok(Some(x.clone()))
    }

    fn broadcast(&self, x: &Tensor, root: usize) -> Result<Tensor, CommError> {
        CommError::check_root(root, 1)?;
        Ok(x.clone())
    }

    fn broadcast_bytes(&self, _: &mut Vec<u8>, root: usize) -> Result<(), CommError> {
        CommError::check_root(root, 1)
    }

    fn barrier(&self) -> Result<(), CommError> {
        Ok(())
    }

    fn tag(&self, _: u64) {}

    fn broken(&self) -> Option<String> {
        None
    }

    fn leave(&self, _: &str) {}
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
        assert_eq!(values(Single.gather(&x, 0).unwrap().unwrap()), [1.0, -2.0]);
        let mut bytes = vec![7];
        Single.broadcast_bytes(&mut bytes, 0).unwrap();
        assert_eq!(bytes, [7]);
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
