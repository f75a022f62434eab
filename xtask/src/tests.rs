//! `cargo xtask test`: what "all tests" means, in which order.

use std::path::Path;

use clap::Args;

use crate::{check, clients, cuda, dashboard, deploy, tools};

#[derive(Args)]
pub(crate) struct TestArgs {
    /// Leave out the Python and Node clients, which need those languages and their package registries
    #[arg(long)]
    skip_clients: bool,
    /// Leave out the browser that looks at the dashboard, which needs Chromium and Python's package registry
    #[arg(long)]
    skip_browser: bool,
    /// Leave out compiling the GPU kernels, which needs nvcc, or Python's package registry to set it up
    #[arg(long)]
    skip_cuda: bool,
    /// Leave out what deploys the platform, which needs kubectl, PostgreSQL, Redis and Python's package registry
    #[arg(long)]
    skip_deploy: bool,
}

/// Check the rooms and the GPU kernels, get what the Rust tests talk to, run them and the documentation's examples, then
/// the clients, the browser and the deployment.
///
/// # Errors
/// The first part that fails.
pub(crate) fn run(root: &Path, args: &TestArgs) -> anyhow::Result<()> {
    check::run(root)?;
    if args.skip_cuda {
        eprintln!("the GPU kernels were left out");
    } else {
        cuda::run(root, &cuda::CudaArgs::default())?;
    }
    tools::ensure(&[tools::POSTGRESQL, tools::REDIS, tools::OPENSSL, tools::KUBECTL])?;
    if tools::found("cargo-nextest") {
        crate::run(crate::cargo(root).args(["nextest", "run", "--workspace", "--no-fail-fast"]))?;
    } else {
        crate::run(crate::cargo(root).args(["test", "--workspace", "--all-targets", "--no-fail-fast"]))?;
    }
    crate::run(crate::cargo(root).args(["test", "--workspace", "--doc"]))?;
    if args.skip_clients {
        eprintln!("the Python and Node clients were left out");
    } else {
        clients::run(root)?;
    }
    if args.skip_browser {
        eprintln!("the browser was left out");
    } else {
        dashboard::run(root)?;
    }
    if args.skip_deploy {
        eprintln!("the deployment was left out");
        return Ok(());
    }
    deploy::run(root)
}
