//! What a count depends on beside the code.

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// What has to be the same for two counts to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Environment {
    /// The C library and callgrind choose code by what the processor can do.
    pub(super) processor: String,
    pub(super) rustc: String,
    pub(super) valgrind: String,
    /// Copies and allocates.
    pub(super) libc: String,
}

impl Environment {
    pub(super) fn find(valgrind: &Path) -> Result<Self> {
        let libc = says(Command::new("getconf").arg("GNU_LIBC_VERSION"));
        Ok(Self {
            processor: processor(),
            rustc: says(Command::new("rustc").arg("--version"))?,
            valgrind: says(Command::new(valgrind).arg("--version"))?,
            // Only the GNU C library tells.
            libc: libc.unwrap_or_else(|_| "unknown".to_owned()),
        })
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "processor": self.processor,
            "rustc": self.rustc,
            "valgrind": self.valgrind,
            "libc": self.libc,
        })
    }

    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        Some(Self {
            processor: text("processor")?,
            rustc: text("rustc")?,
            valgrind: text("valgrind")?,
            libc: text("libc")?,
        })
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            processor,
            rustc,
            valgrind,
            libc,
        } = self;
        write!(f, "{processor}; {rustc}; {valgrind}; {libc}")
    }
}

/// The first line that a command prints.
fn says(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("{command:?} cannot be run"))?;
    ensure!(output.status.success(), "{command:?} failed");
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    processor_in(&info).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// Name, family and model: vendors give many models one name. Where the kernel tells no name, as on
/// Arm, the part's number.
fn processor_in(info: &str) -> Option<String> {
    let field = |name: &str| {
        info.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim())
    };
    match (field("model name"), field("cpu family"), field("model")) {
        (Some(name), Some(family), Some(model)) => {
            Some(format!("{name}, family {family}, model {model}"))
        }
        _ => field("CPU part").map(|part| format!("{}, part {part}", std::env::consts::ARCH)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_of_one_name_differ_by_model() {
        let info = |model: u8| {
            format!(
                "processor\t: 0\ncpu family\t: 6\nmodel\t\t: {model}\nmodel name\t: A Processor\n"
            )
        };
        assert_eq!(
            processor_in(&info(85)).as_deref(),
            Some("A Processor, family 6, model 85")
        );
        assert_ne!(processor_in(&info(85)), processor_in(&info(143)));
        assert!(processor_in("CPU part\t: 0xd0c\n").is_some_and(|text| text.contains("0xd0c")));
        assert_eq!(processor_in(""), None);
    }
}
