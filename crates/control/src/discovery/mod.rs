//! Directory and rules as xDS resources, and what each peer gets of them.
