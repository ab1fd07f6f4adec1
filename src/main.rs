//! The program: parse, then run one command.

use std::process::ExitCode;

use clap::Parser;
use marketday::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A panic is a bug in one worker; the others must not go on, or wait for it, without it.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    marketday::cli::run(Cli::parse())
}
