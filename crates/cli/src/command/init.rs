//! `init`: creates the home and an identity.

use datamesh_node::keyring::{DEFAULT_IDENTITY, Keyring};

use crate::args::InitArgs;
use crate::command::CommandError;
use crate::command::keys::{IdentityView, identity_fields};
use crate::context::Context;
use crate::exit::Exit;
use crate::ui::Ui;

pub(super) fn run(args: &InitArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let keyring = Keyring::load(context.home())?;
    if keyring.is_empty() {
        let asked = || context.passwords().new_one(ui, &format!("identity {DEFAULT_IDENTITY}"));
        let password = if args.password { Some(asked()?) } else { None };
        context.create_identity(ui, password.as_ref().map(|password| password.as_str()))?;
    } else if args.password {
        let error = CommandError::new(Exit::Failed, "there is an identity already");
        return Err(error.hint("datamesh keys rotate --password makes one with a password in its place"));
    } else {
        ui.note("there is an identity already; nothing was changed");
    }
    let keyring = Keyring::load(context.home())?;
    let (name, entry) = keyring.current()?;
    let view = IdentityView::new(name, entry, &keyring);
    ui.result(identity_fields(&view).field("home", context.home().root().display()), &view)
}
