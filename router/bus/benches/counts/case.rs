//! How `cargo xtask counts` and a bench of instruction counts speak with each other. Other crates have
//! this file, too, by its path.
//!
//! `--list` prints the names of the cases. With a name that case runs, and how many operations it has
//! counted is printed. It makes ready and warms up; then what goes through [`under_callgrind`] is
//! counted, and nothing else: callgrind is told to collect only inside that function.

use std::env;
use std::hint::black_box;
use std::process::ExitCode;

/// One thing that is counted.
pub(crate) struct Case {
    name: &'static str,
    /// Runs it and tells how many operations were counted.
    run: Box<dyn Fn() -> u64>,
}

impl Case {
    pub(crate) fn new(name: &'static str, run: impl Fn() -> u64 + 'static) -> Self {
        let run = Box::new(run);
        Self { name, run }
    }
}

/// What the command line asks for.
pub(crate) fn main(cases: &[Case]) -> ExitCode {
    // Cargo says that this is a bench.
    let arguments: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.as_slice() {
        [] => println!("These are counted by `cargo xtask counts`."),
        [list] if list == "--list" => {
            for case in cases {
                println!("{}", case.name);
            }
        }
        [name] if let Some(case) = cases.iter().find(|case| case.name == name) => {
            println!("{}", (case.run)());
        }
        _ => {
            eprintln!("takes --list, or the name of a case");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Runs `work`, which is counted. `xtask` knows this function by its name.
#[inline(never)]
pub(crate) fn under_callgrind(work: &mut dyn FnMut()) {
    work();
    // Not the last call: callgrind shall see this function return.
    black_box(());
}

/// Calls `operation` a few times uncounted, so that caches are filled and buffers have their size, then
/// `times` times counted.
pub(crate) fn repeat(times: u64, mut operation: impl FnMut()) -> u64 {
    for _ in 0..4 {
        operation();
    }
    under_callgrind(&mut || {
        for _ in 0..times {
            operation();
        }
    });
    times
}
