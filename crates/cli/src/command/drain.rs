//! `node`: has the node of this home give away what it holds, or hold again.

use datamesh_node::home::HomeError;
use serde::Serialize;

use crate::args::{NodeCommand, NodeStateArgs};
use crate::command::CommandError;
use crate::context::Context;
use crate::exit::Exit;
use crate::ui::{Fields, Ui};

/// What the node is to do.
#[derive(Debug, Serialize)]
struct NodeStateView {
    state: &'static str,
}

pub(super) fn run(args: &NodeStateArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let home = context.home();
    if !home.node_key_path().exists() {
        let error = CommandError::new(Exit::NotFound, "no node has run from this home");
        return Err(error.hint("datamesh --home DIR node … names the home of another node"));
    }
    let draining = matches!(args.command, NodeCommand::Drain);
    home.set_draining(draining).map_err(|error: HomeError| CommandError::from(error))?;
    let view = NodeStateView { state: if draining { "draining" } else { "active" } };
    if draining {
        ui.note("it gives away what it holds while it runs; datamesh peers shows how many items it has left");
    }
    ui.result(Fields::new().field("state", view.state), &view)
}
