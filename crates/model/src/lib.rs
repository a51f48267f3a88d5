//! Resources: what they are, how their YAML is read, and how it is validated.
//!
//! It turns the text of configuration files into [`Resources`], or into a [`Report`] of *all* mistakes in
//! them, each with file, line, column, field path and remedy. It opens no file and no socket: callers read,
//! this crate judges. It decides nothing about requests (that is `raddle-policy`).
//!
//! Start with [`resources`] for the types, then [`load`](crate::load()), which reads from top to bottom:
//! `yaml` (text to nodes) → `kinds` (one file a kind: the fields, each with its type, default and meaning) →
//! `check` (rules between resources). `decode` holds the value types the kinds are written with. The same
//! field definitions render the user's [`reference`](crate::reference()).
#![forbid(unsafe_code)]

mod check;
mod decode;
mod document;
mod fingerprint;
mod kinds;
mod load;
mod mistake;
mod reference;
pub mod resources;
mod scope;
mod suggest;
mod yaml;

pub use document::{Document, documents, to_yaml};
pub use load::{LoadOptions, Source, load};
pub use mistake::{Mistake, Report};
pub use reference::reference;
pub use resources::*;
