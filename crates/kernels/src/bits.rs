//! Sets of CPUs and of memory nodes as the system takes them: one bit for each number.

/// The words whose bits are `numbers`.
pub(crate) fn bits(numbers: &[usize]) -> Vec<libc::c_ulong> {
    let per_word = libc::c_ulong::BITS as usize;
    let mut words = vec![0; numbers.iter().max().map_or(1, |most| most / per_word + 1)];
    for number in numbers {
        words[number / per_word] |= 1 << (number % per_word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_one_bit() {
        assert_eq!(bits(&[]), [0]);
        assert_eq!(bits(&[0, 2]), [5]);
        assert_eq!(bits(&[63, 64, 130]), [1 << 63, 1, 4]);
    }
}
