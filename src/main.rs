//! The program: parse, then run one command.

use std::process::ExitCode;

use marketday::cli::Cli;
use marketday::engine::supervise;
use marketday::platform::logging::LAST_WORD;
use marketday::platform::private_postgres;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A panic is a bug in one worker; the others must not go on, or wait for it, without it.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // Except this one: timely's way to say that another process of it is gone.
        let lost = "timely communication error: ";
        if let Some(cause) = panic.payload_as_str().and_then(|text| text.strip_prefix(lost)) {
            // With the lock held: two connections may break at once.
            let _first = std::io::stderr().lock();
            tracing::error!(
                target: LAST_WORD,
                "another process of the analytics is gone, so this one ends too ({cause})"
            );
            supervise::end_at_once(i32::from(supervise::LOST));
        }
        report(panic);
        private_postgres::end_at_once();
        std::process::abort();
    }));
    marketday::cli::run(Cli::read())
}
