//! The certificate authority and who may get which name.
