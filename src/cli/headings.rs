//! Headings of groups of options in `--help`.

pub(super) const WAITING: &str = "Waiting";
pub(super) const LOCK: &str = "Lock";
pub(super) const OUTPUT: &str = "Output";
pub(super) const CONNECTION: &str = "Connection";
