//! `load`: reads an order from standard input, drives the broker, and writes replies, a line each, to
//! standard output. The last one ends it.

use std::io::{self, Write};
use std::process::ExitCode;

use tidegate_bench::{Order, Reply, load};

fn main() -> ExitCode {
    let order: Order = match serde_json::from_reader(io::stdin().lock()) {
        Ok(order) => order,
        Err(error) => {
            say(&Reply::Failed(format!("no order: {error}")));
            return ExitCode::FAILURE;
        }
    };
    let end = load(&order, &|reply| say(&reply));
    say(&end);
    match end {
        Reply::Failed(_) => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

fn say(reply: &Reply) {
    let Ok(line) = serde_json::to_string(reply) else {
        return;
    };
    let mut output = io::stdout().lock();
    // Whoever ordered is gone: nobody wants the figures.
    if writeln!(output, "{line}")
        .and_then(|()| output.flush())
        .is_err()
    {
        std::process::exit(1);
    }
}
