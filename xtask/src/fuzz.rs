//! `cargo xtask fuzz`: builds the fuzz targets with libFuzzer's instrumentation and runs them.
//!
//! It takes stable Rust and a C++ compiler. What the fuzzer learns goes into a copy of the corpus
//! under the target directory; `--keep` brings the best of it back into the tree.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

const PACKAGE: &str = "tidegate-fuzz";

/// What `cargo-fuzz` asks of the compiler, with counters and comparisons for the fuzzer to look at.
const INSTRUMENTATION: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
    "-Cdebug-assertions=on",
    "-Coverflow-checks=on",
];

/// The release profile without what only makes it slow to build.
const PROFILE: &[&str] = &[
    "profile.release.lto=false",
    "profile.release.opt-level=2",
    "profile.release.codegen-units=16",
    "profile.release.debug=\"line-tables-only\"",
];

/// Longest input; longer ones find the same and take longer.
const LONGEST_INPUT: usize = 2_048;

/// Files that the fuzzer may have in the corpus of one target.
const MOST_KEPT: usize = 16;

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long each target runs; a fraction is allowed
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    minutes: f64,
    /// Runs only this target; may be repeated
    #[arg(long = "target", value_name = "NAME")]
    targets: Vec<String>,
    /// How many targets run side by side; as many as there are cores by default
    #[arg(long, value_name = "J")]
    jobs: Option<usize>,
    /// Brings inputs that cover more back into fuzz/corpus
    #[arg(long)]
    keep: bool,
    /// Writes what was executed into fuzz/record.json
    #[arg(long)]
    record: bool,
    /// Lists the targets and runs nothing
    #[arg(long)]
    list: bool,
}

/// Runs the targets; a finding, or anything that went wrong, is told by the exit code.
pub(crate) fn run(options: &Options) -> ExitCode {
    match execute(options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(findings) => {
            println!("\ntargets with a finding: {findings}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("cargo xtask fuzz: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Gives back how many targets have a finding.
fn execute(options: &Options) -> Result<usize> {
    let place = Place::find()?;
    let known = targets(&place)?;
    if options.list {
        for name in known {
            println!("{name}");
        }
        return Ok(0);
    }
    if let Some(unknown) = options.targets.iter().find(|name| !known.contains(name)) {
        bail!("there is no target {unknown}; --list shows them");
    }
    ensure!(
        options.minutes.is_finite() && options.minutes > 0.0,
        "--minutes is more than 0"
    );
    let wanted: Vec<String> = known
        .into_iter()
        .filter(|name| options.targets.is_empty() || options.targets.contains(name))
        .collect();
    compiler_is_there()?;
    let binaries = build(&place, &wanted)?;
    // libFuzzer takes 0 for "without end".
    let seconds = (options.minutes * 60.0).round().max(1.0) as u64;
    let runs = run_all(&place, &binaries, seconds, options.jobs)?;
    if options.keep {
        for (name, binary) in &binaries {
            keep(&place, name, binary)?;
        }
    }
    if options.record {
        record(&place, &runs)?;
    }
    Ok(runs.iter().filter(|run| run.finding.is_some()).count())
}

// ---- where things are ----------------------------------------------------------------------------

struct Place {
    root: PathBuf,
    /// Everything that a run leaves behind.
    work: PathBuf,
}

impl Place {
    fn find() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().context("xtask is not in a workspace")?;
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
        Ok(Self {
            root: root.to_owned(),
            // `join` keeps an absolute target directory as it is.
            work: root.join(target).join("fuzz"),
        })
    }

    /// The corpus of a target in the tree.
    fn corpus(&self, name: &str) -> PathBuf {
        self.root.join("fuzz/corpus").join(name)
    }

    fn regressions(&self, name: &str) -> PathBuf {
        self.root.join("fuzz/regressions").join(name)
    }

    /// A directory of a target under the target directory, made when it is not there.
    fn work(&self, kind: &str, name: &str) -> Result<PathBuf> {
        let directory = self.work.join(kind).join(name);
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        Ok(directory)
    }
}

/// The files in a directory; none where there is no directory.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    for file in files(from)? {
        let name = file.file_name().context("a file without a name")?;
        fs::copy(&file, to.join(name)).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

// ---- building ------------------------------------------------------------------------------------

fn cargo(place: &Place) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(&place.root);
    command
}

/// The names of the targets, sorted: the executables of the package.
fn targets(place: &Place) -> Result<Vec<String>> {
    let output = cargo(place)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .stderr(Stdio::inherit())
        .output()?;
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("cargo does not tell the packages")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let mut names: Vec<String> = packages
        .filter(|package| package["name"] == PACKAGE)
        .flat_map(|package| package["targets"].as_array().into_iter().flatten())
        .filter(|target| target["kind"][0] == "bin")
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    ensure!(!names.is_empty(), "the package {PACKAGE} has no targets");
    Ok(names)
}

/// libFuzzer is C++, compiled along with the targets.
fn compiler_is_there() -> Result<()> {
    let name = env::var("CXX").unwrap_or_else(|_| {
        crate::test::want("c++", "g++");
        "c++".to_owned()
    });
    let answers = Command::new(&name)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    ensure!(
        answers,
        "there is no C++ compiler `{name}`, which libFuzzer needs; on Debian: apt-get install g++, or \
         set CXX"
    );
    Ok(())
}

/// Builds the targets and gives back their executables.
fn build(place: &Place, names: &[String]) -> Result<BTreeMap<String, PathBuf>> {
    let mut command = cargo(place);
    command
        .args(["build", "--release", "--locked", "--package", PACKAGE])
        .args(["--features", "libfuzzer"])
        // With a target of its own the flags leave build scripts and macros alone.
        .args(["--target", &host()?])
        .arg("--target-dir")
        .arg(place.work.join("build"))
        .args(["--message-format", "json-render-diagnostics"])
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", INSTRUMENTATION.join(" "))
        .stderr(Stdio::inherit());
    for setting in PROFILE {
        command.args(["--config", setting]);
    }
    for name in names {
        command.args(["--bin", name]);
    }
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "the targets do not build: {}",
        output.status
    );
    let mut binaries = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let (Some(name), Some(executable)) = (
            message["target"]["name"].as_str(),
            message["executable"].as_str(),
        ) else {
            continue;
        };
        binaries.insert(name.to_owned(), PathBuf::from(executable));
    }
    binaries.retain(|name, _| names.contains(name));
    ensure!(
        binaries.len() == names.len(),
        "cargo built {} of {} targets",
        binaries.len(),
        names.len()
    );
    Ok(binaries)
}

/// The machine's own target triple.
fn host() -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let output = Command::new(rustc).arg("-vV").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not tell its host")?.to_owned())
}

// ---- running -------------------------------------------------------------------------------------

/// What a target came to.
struct Run {
    name: String,
    executions: u64,
    seconds: u64,
    /// Edges of the program that were reached.
    coverage: u64,
    finding: Option<Finding>,
}

struct Finding {
    /// The input, where the fuzzer could write it.
    input: Option<PathBuf>,
    log: PathBuf,
}

fn run_all(
    place: &Place,
    binaries: &BTreeMap<String, PathBuf>,
    seconds: u64,
    jobs: Option<usize>,
) -> Result<Vec<Run>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = jobs.unwrap_or(cores).clamp(1, binaries.len());
    println!(
        "targets: {}, seconds for each: {seconds}, side by side: {jobs}",
        binaries.len()
    );
    let waiting = Mutex::new(binaries.iter());
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().ok().and_then(|mut waiting| waiting.next());
                    let Some((name, binary)) = next else { break };
                    let run = run_one(place, name, binary, seconds);
                    if let Ok(run) = &run {
                        print(run, binary);
                    }
                    if let Ok(mut done) = done.lock() {
                        done.push(run);
                    }
                }
            });
        }
    });
    let mut runs = done
        .into_inner()
        .unwrap_or_default()
        .into_iter()
        .collect::<Result<Vec<Run>>>()?;
    ensure!(runs.len() == binaries.len(), "a target did not run");
    runs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(runs)
}

fn run_one(place: &Place, name: &str, binary: &Path, seconds: u64) -> Result<Run> {
    let corpus = place.work("corpus", name)?;
    copy_all(&place.corpus(name), &corpus)?;
    copy_all(&place.regressions(name), &corpus)?;
    let artifacts = place.work("artifacts", name)?;
    let log = place.work("log", name)?.join("last.log");
    let output = File::create(&log).with_context(|| log.display().to_string())?;
    let began = SystemTime::now();
    let start = Instant::now();
    let status = Command::new(binary)
        .arg(&corpus)
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={LONGEST_INPUT}"))
        .args(["-rss_limit_mb=2048", "-timeout=20", "-print_final_stats=1"])
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .with_context(|| binary.display().to_string())?;
    let seconds = start.elapsed().as_secs();
    let text = fs::read(&log)?;
    let text = String::from_utf8_lossy(&text);
    let finding = if status.success() {
        None
    } else {
        Some(Finding {
            input: newest(&artifacts, began)?,
            log,
        })
    };
    let executions = match executions(&text) {
        Some(executions) => executions,
        // The finding is what there is to tell.
        None if finding.is_some() => 0,
        None => bail!(
            "{name} ended well and does not say that it executed anything: {}",
            place.work("log", name)?.join("last.log").display()
        ),
    };
    Ok(Run {
        name: name.to_owned(),
        executions,
        seconds,
        coverage: last_number(&text, " cov:").unwrap_or(0),
        finding,
    })
}

/// How many inputs were executed; none where that cannot be read, or is 0.
fn executions(text: &str) -> Option<u64> {
    last_number(text, "stat::number_of_executed_units:").filter(|executions| *executions > 0)
}

/// The last number behind `word` in the fuzzer's output.
fn last_number(text: &str, word: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once(word)?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The file that was written last, after `began`.
fn newest(directory: &Path, began: SystemTime) -> Result<Option<PathBuf>> {
    let mut newest = None;
    for file in files(directory)? {
        let written = fs::metadata(&file)?.modified()?;
        if written >= began && newest.as_ref().is_none_or(|(at, _)| written > *at) {
            newest = Some((written, file));
        }
    }
    Ok(newest.map(|(_, file)| file))
}

fn print(run: &Run, binary: &Path) {
    let rate = run.executions / run.seconds.max(1);
    let outcome = if run.finding.is_some() {
        "FINDING"
    } else {
        "no finding"
    };
    println!(
        "{:<14} {:>12} executions, {rate:>7} a second, {:>5} s, coverage {:>5}: {outcome}",
        run.name, run.executions, run.seconds, run.coverage
    );
    let Some(Finding { input, log }) = &run.finding else {
        return;
    };
    println!("  what it says: {}", log.display());
    match input {
        Some(input) => println!(
            "  the input:    {}\n  replay it:    {} {}\n  keep it:      copy it to \
             fuzz/regressions/{}/A-TELLING-NAME",
            input.display(),
            binary.display(),
            input.display(),
            run.name
        ),
        None => println!("  no input was written"),
    }
}

// ---- what stays ----------------------------------------------------------------------------------

/// Replaces the fuzzer's own files in the corpus of the tree by those that cover most now. Files with
/// names that people gave them stay.
fn keep(place: &Place, name: &str, binary: &Path) -> Result<()> {
    let merged = place.work("merged", name)?;
    fs::remove_dir_all(&merged)?;
    fs::create_dir_all(&merged)?;
    let status = Command::new(binary)
        // Edges alone, not how often they were taken: the smallest set by far.
        .args([
            "-set_cover_merge=1",
            "-use_counters=0",
            "-rss_limit_mb=2048",
        ])
        .arg(format!("-max_len={LONGEST_INPUT}"))
        .arg(&merged)
        .arg(place.work("corpus", name)?)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    ensure!(
        status.success(),
        "the corpus of {name} does not merge: {status}"
    );
    let corpus = place.corpus(name);
    fs::create_dir_all(&corpus)?;
    for file in files(&corpus)? {
        if is_of_fuzzer(&file) {
            fs::remove_file(file)?;
        }
    }
    // They were written in the order of what each adds.
    let mut found = Vec::new();
    for file in files(&merged)? {
        found.push((fs::metadata(&file)?.modified()?, file));
    }
    found.sort();
    let mut kept = 0;
    for (_, file) in found.iter().take(MOST_KEPT) {
        let name = file.file_name().context("a file without a name")?;
        fs::copy(file, corpus.join(name))?;
        kept += 1;
    }
    println!("{name:<14} keeps {kept} of {} inputs", found.len());
    Ok(())
}

/// The fuzzer names its files by their hash.
fn is_of_fuzzer(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.len() == 40 && name.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Writes down what the targets that ran came to; the others keep what they had, and so does a target
/// with a finding.
fn record(place: &Place, runs: &[Run]) -> Result<()> {
    let path = place.root.join("fuzz/record.json");
    let mut record: BTreeMap<String, Value> = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).context("fuzz/record.json")?,
        Err(_) => BTreeMap::new(),
    };
    enter(&mut record, runs);
    let mut text = serde_json::to_string_pretty(&record)?;
    text.push('\n');
    fs::write(&path, text).with_context(|| path.display().to_string())
}

fn enter(record: &mut BTreeMap<String, Value>, runs: &[Run]) {
    for run in runs {
        if run.finding.is_some() {
            println!("{:<14} is not recorded: it has a finding", run.name);
            continue;
        }
        let entry = json!({
            "executions": run.executions,
            "seconds": run.seconds,
            "coverage": run.coverage,
        });
        record.insert(run.name.clone(), entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fuzzers_output_is_read_to_its_last_figures() {
        let text = "#2\tINITED cov: 23 ft: 24 corp: 1/1b\n#999\tDONE   cov: 1524 ft: 7795 corp: 3\n\
                    Done 999 runs in 11 second(s)\nstat::number_of_executed_units: 999\n";
        assert_eq!(last_number(text, " cov:"), Some(1_524));
        assert_eq!(
            last_number(text, "stat::number_of_executed_units:"),
            Some(999)
        );
        assert_eq!(last_number("", " cov:"), None);
    }

    #[test]
    fn a_run_that_executed_nothing_has_no_count() {
        assert_eq!(
            executions("stat::number_of_executed_units: 999\n"),
            Some(999)
        );
        assert_eq!(executions("stat::number_of_executed_units: 0\n"), None);
        assert_eq!(executions("stat::number_of_executed_units: many\n"), None);
        assert_eq!(executions("Done 999 runs in 11 second(s)\n"), None);
    }

    #[test]
    fn a_target_with_a_finding_keeps_its_record() {
        let run = |name: &str, finding| Run {
            name: name.to_owned(),
            executions: 7,
            seconds: 1,
            coverage: 2,
            finding,
        };
        let finding = Finding {
            input: None,
            log: PathBuf::from("last.log"),
        };
        let mut record = BTreeMap::from([("broken".to_owned(), json!("before"))]);
        enter(
            &mut record,
            &[run("broken", Some(finding)), run("sound", None)],
        );
        assert_eq!(record["broken"], json!("before"));
        assert_eq!(record["sound"]["executions"], json!(7));
    }

    #[test]
    fn only_files_named_by_their_hash_are_the_fuzzers() {
        let hash = "475591c6d50870e7f8a700642c6ccc6a2523cacf";
        assert!(is_of_fuzzer(&Path::new("corpus").join(hash)));
        assert!(!is_of_fuzzer(Path::new("corpus/seed-upgrade")));
        assert!(!is_of_fuzzer(Path::new("corpus/pub-qos3")));
    }
}
