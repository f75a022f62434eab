//! The table of what each kernel takes, and what counts as a difference from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, bail};

const HEADER: &str = "\
# What each kernel takes, as ptxas says it. Compared by `cargo xtask cuda`, written by `cargo xtask cuda --update`.
# spill_bytes are stores and loads together, shared_bytes are the static ones.
";
const NVCC: &str = "# nvcc ";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Resources {
    pub(super) registers: u32,
    pub(super) spill_bytes: u32,
    pub(super) stack_bytes: u32,
    pub(super) shared_bytes: u32,
}

/// By kernel and architecture (`sm_90`).
pub(super) type Kernels = BTreeMap<(String, String), Resources>;

#[derive(Debug, PartialEq)]
pub(super) struct Table {
    /// The version that the numbers are of.
    pub(super) nvcc: String,
    pub(super) kernels: Kernels,
}

impl Table {
    /// Kernels, each counted once; functions that were not inlined have no registers and are none.
    pub(super) fn num_kernels(&self) -> usize {
        let kernels = self.kernels.iter().filter(|(_, resources)| resources.registers > 0);
        kernels.map(|((kernel, _), _)| kernel).collect::<BTreeSet<_>>().len()
    }

    /// One line for each kernel that spills.
    pub(super) fn spilling(&self) -> impl Iterator<Item = String> {
        let spilling = self.kernels.iter().filter(|(_, resources)| resources.spill_bytes > 0);
        spilling.map(|((kernel, arch), of)| format!("{kernel} {arch} spills {} bytes", of.spill_bytes))
    }

    /// One line for each thing that is not as in this table. Another compiler has other registers and stacks, and may
    /// spill less.
    pub(super) fn differences(&self, now: &Self) -> Vec<String> {
        let same_nvcc = self.nvcc == now.nvcc;
        let mut found = Vec::new();
        for ((kernel, arch), is) in &now.kernels {
            let Some(was) = self.kernels.get(&(kernel.clone(), arch.clone())) else {
                found.push(format!("{kernel} {arch}: not in the table"));
                continue;
            };
            let spills_differ =
                if same_nvcc { is.spill_bytes != was.spill_bytes } else { is.spill_bytes > was.spill_bytes };
            let compared = [
                ("registers", was.registers, is.registers, same_nvcc && was.registers != is.registers),
                ("spill_bytes", was.spill_bytes, is.spill_bytes, spills_differ),
                (
                    "stack_bytes",
                    was.stack_bytes,
                    is.stack_bytes,
                    same_nvcc && was.stack_bytes != is.stack_bytes,
                ),
                ("shared_bytes", was.shared_bytes, is.shared_bytes, was.shared_bytes != is.shared_bytes),
            ];
            for (what, was, is, _) in compared.iter().filter(|(.., differs)| *differs) {
                found.push(format!("{kernel} {arch}: {what} in the table {was}, now {is}"));
            }
        }
        for (kernel, arch) in self.kernels.keys().filter(|key| !now.kernels.contains_key(*key)) {
            found.push(format!("{kernel} {arch}: in the table, but in no source"));
        }
        found
    }
}

impl FromStr for Table {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let nvcc =
            text.lines().find_map(|line| line.strip_prefix(NVCC)).context("no line `# nvcc VERSION`")?;
        let mut kernels = Kernels::new();
        for (idx, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
            let row = || format!("line {}: {line}", idx + 1);
            let [kernel, arch, numbers @ ..] = &line.split_whitespace().collect::<Vec<_>>()[..] else {
                bail!("{}: not a row of the table", row());
            };
            let numbers: Vec<u32> =
                numbers.iter().map(|number| number.parse()).collect::<Result<_, _>>().with_context(row)?;
            let [registers, spill_bytes, stack_bytes, shared_bytes] = numbers[..] else {
                bail!("{}: not four numbers", row());
            };
            let resources = Resources { registers, spill_bytes, stack_bytes, shared_bytes };
            if kernels.insert(((*kernel).to_owned(), (*arch).to_owned()), resources).is_some() {
                bail!("{}: stands there twice", row());
            }
        }
        Ok(Self { nvcc: nvcc.trim().to_owned(), kernels })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}{NVCC}{}", self.nvcc)?;
        writeln!(f, "# kernel arch registers spill_bytes stack_bytes shared_bytes")?;
        for ((kernel, arch), of) in &self.kernels {
            let Resources { registers, spill_bytes, stack_bytes, shared_bytes } = of;
            writeln!(f, "{kernel} {arch} {registers} {spill_bytes} {stack_bytes} {shared_bytes}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(nvcc: &str, rows: &str) -> Table {
        format!("# nvcc {nvcc}\n{rows}").parse().unwrap()
    }

    #[test]
    fn a_table_that_is_written_is_read_again() {
        let table = table(
            "13.0.88",
            "rope sm_80 40 0 0 0\nrms_norm sm_90 10 8 16 128\nrms_norm sm_80 11 0 0 128\n_Z1f sm_80 0 0 0 0\n",
        );
        assert_eq!(table.to_string().parse::<Table>().unwrap(), table);
        assert_eq!(
            table.kernels[&("rms_norm".to_owned(), "sm_90".to_owned())],
            Resources { registers: 10, spill_bytes: 8, stack_bytes: 16, shared_bytes: 128 }
        );
        assert_eq!(table.num_kernels(), 2);
        assert_eq!(table.spilling().collect::<Vec<_>>(), ["rms_norm sm_90 spills 8 bytes"]);
    }

    #[test]
    fn rows_that_are_none_are_errors() {
        for rows in [
            "rope",
            "rope sm_80 1 2 3",
            "rope sm_80 1 2 3 4 5",
            "rope sm_80 1 2 3 x",
            "a b 1 2 3 4\na b 1 2 3 4",
        ] {
            assert!(format!("# nvcc 13.0.88\n{rows}\n").parse::<Table>().is_err(), "{rows}");
        }
        assert!("rope sm_80 1 2 3 4\n".parse::<Table>().is_err(), "no version");
    }

    #[test]
    fn each_number_that_differs_is_named() {
        let was = table("13.0.88", "rope sm_80 40 0 0 16\nrope sm_90 40 8 8 16\n");
        assert_eq!(was.differences(&was), [""; 0]);
        let is = table("13.0.88", "rope sm_80 41 4 8 32\nrope sm_90 40 4 8 16\n");
        assert_eq!(
            was.differences(&is),
            [
                "rope sm_80: registers in the table 40, now 41",
                "rope sm_80: spill_bytes in the table 0, now 4",
                "rope sm_80: stack_bytes in the table 0, now 8",
                "rope sm_80: shared_bytes in the table 16, now 32",
                "rope sm_90: spill_bytes in the table 8, now 4",
            ]
        );
    }

    #[test]
    fn kernels_on_one_side_only_are_differences() {
        let was = table("13.0.88", "gone sm_80 40 0 0 0\nrope sm_90 40 0 0 0\n");
        let is = table("13.0.90", "rope sm_90 40 0 0 0\nrope sm_90a 40 0 0 0\n");
        assert_eq!(
            was.differences(&is),
            ["rope sm_90a: not in the table", "gone sm_80: in the table, but in no source"]
        );
    }

    #[test]
    fn of_another_compiler_only_more_spills_and_shared_memory_count() {
        let was = table("13.0.88", "a sm_80 40 8 8 16\n");
        assert_eq!(was.differences(&table("12.8.93", "a sm_80 50 4 64 16\n")), [""; 0]);
        assert_eq!(was.differences(&table("12.8.93", "a sm_80 50 12 64 32\n")).len(), 2);
    }
}
