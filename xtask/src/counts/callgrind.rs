//! Builds the benches and counts their cases.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::baseline::Counts;
use super::git::Commit;
use super::{PACKAGES, Package};
use crate::test::{Place, once};

/// The bench in each package.
const BENCH: &str = "counts";

/// The function of the benches inside of which callgrind collects.
const TOGGLE: &str = "--toggle-collect=*under_callgrind*";

/// Builds and counts, the tree or a commit.
pub(super) struct Builder {
    valgrind: PathBuf,
    root: PathBuf,
    work: PathBuf,
}

impl Builder {
    pub(super) fn new(place: &Place, valgrind: PathBuf) -> Result<Self> {
        let work = super::work(place);
        fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
        Ok(Self {
            valgrind,
            root: place.root.clone(),
            work,
        })
    }

    /// Counts what is in the tree, by package.
    pub(super) fn count_tree(&self) -> Result<Vec<Counts>> {
        super::complete(&self.count(&self.root, "tree")?)
    }

    /// Counts what is in a commit, by package; `None` where it has no counts yet.
    pub(super) fn count_commit(&self, root: &Path, commit: &Commit) -> Result<Vec<Option<Counts>>> {
        let directory = self.work.join("parent");
        once(&directory, commit.id(), || commit.extract(root, &directory))?;
        self.count(&directory, commit.id())
    }

    fn count(&self, root: &Path, what: &str) -> Result<Vec<Option<Counts>>> {
        let counted: Vec<&Package> = PACKAGES
            .iter()
            .filter(|package| {
                let bench = Path::new(package.directory).join("benches").join(BENCH);
                root.join(bench).is_dir()
            })
            .collect();
        let binaries = self.build(root, what, &counted)?;
        let results = self.work.join("callgrind").join(what);
        fs::create_dir_all(&results)?;
        PACKAGES
            .iter()
            .map(|package| {
                let mine = binaries.iter().find(|(name, _)| *name == package.name);
                mine.map(|(_, binary)| self.count_cases(binary, &results))
                    .transpose()
            })
            .collect()
    }

    /// Builds the benches of `packages` at `root`, in the profile of a release.
    ///
    /// The tree and the commit before share what they both depend on. Their own packages have the same
    /// names in the target directory, where cargo tells them apart by the age of files only: those of
    /// the other one are thrown away first.
    fn build(
        &self,
        root: &Path,
        what: &str,
        packages: &[&Package],
    ) -> Result<Vec<(&'static str, PathBuf)>> {
        if packages.is_empty() {
            return Ok(Vec::new());
        }
        println!("building {what}");
        let source = format!("{}\n{what}\n", root.display());
        let stamp = self.work.join("built");
        let target = self.work.join("target");
        if target.is_dir() && fs::read_to_string(&stamp).ok().as_ref() != Some(&source) {
            let mut clean = cargo(root, &target);
            clean.args(["clean", "--quiet", "--locked", "--profile", "bench"]);
            clean.args(packages.iter().flat_map(|p| ["--package", p.name]));
            ensure!(clean.status()?.success(), "cargo clean failed");
        }
        fs::write(&stamp, &source)?;
        let output = cargo(root, &target)
            .args(["bench", "--no-run", "--locked", "--bench", BENCH])
            .args(packages.iter().flat_map(|p| ["--package", p.name]))
            .args(["--message-format", "json-render-diagnostics"])
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(output.status.success(), "cargo bench failed");
        let text = String::from_utf8_lossy(&output.stdout);
        let built: Vec<Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|message: &Value| message["target"]["name"] == BENCH)
            .collect();
        packages
            .iter()
            .map(|package| {
                let directory = root.join(package.directory);
                let manifest = directory.join("Cargo.toml");
                let mine = built.iter().find(|message| {
                    message["manifest_path"].as_str().map(Path::new) == Some(&manifest)
                });
                let executable = mine.and_then(|message| message["executable"].as_str());
                let executable = executable
                    .with_context(|| format!("cargo built no {BENCH} of {}", package.name))?;
                Ok((package.name, PathBuf::from(executable)))
            })
            .collect()
    }

    fn count_cases(&self, binary: &Path, results: &Path) -> Result<Counts> {
        let output = Command::new(binary).arg("--list").output()?;
        ensure!(
            output.status.success(),
            "{} --list failed",
            binary.display()
        );
        let names = String::from_utf8_lossy(&output.stdout);
        let cases = names.lines().map(|case| {
            let count = self.count_case(binary, case, results);
            count
                .map(|count| (case.to_owned(), count))
                .with_context(|| case.to_owned())
        });
        cases.collect()
    }

    /// Instructions per operation of one case, in a process of its own: no case sees another's memory.
    fn count_case(&self, binary: &Path, case: &str, results: &Path) -> Result<f64> {
        let profile = results.join(format!("{case}.out"));
        let log = results.join(format!("{case}.log"));
        // With what the last run left, a run that wrote nothing would pass.
        for file in [&profile, &log] {
            if file.exists() {
                fs::remove_file(file)?;
            }
        }
        let output = Command::new(&self.valgrind)
            // What lies on the stack, and so how it is aligned, depends on the environment.
            .env_clear()
            .args(["--tool=callgrind", "--collect-atstart=no", TOGGLE])
            .arg(argument("--callgrind-out-file=", &profile))
            .arg(argument("--log-file=", &log))
            .arg(binary)
            .arg(case)
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(
            output.status.success(),
            "it ended with {}; see {}",
            output.status,
            log.display()
        );
        let said = String::from_utf8_lossy(&output.stdout);
        let operations: u64 = said
            .trim()
            .parse()
            .with_context(|| format!("it says {said:?}, not how many operations it did"))?;
        let profile = fs::read_to_string(&profile).context("callgrind wrote nothing")?;
        let instructions = total(&profile).context("callgrind tells no total")?;
        ensure!(
            operations > 0 && instructions > 0,
            "nothing was counted: {operations} operations, {instructions} instructions"
        );
        Ok(instructions as f64 / operations as f64)
    }
}

fn cargo(root: &Path, target: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(root).env("CARGO_TARGET_DIR", target);
    command
}

fn argument(option: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(option);
    argument.push(path);
    argument
}

/// All instructions that a profile has collected.
fn total(profile: &str) -> Option<u64> {
    let line = profile
        .lines()
        .find_map(|line| line.strip_prefix("totals:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_from_a_profile() {
        let profile = "# callgrind format\nevents: Ir\nfn=(1) a\n12 30\n\ntotals: 4711\n";
        assert_eq!(total(profile), Some(4_711));
        assert_eq!(total("events: Ir\n"), None);
    }
}
