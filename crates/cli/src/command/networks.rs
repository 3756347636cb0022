//! `networks`: lists the meshes that were joined, and chooses one.

use datamesh_node::charter::Kind;
use datamesh_node::home::{Mesh, Networks};
use serde::Serialize;

use crate::args::{NetworksArgs, NetworksCommand};
use crate::command::CommandError;
use crate::context::Context;
use crate::ui::{Column, Fields, Table, Ui};

/// What is shown of a mesh.
#[derive(Debug, Serialize)]
pub(super) struct NetworkView {
    name: String,
    current: bool,
    kind: Kind,
    addresses: Vec<String>,
}

impl NetworkView {
    pub(super) fn new(mesh: &Mesh, networks: &Networks) -> Self {
        let addresses = match mesh {
            Mesh::Embedded => Vec::new(),
            Mesh::Joined { entries, .. } => entries.iter().map(ToString::to_string).collect(),
        };
        let current = networks.current().name() == mesh.name();
        let kind = mesh.charter().kind();
        Self { name: mesh.name().to_owned(), current, kind, addresses }
    }

    pub(super) fn fields(&self) -> Fields {
        Fields::new().field("network", &self.name).field("kind", self.kind).field("addresses", self.place())
    }

    fn place(&self) -> String {
        if self.addresses.is_empty() { "in this home".to_owned() } else { self.addresses.join(" ") }
    }
}

pub(super) fn run(args: &NetworksArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let Some(NetworksCommand::Use { name }) = &args.command else {
        return list(context, ui);
    };
    let lock = context.home().lock()?;
    let mut networks = Networks::load(context.home())?;
    networks.select(name.as_str())?;
    networks.save(context.home(), &lock)?;
    let view = NetworkView::new(&networks.current(), &networks);
    ui.result(view.fields(), &view)
}

fn list(context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let networks = Networks::load(context.home())?;
    let mut table = Table::new(["NAME", "", "KIND", "ADDRESSES"].map(Column::left));
    let views: Vec<NetworkView> = networks.all().map(|mesh| NetworkView::new(&mesh, &networks)).collect();
    for view in &views {
        let current = if view.current { "current" } else { "" };
        table.row([view.name.clone(), current.to_owned(), view.kind.to_string(), view.place()]);
    }
    ui.results(table, &views)
}
