//! Leader-only jobs, fenced.
