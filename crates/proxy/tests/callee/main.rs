//! What a callee's sidecar promises of encrypted links: who may come and how, that a switch to strict and a change of
//! trust lose nothing, and that what is refused is said so.
mod identity;
mod mesh;
mod sds;
mod strict;
mod trust;
