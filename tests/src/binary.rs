//! Where the gateway's binary is, and that of flowsdk: given, or built once per test process.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::peer::workspace;

/// The gateway's binary: `$TIDEGATE_BIN`, or what `cargo build` makes of the package.
///
/// # Panics
///
/// If the build fails: there is nothing to test then.
#[must_use]
pub fn tidegate() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    // With the profile of the tests, so that their artefacts serve both.
    let arguments = ["--package", "tidegate", "--profile", "test"].map(OsString::from);
    BINARY.get_or_init(|| given("TIDEGATE_BIN").unwrap_or_else(|| build("tidegate", &arguments)))
}

/// The binary of `tests/flowsdk-peer`: `$TIDEGATE_FLOWSDK_PEER`, or what `cargo build` makes of it. It is beside the
/// workspace; its `Cargo.toml` says why.
///
/// # Panics
///
/// If the build fails: there is nothing to test with then.
#[must_use]
pub fn flowsdk_peer() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        given("TIDEGATE_FLOWSDK_PEER").unwrap_or_else(|| {
            let manifest = workspace().join("tests/flowsdk-peer/Cargo.toml");
            let mut arguments = ["--locked", "--manifest-path"].map(OsString::from).to_vec();
            arguments.push(manifest.into());
            // What this test was built into, and not a directory among the sources. A test is TARGET/PROFILE/deps/NAME.
            let own = env::current_exe().ok();
            if let Some(target) = own.as_deref().and_then(|own| own.ancestors().nth(3)) {
                arguments.extend(["--target-dir".into(), target.into()]);
            }
            build("flowsdk-peer", &arguments)
        })
    })
}

fn given(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from)
}

/// Builds, and asks cargo where the executable of this name went rather than guessing.
fn build(name: &str, arguments: &[OsString]) -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .arg("build")
        .args(arguments)
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("cargo cannot be run: {error}"));
    assert!(output.status.success(), "{name} does not build");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .unwrap_or_else(|| panic!("cargo built {name} but named no executable"))
}
