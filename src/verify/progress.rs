//! What a person sees on a terminal while `verify` compares, which may take minutes; elsewhere nothing.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often it is drawn, so that one sees that it lives.
const TICK: Duration = Duration::from_millis(250);

/// How far the twins are, and the log, side by side on standard error.
pub(super) struct Progress {
    pub(super) tables: ProgressBar,
    pub(super) records: ProgressBar,
}

impl Progress {
    pub(super) fn new(tables: usize) -> Progress {
        let lines = MultiProgress::new();
        let line = |template: &str, length: usize| {
            let style = ProgressStyle::with_template(template).expect("the template is valid");
            let bar = lines.add(ProgressBar::new(length as u64).with_style(style));
            bar.enable_steady_tick(TICK);
            bar
        };
        Progress {
            tables: line("{bar:30} {elapsed}  table {pos} of {len}: {msg}", tables),
            records: line("{bar:30} {elapsed}  record {pos} of {len} of the log: {msg}", 0),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.tables.finish_and_clear();
        self.records.finish_and_clear();
    }
}
