//! `keys`: lists, makes, exports and imports identities.

use datamesh_core::time::Timestamp;
use datamesh_node::home::Name;
use datamesh_node::keyring::{DEFAULT_IDENTITY, Entry, Identity, Keyring, Protection};
use serde::Serialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::args::{KeysArgs, KeysCommand, KeysExportArgs, KeysImportArgs, KeysNewArgs, KeysRotateArgs};
use crate::command::CommandError;
use crate::context::{Context, entropy, now};
use crate::ui::{Column, Fields, Table, Ui, instant};

const IMPORTED: &str = "imported";

/// What is shown of an identity.
#[derive(Debug, Serialize)]
pub(super) struct IdentityView {
    name: String,
    recipient: String,
    owner: String,
    created: String,
    retired: Option<String>,
    locked: bool,
    current: bool,
}

impl IdentityView {
    pub(super) fn new(name: &Name, entry: &Entry, keyring: &Keyring) -> Self {
        Self {
            name: name.to_string(),
            recipient: entry.recipient().to_string(),
            owner: entry.owner().to_string(),
            created: instant(entry.created()),
            retired: entry.retired().map(instant as fn(Timestamp) -> String),
            locked: entry.is_locked(),
            current: keyring.current().is_ok_and(|(current, _)| current == name),
        }
    }

    fn state(&self) -> &'static str {
        match (self.current, &self.retired) {
            (true, _) => "current",
            (false, Some(_)) => "retired",
            (false, None) => "",
        }
    }
}

pub(super) fn identity_fields(view: &IdentityView) -> Fields {
    Fields::new()
        .field("identity", &view.name)
        .field("recipient", &view.recipient)
        .field("owner", &view.owner)
        .field("password", if view.locked { "yes" } else { "no" })
}

pub(super) fn run(args: &KeysArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    match &args.command {
        KeysCommand::List => list(context, ui),
        KeysCommand::New(args) => new(args, context, ui),
        KeysCommand::Use(args) => change(context, ui, |keyring| {
            keyring.select(&args.name)?;
            Ok(args.name.clone())
        }),
        KeysCommand::Rotate(args) => rotate(args, context, ui),
        KeysCommand::Export(args) => export(args, context, ui),
        KeysCommand::Import(args) => import(args, context, ui),
    }
}

fn list(context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let keyring = context.keyring(ui)?;
    let columns = ["NAME", "", "CREATED", "PASSWORD", "RECIPIENT"];
    let mut table = Table::new(columns.map(Column::left));
    let views: Vec<IdentityView> =
        keyring.entries().map(|(name, entry)| IdentityView::new(name, entry, &keyring)).collect();
    for view in &views {
        let password = if view.locked { "yes" } else { "no" };
        table.row([&view.name, view.state(), &view.created, password, &view.recipient]);
    }
    ui.results(table, &views)
}

/// Changes the keyring while no other process does, and shows the identity that the change is about.
fn change(
    context: &Context,
    ui: &Ui,
    change: impl FnOnce(&mut Keyring) -> Result<Name, CommandError>,
) -> Result<(), CommandError> {
    let lock = context.home().lock()?;
    let mut keyring = Keyring::load(context.home())?;
    let name = change(&mut keyring)?;
    keyring.save(context.home(), &lock)?;
    let view = IdentityView::new(&name, keyring.entry(&name)?, &keyring);
    ui.result(identity_fields(&view), &view)
}

fn protection(password: Option<&Zeroizing<String>>) -> Protection<'_> {
    password.map_or(Protection::Permissions, |password| Protection::Password(password))
}

fn new(args: &KeysNewArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let password = new_password(args.password, &args.name, context, ui)?;
    change(context, ui, |keyring| {
        let identity = Identity::random(&mut entropy);
        keyring.add(&args.name, identity, protection(password.as_ref()), now(), &mut entropy)?;
        Ok(args.name.clone())
    })
}

fn new_password(
    wanted: bool,
    name: &Name,
    context: &Context,
    ui: &Ui,
) -> Result<Option<Zeroizing<String>>, CommandError> {
    if wanted { context.passwords().new_one(ui, &format!("identity {name}")).map(Some) } else { Ok(None) }
}

fn rotate(args: &KeysRotateArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let keyring = Keyring::load(context.home())?;
    let (current, entry) = keyring.current()?;
    // Whoever can't open the old identity must not take its place, and what had a password keeps it.
    context.open(ui, current, entry)?;
    let password = if entry.is_locked() {
        context.password().map(|password| Zeroizing::new(password.to_owned()))
    } else {
        new_password(args.password, current, context, ui)?
    };
    let rotated = entry.recipient().clone();
    change(context, ui, |keyring| {
        let (current, entry) = keyring.current()?;
        let current = current.clone();
        if *entry.recipient() != rotated {
            return Err(CommandError::new(
                crate::exit::Exit::Failed,
                "another process just rotated the identity",
            ));
        }
        let identity = Identity::random(&mut entropy);
        let kept = keyring.rotate(identity, protection(password.as_ref()), now(), &mut entropy)?;
        ui.note(format!("the old identity is kept as {kept}: it goes on opening what was put for it"));
        Ok(current)
    })
}

fn export(args: &KeysExportArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let keyring = context.keyring(ui)?;
    let (name, entry) = match &args.name {
        Some(name) => (name, keyring.entry(name)?),
        None => keyring.current()?,
    };
    let secret = context.open(ui, name, entry)?.to_text();
    ui.note("whoever has this text can read and delete all that this identity can");
    ui.result(secret.as_str(), json!({ "name": name.as_str(), "secret": secret.as_str() }))
}

fn import(args: &KeysImportArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let secret = context.passwords().secret(ui, args.file.as_deref(), "Secret: ")?;
    let identity: Identity = secret.parse()?;
    let keyring = Keyring::load(context.home())?;
    let name = args.name.clone().unwrap_or_else(|| free_name(&keyring));
    let password = new_password(args.password, &name, context, ui)?;
    change(context, ui, |keyring| {
        keyring.add(&name, identity, protection(password.as_ref()), now(), &mut entropy)?;
        Ok(name)
    })
}

fn free_name(keyring: &Keyring) -> Name {
    let name = |text: &str| text.parse::<Name>().expect("written here as a name");
    let taken = |name: &Name| keyring.entry(name).is_ok();
    let first = [DEFAULT_IDENTITY, IMPORTED].map(name).into_iter().find(|name| !taken(name));
    first.unwrap_or_else(|| name(IMPORTED).numbered(taken))
}
