//! stub
use crate::Done;
use crate::exit::Failure;
use clap::Args;
/// Run a whole mesh
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {}
pub(crate) fn run(_args: &DemoArgs) -> Done {
    Err(Failure::new("not yet"))
}
