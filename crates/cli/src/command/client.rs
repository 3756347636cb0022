//! What commands about objects share: a client of the mesh, and which object is meant.

use std::collections::BTreeMap;

use datamesh_core::id::{NodeId, ObjectId, ParseIdError};
use datamesh_engine::catalog::Entry;
use datamesh_engine::transfer::Failure;
use datamesh_node::assemble::Client;
use datamesh_node::home::Mesh;
use datamesh_node::keyring::Identity;
use datamesh_node::settings::{Override, PeerAddress, Settings};

use crate::command::CommandError;
use crate::context::Context;
use crate::exit::Exit;
use crate::ui::Ui;

/// A client of the mesh that the command talks to, and what it goes by.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) settings: Settings,
    /// The name of the mesh.
    pub(super) mesh: String,
    /// The nodes through which the mesh was joined.
    pub(super) entries: Vec<NodeId>,
}

impl Session {
    /// Reaches the mesh.
    pub(super) async fn open(context: &Context, overrides: Vec<Override>) -> Result<Self, CommandError> {
        let resolved = context.settings(overrides)?;
        Self::open_with(context, resolved.settings().clone(), &context.mesh()?).await
    }

    /// Reaches this mesh with these settings.
    pub(super) async fn open_with(
        context: &Context,
        settings: Settings,
        mesh: &Mesh,
    ) -> Result<Self, CommandError> {
        let client = match mesh {
            Mesh::Embedded => Client::embedded(context.home(), &settings).await?,
            Mesh::Joined { entries, charter, .. } => {
                Client::joined(context.home(), &settings, entries, charter).await?
            }
        };
        let entries = match mesh {
            Mesh::Embedded => Vec::new(),
            Mesh::Joined { entries, .. } => entries.iter().map(PeerAddress::node).collect(),
        };
        Ok(Self { client, settings, mesh: mesh.name().to_owned(), entries })
    }
}

impl Session {
    /// Reaches the mesh that an object was put into, which must be the one that the command talks to.
    pub(super) async fn open_of(context: &Context, entry: &Entry) -> Result<Self, CommandError> {
        let mesh = context.mesh()?;
        if entry.network != mesh.name() {
            let message =
                format!("{} was put into network {}, not into {}", entry.object, entry.network, mesh.name());
            return Err(
                CommandError::new(Exit::Usage, message).hint(format!("add --network {}", entry.network))
            );
        }
        Self::open(context, Vec::new()).await
    }
}

/// An object that was put from here, and who has put it: nobody else may say how long it is kept.
pub(super) fn owned(context: &Context, ui: &Ui, text: &str) -> Result<(Entry, Identity), CommandError> {
    let target = target(context, text)?;
    let entry = target.entry.ok_or_else(|| {
        CommandError::new(Exit::NotFound, format!("object {} is not in the catalog", target.object))
            .hint("only who put an object has a say over it, with the catalog that has it")
    })?;
    let readers = context.readers(ui)?;
    let owner = readers.into_iter().find(|identity| identity.owner() == entry.owner);
    let owner = owner.ok_or_else(|| {
        CommandError::new(Exit::Denied, format!("the identity that put {} is not at hand", entry.object))
            .hint("datamesh keys import brings it back")
    })?;
    Ok((entry, owner))
}

/// An object that a command is about.
pub(super) struct Target {
    pub(super) object: ObjectId,
    /// What the catalog knows of it.
    pub(super) entry: Option<Entry>,
}

/// Which object is meant by an id in any of its forms, or by a name of the catalog.
pub(super) fn target(context: &Context, text: &str) -> Result<Target, CommandError> {
    let catalog = context.home().catalog();
    let entries = catalog.entries()?;
    match text.parse::<ObjectId>() {
        Ok(object) => {
            let entry = entries.into_iter().find(|entry| entry.object == object);
            Ok(Target { object, entry })
        }
        Err(error) => named(entries, text).ok_or_else(|| unknown(text, error)),
    }
}

/// The object that was put last under a name.
fn named(entries: Vec<Entry>, name: &str) -> Option<Target> {
    let named = entries.into_iter().filter(|entry| entry.name == name);
    let latest = named.max_by_key(|entry| entry.created)?;
    Some(Target { object: latest.object, entry: Some(latest) })
}

fn unknown(text: &str, error: ParseIdError) -> CommandError {
    if ObjectId::resembles(text) {
        return CommandError::from_error(Exit::Usage, error).hint("copy the id whole, as put printed it");
    }
    CommandError::new(Exit::NotFound, format!("nothing in the catalog is called `{text}`"))
        .hint("datamesh list shows what there is")
}

/// Tells of nodes that failed though the command did what was asked.
pub(super) fn warn_of_failures(ui: &Ui, failures: &BTreeMap<NodeId, Failure>) {
    for failure in failures.values() {
        ui.warn(failure);
    }
}
