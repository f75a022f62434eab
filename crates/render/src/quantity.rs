//! Amounts of memory as Kubernetes writes them.

const UNITS: [(&str, u64); 4] = [("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];

/// In the largest unit that leaves no remainder: `40Gi`, `1536Mi`.
pub(crate) fn quantity(bytes: u64) -> String {
    let unit = UNITS.iter().find(|(_, size)| bytes > 0 && bytes.is_multiple_of(*size));
    unit.map_or_else(|| bytes.to_string(), |(unit, size)| format!("{}{unit}", bytes / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_unit_without_a_remainder() {
        for (bytes, text) in
            [(40 << 30, "40Gi"), (1536 << 20, "1536Mi"), (2 << 40, "2Ti"), (1025, "1025"), (0, "0")]
        {
            assert_eq!(quantity(bytes), text);
        }
    }
}
