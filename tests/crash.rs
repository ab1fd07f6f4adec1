//! Killed at any moment, the program goes on as if nothing had been.
