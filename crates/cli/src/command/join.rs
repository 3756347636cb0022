//! `join`: makes commands talk to a mesh.

use datamesh_node::charter::Charter;
use datamesh_node::home::Networks;

use crate::args::JoinArgs;
use crate::command::CommandError;
use crate::command::networks::NetworkView;
use crate::context::Context;
use crate::exit::Exit;
use crate::ui::Ui;

pub(super) fn run(args: &JoinArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let secret = context.mesh_secret(args.mesh.secret_file.as_deref(), ui)?;
    let authorities =
        args.mesh.authorities().map_err(|error| CommandError::from_error(Exit::Usage, error))?;
    let told = Charter { secret, authorities };
    let lock = context.home().lock()?;
    let mut networks = Networks::load(context.home())?;
    networks.join(args.name.clone(), args.address.clone(), told)?;
    networks.save(context.home(), &lock)?;
    let view = NetworkView::new(&networks.current(), &networks);
    ui.result(view.fields(), &view)
}
