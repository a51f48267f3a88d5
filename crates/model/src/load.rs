//! From texts to resources, or to everything that is wrong with them.
use crate::check;
use crate::decode::Cx;
use crate::kinds;
use crate::mistake::{Mistake, Report};
use crate::resources::Resources;
use crate::yaml::{self, Bounds};
use std::collections::HashMap;

/// One configuration text. This crate opens no files: the caller reads them.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// How messages name it; the path as the user gave it.
    pub name: String,
    /// Its content: any number of YAML documents, or JSON.
    pub text: String,
}

/// What a load demands and how far it goes.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Whether a `Sidecar` document must be among the sources: yes to run a proxy, no to check rules alone.
    pub require_sidecar: bool,
    /// Deepest nesting of lists and mappings.
    pub max_depth: usize,
    /// Most values in all sources together; an alias counts as what it stands for.
    pub max_nodes: usize,
    /// Most mistakes (and most warnings) kept; one more then says how many are left out.
    pub max_mistakes: usize,
}

impl Default for LoadOptions {
    /// For running a proxy: a `Sidecar` is demanded; room for about 100,000 services.
    fn default() -> LoadOptions {
        LoadOptions { require_sidecar: true, max_depth: 32, max_nodes: 8_000_000, max_mistakes: 1000 }
    }
}

impl LoadOptions {
    /// For checking files that hold rules or services alone.
    pub fn rules_only() -> LoadOptions {
        LoadOptions { require_sidecar: false, ..LoadOptions::default() }
    }

    /// For one rule that a control plane sends: bounded such that it cannot eat the sidecar's memory.
    pub fn delivered() -> LoadOptions {
        LoadOptions { max_nodes: 200_000, max_mistakes: 20, ..LoadOptions::rules_only() }
    }
}

/// Reads all sources and checks them, each alone and all together.
///
/// Returns the resources with warnings, or every mistake found, sorted by source, line and column. A source
/// that is not YAML does not keep the others from being checked.
pub fn load(sources: &[Source], opts: LoadOptions) -> Result<(Resources, Vec<Mistake>), Report> {
    let mut cx = Cx::new(opts.max_mistakes);
    let mut bounds = Bounds { depth: opts.max_depth, nodes: opts.max_nodes };
    let mut resources = Resources::default();
    for source in sources {
        cx.open(&source.name);
        for part in yaml::parts(&source.text) {
            let mut reader = yaml::Reader::new(part);
            while let Some(document) = reader.next(&mut bounds) {
                match document {
                    Ok(node) => kinds::document(&node, &mut cx, &mut resources),
                    Err(e) => cx.unreadable(e),
                }
            }
        }
    }
    let demand = opts.require_sidecar.then(|| sources.first().map_or("", |s| s.name.as_str()));
    check::all(&resources, demand, &mut cx);
    let mut order = HashMap::new();
    for (i, source) in sources.iter().enumerate() {
        order.entry(source.name.as_str()).or_insert(i);
    }
    let (mistakes, warnings) = cx.into_findings(&order);
    if mistakes.is_empty() { Ok((resources, warnings)) } else { Err(Report { mistakes, warnings }) }
}
