//! `access`: who may use the buckets of an identity through a gateway.

use std::sync::Arc;

use datamesh_core::bucket::{AccessKey, Grant};
use datamesh_engine::buckets::Buckets;
use datamesh_node::buckets::OpenBuckets;
use serde::Serialize;

use crate::args::{AccessArgs, AccessCommand, AccessGrantArgs, AccessNewArgs, GrantArg};
use crate::command::CommandError;
use crate::command::client::Session;
use crate::context::{Context, entropy, now};
use crate::exit::Exit;
use crate::ui::{Column, Fields, Table, Ui, instant};

const ID_PREFIX: &str = "DM";
/// Letters and digits of an id behind the prefix, and of a secret: 90 and 200 bits.
const ID_LENGTH: usize = 18;
const SECRET_LENGTH: usize = 40;
/// 32 of them, so that five bits choose one; none that looks like another.
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// What is shown of an access key.
#[derive(Debug, Serialize)]
struct AccessView {
    id: String,
    name: Option<String>,
    grants: Vec<String>,
    created: String,
    /// Only of one that was made just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl AccessView {
    fn new(id: String, access: &AccessKey) -> Self {
        let grants = access.grants.iter().map(text).collect();
        Self { id, name: access.name.clone(), grants, created: instant(access.created), secret: None }
    }
}

fn text(grant: &Grant) -> String {
    let bucket = grant.bucket.as_ref().map_or("*", |bucket| bucket.as_str());
    format!("{bucket}={}", grant.access)
}

pub(super) async fn run(args: &AccessArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let owner = Arc::new(context.identity(ui)?);
    let session = Session::open(context, Vec::new()).await?;
    let (client, mesh, settings) = (&session.client, &session.mesh, &session.settings);
    let done = match OpenBuckets::open(context.home(), client, mesh, settings, owner).await {
        Ok(open) => {
            let done = carry_out(&args.command, &open.buckets, ui).await;
            open.close().await;
            done
        }
        Err(error) => Err(error.into()),
    };
    session.client.close().await;
    done
}

async fn carry_out(command: &AccessCommand, buckets: &Buckets, ui: &Ui) -> Result<(), CommandError> {
    match command {
        AccessCommand::New(args) => new(args, buckets, ui).await,
        AccessCommand::List => list(buckets, ui),
        AccessCommand::Grant(args) => grant(args, buckets, ui).await,
        AccessCommand::Remove(args) => {
            let access = known(buckets, &args.id)?;
            buckets.remove_access_key(args.id.clone()).await?;
            show(ui, &AccessView::new(args.id.clone(), &access))
        }
    }
}

async fn new(args: &AccessNewArgs, buckets: &Buckets, ui: &Ui) -> Result<(), CommandError> {
    let grants = args.grants.iter().filter_map(GrantArg::grant).collect();
    let (id, access) = make(buckets, args.name.clone(), grants).await?;
    let view = AccessView { secret: Some(access.secret.clone()), ..AccessView::new(id, &access) };
    show(ui, &view)?;
    ui.note("the secret is not shown again");
    Ok(())
}

/// Makes an access key.
pub(super) async fn make(
    buckets: &Buckets,
    name: Option<String>,
    grants: Vec<Grant>,
) -> Result<(String, AccessKey), CommandError> {
    let id = format!("{ID_PREFIX}{}", random_text(ID_LENGTH));
    let access = AccessKey { secret: random_text(SECRET_LENGTH), created: now(), grants, name };
    buckets.set_access_key(id.clone(), access.clone()).await?;
    Ok((id, access))
}

fn list(buckets: &Buckets, ui: &Ui) -> Result<(), CommandError> {
    let mut table = Table::new(["ID", "NAME", "GRANTS", "CREATED"].map(Column::left));
    let keys = buckets.access_keys().map_err(|error| CommandError::from_error(Exit::Failed, error))?;
    let views: Vec<AccessView> = keys.into_iter().map(|(id, access)| AccessView::new(id, &access)).collect();
    for view in &views {
        let name = view.name.clone().unwrap_or_default();
        table.row([view.id.clone(), name, view.grants.join(" "), view.created.clone()]);
    }
    ui.results(table, &views)
}

async fn grant(args: &AccessGrantArgs, buckets: &Buckets, ui: &Ui) -> Result<(), CommandError> {
    let mut access = known(buckets, &args.id)?;
    for grant in &args.grants {
        access.grants.retain(|known| known.bucket != grant.bucket);
        access.grants.extend(grant.grant());
    }
    buckets.set_access_key(args.id.clone(), access.clone()).await?;
    show(ui, &AccessView::new(args.id.clone(), &access))
}

fn known(buckets: &Buckets, id: &str) -> Result<AccessKey, CommandError> {
    let found = buckets.access_key(id).map_err(|error| CommandError::from_error(Exit::Failed, error))?;
    found.ok_or_else(|| {
        CommandError::new(Exit::NotFound, format!("there is no access key {id}"))
            .hint("datamesh access list shows those that there are")
    })
}

fn show(ui: &Ui, view: &AccessView) -> Result<(), CommandError> {
    let mut fields = Fields::new().field("access key", &view.id);
    if let Some(secret) = &view.secret {
        fields = fields.field("secret", secret);
    }
    if let Some(name) = &view.name {
        fields = fields.field("name", name);
    }
    ui.result(fields.field("may", view.grants.join(" ")), view)
}

fn random_text(length: usize) -> String {
    let mut bytes = vec![0; length];
    entropy(&mut bytes);
    bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect()
}
