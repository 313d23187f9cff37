//! Tests of the whole way from sources to a configuration.

mod listeners;
mod merge;
mod unknown;
mod values;

use std::fs;

use tempfile::TempDir;

use super::*;

/// The name of the file in messages.
const FILE: &str = "tidegate.toml";

fn sources(file: &str, environment: &[(&str, &str)], flags: &[&str]) -> (Sources, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    fs::write(&path, file).unwrap();
    let flag = |text: &&str| {
        let (key, value) = text.split_once('=').unwrap();
        Flag {
            key: key.to_owned(),
            value: value.to_owned(),
            shown: format!("--set {key}"),
        }
    };
    let sources = Sources {
        file: Some(path),
        environment: environment
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        flags: flags.iter().map(flag).collect(),
    };
    (sources, directory)
}

#[track_caller]
fn loaded(file: &str, environment: &[(&str, &str)], flags: &[&str]) -> Loaded {
    let (sources, _directory) = sources(file, environment, flags);
    sources
        .load()
        .unwrap_or_else(|problems| panic!("{problems}"))
}

#[track_caller]
fn config(file: &str) -> Config {
    loaded(file, &[], &[]).config
}

/// What is wrong, with the file's directory cut off.
#[track_caller]
fn problems(file: &str, environment: &[(&str, &str)], flags: &[&str]) -> Vec<String> {
    let (sources, directory) = sources(file, environment, flags);
    let directory = format!("{}/", directory.path().display());
    let problems = sources
        .load()
        .expect_err("a configuration that is not valid");
    let lines = problems.lines().into_iter();
    lines.map(|line| line.replace(&directory, "")).collect()
}
