//! What the app is told of its caller, and that nobody but the sidecar tells it: over real mutual TLS, in plaintext, in
//! every protocol.
mod callee;
mod http;
mod rpc;
