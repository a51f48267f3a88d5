//! Tokens: who may speak to the control plane.
