//! `admit`: who may be part of a restricted mesh, as its authorities say.

use std::path::Path;
use std::time::Duration;

use datamesh_core::admission::{Admission, Admitted, Authorities, Roll, Rolls};
use datamesh_core::id::{NodeId, OwnerId};
use datamesh_core::sign::Signed;
use datamesh_core::time::Epoch;
use datamesh_engine::enrol::{self, Enrolled};
use datamesh_node::roll_file;
use serde::Serialize;

use crate::args::{AdmitArgs, AdmitCommand, Instant};
use crate::command::CommandError;
use crate::command::client::{Session, warn_of_failures};
use crate::context::{Context, now};
use crate::exit::Exit;
use crate::ui::{Column, Fields, Table, Ui, bytes, instant, kept_until};

/// How long a node may take to tell of its rolls, or to take one.
const ROLL_DEADLINE: Duration = Duration::from_secs(10);

/// What is shown of an admission.
#[derive(Debug, Serialize)]
struct AdmissionView {
    kind: &'static str,
    key: String,
    authority: String,
    /// `null` until it is revoked.
    until: Option<String>,
    /// `null` for no bound.
    quota: Option<u64>,
}

/// What is shown of an admission that was just signed.
#[derive(Debug, Serialize)]
struct AdmittedView {
    #[serde(flatten)]
    admission: AdmissionView,
    nodes_told: usize,
}

/// What is shown of a roll that was published.
#[derive(Debug, Serialize)]
struct EnrolledView {
    authority: String,
    admissions: usize,
    nodes_told: usize,
}

/// What is shown of a revocation.
#[derive(Debug, Serialize)]
struct RevocationView {
    key: String,
    revoked: bool,
    nodes_told: usize,
}

impl AdmissionView {
    fn new(authority: OwnerId, admission: &Admission) -> Self {
        let (kind, key) = match admission.who {
            Admitted::Node(node) => ("node", node.to_string()),
            Admitted::Owner(owner) => ("owner", owner.to_string()),
        };
        let until = admission.until.begin().map(instant);
        Self { kind, key, authority: authority.to_string(), until, quota: admission.quota }
    }
}

pub(super) async fn run(args: &AdmitArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    match &args.command {
        AdmitCommand::List { roll } => list(context, ui, roll.as_deref()).await,
        AdmitCommand::Node { key, until, roll } => {
            let admission = Admission { who: Admitted::Node(*key), until: end(until.as_ref())?, quota: None };
            admit(context, ui, admission, roll.as_deref()).await
        }
        AdmitCommand::Owner { key, quota, until, roll } => {
            let quota = quota.map(|quota| quota.bytes());
            let admission = Admission { who: Admitted::Owner(*key), until: end(until.as_ref())?, quota };
            admit(context, ui, admission, roll.as_deref()).await
        }
        AdmitCommand::Revoke { key, roll } => revoke(context, ui, key, roll.as_deref()).await,
        AdmitCommand::Publish { roll } => publish(context, ui, roll).await,
    }
}

fn end(until: Option<&Instant>) -> Result<Epoch, CommandError> {
    let end = until.map_or(Epoch::NEVER, |until| until.0.next_epoch());
    if end <= now().epoch() {
        let message = format!("{} is over already", kept_until(end));
        return Err(CommandError::new(Exit::Usage, message).hint("say a time that is still to come"));
    }
    Ok(end)
}

async fn list(context: &Context, ui: &Ui, file: Option<&Path>) -> Result<(), CommandError> {
    let rolls: Vec<Roll> = match file {
        Some(path) => vec![of_file(path)?.unverified().clone()],
        None => {
            let session = Session::open(context, Vec::new()).await?;
            let rolls = rolls(&session).await;
            session.client.close().await;
            rolls?.rolls().map(|roll| roll.unverified().clone()).collect()
        }
    };
    let views: Vec<AdmissionView> = rolls
        .iter()
        .flat_map(|roll| roll.admissions.iter().map(|one| AdmissionView::new(roll.authority, one)))
        .collect();
    let mut table = Table::new(["KIND", "KEY", "UNTIL", "QUOTA", "BY"].map(Column::left));
    for view in &views {
        table.row([
            view.kind.to_owned(),
            view.key.clone(),
            view.until.clone().unwrap_or_else(|| "revoked".to_owned()),
            view.quota.map_or_else(|| "none".to_owned(), bytes),
            view.authority.clone(),
        ]);
    }
    ui.results(table, &views)
}

async fn admit(
    context: &Context,
    ui: &Ui,
    admission: Admission,
    file: Option<&Path>,
) -> Result<(), CommandError> {
    let full = || {
        CommandError::new(Exit::NoSpace, "the roll of this authority is full")
            .hint("revoke somebody, or admit with another authority's identity")
    };
    let signed = sign_next(context, ui, file, |roll| roll.with(admission).ok_or_else(full)).await?;
    let admission = AdmissionView::new(signed.authority, &admission);
    let quota = admission.quota.map_or_else(|| "none".to_owned(), bytes);
    let fields = Fields::new()
        .field("admitted", &admission.key)
        .field("as", admission.kind)
        .field("quota", quota)
        .field("until", admission.until.as_deref().unwrap_or("it is revoked"))
        .field("nodes told", signed.node_count);
    let nodes_told = signed.node_count;
    ui.result(fields, AdmittedView { admission, nodes_told })
}

async fn revoke(context: &Context, ui: &Ui, key: &str, file: Option<&Path>) -> Result<(), CommandError> {
    let node = key.parse::<NodeId>().map(Admitted::Node);
    let who = node.or_else(|_| key.parse::<OwnerId>().map(Admitted::Owner)).map_err(|_| {
        CommandError::new(Exit::Usage, format!("`{key}` is neither a peer id nor an owner id"))
            .hint("datamesh admit list shows who is admitted")
    })?;
    let unknown = || {
        CommandError::new(Exit::NotFound, format!("{key} is not admitted by this authority"))
            .hint("datamesh admit list shows who is admitted, and by whom")
    };
    let signed = sign_next(context, ui, file, |roll| roll.without(who).ok_or_else(unknown)).await?;
    let fields = Fields::new().field("revoked", key).field("nodes told", signed.node_count);
    ui.result(fields, RevocationView { key: key.to_owned(), revoked: true, nodes_told: signed.node_count })
}

/// A roll that was signed, and that nodes have taken note of.
struct Taken {
    authority: OwnerId,
    node_count: usize,
}

/// Signs the next roll of this identity as it is changed from the last one, and tells the mesh, or writes it to a file.
async fn sign_next(
    context: &Context,
    ui: &Ui,
    file: Option<&Path>,
    change: impl FnOnce(Roll) -> Result<Roll, CommandError>,
) -> Result<Taken, CommandError> {
    let identity = context.identity(ui)?;
    let authority = identity.owner();
    let sign = |rolls: &Rolls| -> Result<Signed<Roll>, CommandError> {
        Ok(Signed::sign(change(rolls.next(authority, now()))?, identity.signing_key()))
    };
    if let Some(path) = file {
        let roll = sign(&last_of_file(path, authority, ui)?)?;
        roll_file::write(path, &roll)?;
        return Ok(Taken { authority, node_count: 0 });
    }
    let session = Session::open(context, Vec::new()).await?;
    let outcome = async {
        let rolls = rolls(&session).await?;
        if !rolls.is_authority(&authority) {
            return Err(no_authority(authority));
        }
        Ok(enrol::tell(&session.client.world, &sign(&rolls)?, &session.entries, ROLL_DEADLINE).await)
    }
    .await;
    session.client.close().await;
    Ok(Taken { authority, node_count: told(ui, &outcome?)? })
}

/// Tells the mesh of a roll in a file.
async fn publish(context: &Context, ui: &Ui, path: &Path) -> Result<(), CommandError> {
    let roll = of_file(path)?;
    let Roll { authority, sequence, ref admissions } = *roll.unverified();
    let session = Session::open(context, Vec::new()).await?;
    let outcome = async {
        let rolls = rolls(&session).await?;
        if !rolls.is_authority(&authority) {
            return Err(no_authority(authority));
        }
        if rolls.sequences().iter().any(|(other, known)| *other == authority && *known > sequence) {
            let message = format!("the mesh knows a newer roll of {authority} than {}", path.display());
            return Err(CommandError::new(Exit::Usage, message)
                .hint("datamesh admit list shows what it says; change the roll in the file once more"));
        }
        Ok(enrol::tell(&session.client.world, &roll, &session.entries, ROLL_DEADLINE).await)
    }
    .await;
    session.client.close().await;
    let view = EnrolledView {
        authority: authority.to_string(),
        admissions: admissions.len(),
        nodes_told: told(ui, &outcome?)?,
    };
    let fields = Fields::new()
        .field("authority", &view.authority)
        .field("admissions", view.admissions)
        .field("nodes told", view.nodes_told);
    ui.result(fields, &view)
}

/// How many nodes have taken note; an error where none has.
fn told(ui: &Ui, enrolled: &Enrolled) -> Result<usize, CommandError> {
    warn_of_failures(ui, &enrolled.failures);
    if enrolled.node_count == 0 {
        let message = "no node took note of it: nothing has changed";
        return Err(CommandError::new(Exit::Unreachable, message).hint("datamesh peers shows the nodes"));
    }
    if !enrolled.failures.is_empty() {
        ui.note("the others tell those nodes when they are back");
    }
    Ok(enrolled.node_count)
}

fn no_authority(owner: OwnerId) -> CommandError {
    CommandError::new(Exit::Denied, format!("{owner} is no authority of this mesh"))
        .hint("datamesh keys list shows the identities of this home; datamesh keys use chooses one")
}

fn of_file(path: &Path) -> Result<Signed<Roll>, CommandError> {
    let roll = roll_file::read(path)?;
    roll.ok_or_else(|| {
        CommandError::new(Exit::NotFound, format!("there is no roll {}", path.display()))
            .hint("datamesh admit node PEER_ID --roll FILE makes one")
    })
}

/// What this authority's roll in a file says; nothing where there is none yet.
fn last_of_file(path: &Path, authority: OwnerId, ui: &Ui) -> Result<Rolls, CommandError> {
    let own = Authorities::new([authority]).map_err(|error| CommandError::from_error(Exit::Usage, error))?;
    let mut rolls = Rolls::new(own);
    match roll_file::read(path)? {
        None => ui.note(format!(
            "{} is new and admits nobody else; once published, it replaces what this authority has admitted before",
            path.display()
        )),
        Some(roll) => {
            let whose = roll.unverified().authority;
            rolls.learn(roll, now()).map_err(|error| {
                CommandError::from_error(Exit::Usage, error)
                    .hint(format!("{} is of {whose}, and this identity is {authority}", path.display()))
            })?;
        }
    }
    Ok(rolls)
}

/// The newest rolls of the mesh; an error where it is not restricted.
async fn rolls(session: &Session) -> Result<Rolls, CommandError> {
    let known = session.client.network().map(|network| network.rolls()).filter(Rolls::is_restricted);
    let mut rolls = known.ok_or_else(|| {
        CommandError::new(Exit::Usage, format!("network {} is not restricted", session.mesh))
            .hint("datamesh bootstrap --restricted founds a mesh that is; join it with --authority OWNER")
    })?;
    enrol::learn(&session.client.world, &mut rolls, &session.entries, ROLL_DEADLINE).await;
    Ok(rolls)
}
