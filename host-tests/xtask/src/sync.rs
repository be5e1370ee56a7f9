//! `cargo xtask sync`: the generated blocks of envoy/envoy.yaml.

use std::fs;

use crate::capabilities;
use crate::failure::{Failure, Result};
use crate::template::{self, Policy};
use crate::wasm;
use crate::workspace::{self, Workspace};

/// How the command is used.
pub const USAGE: &str = "cargo xtask sync
  Writes the policy of examples/policy.yaml and the capabilities of the built module into
  envoy/envoy.yaml. Tests fail while they differ.";

/// Runs the command.
///
/// # Errors
///
/// When the module does not build, or a file can't be read or written.
pub fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        return Err(Failure::new(
            format!("unknown arguments: {}", arguments.join(" ")),
            USAGE,
        ));
    }
    let module = wasm::build(workspace)?;
    let bytes = fs::read(&module).map_err(|error| Failure::file(&module, &error))?;
    let before = workspace::read(&workspace.envoy_yaml())?;
    let after = synced(&before, &workspace::read(&workspace.policy())?, &bytes)?;
    if before == after {
        println!("envoy/envoy.yaml is as it must be");
    } else {
        workspace::write(&workspace.envoy_yaml(), after)?;
        println!("envoy/envoy.yaml has changed");
    }
    Ok(())
}

/// The configuration with both blocks as they must be.
///
/// # Errors
///
/// When a mark is missing, or the policy or the module is malformed.
pub fn synced(envoy_yaml: &str, policy: &str, module: &[u8]) -> Result<String> {
    let capabilities = capabilities::block(&capabilities::read(module)?);
    let text = template::with_block(envoy_yaml, "capabilities", &capabilities)?;
    template::with_block(
        &text,
        "policy",
        &template::configuration(Policy::Yaml(policy))?,
    )
}
