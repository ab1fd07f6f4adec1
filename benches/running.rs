//! Programs that a benchmark starts.

use std::process::Child;

/// A program that does not outlive the measurement.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
