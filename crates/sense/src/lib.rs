//! What the machine of the app beside the sidecar has left: read once a second, from its cgroup, `/proc` or itself.
#![forbid(unsafe_code)]
