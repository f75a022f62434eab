//! What `ptxas -v` says about each kernel.

use anyhow::{Context as _, bail};

use super::table::Resources;

/// Kernels by name, in the order of the output. A function that was not inlined counts as one: it has spills of its own,
/// and no registers.
///
/// # Errors
/// Matrix products on tensor cores that wait for each other, of which no compiler warns as such; not what ptxas is known to say, or no kernel at all.
pub(super) fn parse(said: &str) -> anyhow::Result<Vec<(String, Resources)>> {
    let mut found: Vec<(String, Resources)> = Vec::new();
    let mut entries = 0;
    for line in said.lines() {
        let text = line.strip_prefix("ptxas info").map_or(line, |rest| rest.trim_start_matches([' ', ':']));
        if text.contains("Potential Performance Loss") {
            bail!("{text}");
        } else if text.starts_with("Compiling entry function") {
            entries += 1;
        } else if let Some(name) = text.strip_prefix("Function properties for ") {
            found.push((name.trim().to_owned(), Resources::default()));
        } else if text.contains("bytes stack frame") {
            let resources = &mut found.last_mut().with_context(|| format!("whose is this? {line}"))?.1;
            let loads = number(text, "bytes spill loads").with_context(|| line.to_owned())?;
            let stores = number(text, "bytes spill stores").with_context(|| line.to_owned())?;
            resources.spill_bytes = stores + loads;
            resources.stack_bytes = number(text, "bytes stack frame").with_context(|| line.to_owned())?;
        } else if let Some(used) = text.strip_prefix("Used ") {
            let resources = &mut found.last_mut().with_context(|| format!("whose is this? {line}"))?.1;
            resources.registers = number(used, "registers").with_context(|| line.to_owned())?;
            resources.shared_bytes = number(used, "bytes smem").unwrap_or(0);
            // With the frames of what it calls.
            let stack = number(used, "bytes cumulative stack size").unwrap_or(0);
            resources.stack_bytes = resources.stack_bytes.max(stack);
        }
    }
    let measured = found.iter().filter(|(_, resources)| resources.registers > 0).count();
    if entries == 0 || measured != entries {
        bail!("ptxas names {entries} kernels and tells about {measured}:\n{said}");
    }
    Ok(found)
}

/// The number before `unit` in a list like `10 registers, 128 bytes smem`.
fn number(list: &str, unit: &str) -> Option<u32> {
    list.split(',').find_map(|part| part.trim().strip_suffix(unit)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// nvcc 13.0.88
    const SAID: &str = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'stacky' for 'sm_90'
ptxas info    : Function properties for stacky
    784 bytes stack frame, 700 bytes spill stores, 696 bytes spill loads
ptxas info    : Used 64 registers, used 0 barriers, 944 bytes cumulative stack size
ptxas info    : Compile time = 20.298 ms
ptxas info    : Function properties for _Z4slowfi
    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Compiling entry function 'rms_norm' for 'sm_90'
ptxas info    : Function properties for rms_norm
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, used 1 barriers, 128 bytes smem, 364 bytes cmem[0]
ptxas info    : Compile time = 1.785 ms
";

    #[test]
    fn each_kernel_and_function_has_its_numbers() {
        let of = |registers, spill_bytes, stack_bytes, shared_bytes| Resources {
            registers,
            spill_bytes,
            stack_bytes,
            shared_bytes,
        };
        assert_eq!(
            parse(SAID).unwrap(),
            [
                ("stacky".to_owned(), of(64, 1396, 944, 0)),
                ("_Z4slowfi".to_owned(), of(0, 12, 16, 0)),
                ("rms_norm".to_owned(), of(10, 0, 0, 128)),
            ]
        );
    }

    #[test]
    fn serialized_tensor_core_products_are_an_error() {
        let loss = "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to \
            wgmma pipeline crossing function boundary at a function call in the function 'g'\n";
        let error = parse(&(loss.to_owned() + SAID)).unwrap_err().to_string();
        assert!(error.contains("serialized") && error.contains("function 'g'"), "{error}");
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        assert!(parse("").is_err(), "no kernel");
        assert!(
            parse(&SAID.replace("Used 10 registers", "Takes 10 registers")).is_err(),
            "a kernel without numbers"
        );
        assert!(parse(&SAID.replace("bytes spill loads", "bytes reloaded")).is_err(), "no spill loads");
        assert!(parse("ptxas info    : Used 10 registers\n").is_err(), "numbers without a kernel");
    }
}
