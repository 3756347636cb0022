//! `put`: stores files and folders.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use datamesh_core::manifest::Kind;
use datamesh_core::scheme::{Mode, Scheme};
use datamesh_core::time::Epoch;
use datamesh_engine::catalog::Entry;
use datamesh_engine::place::Wholeness;
use datamesh_engine::put::{Put, PutOrder, put};
use datamesh_engine::world::Source;
use datamesh_node::files::{FileSource, FolderSource, PipeSource};
use datamesh_node::keyring::Identity;
use datamesh_node::scheme::scheme;
use serde::Serialize;

use crate::args::PutArgs;
use crate::command::CommandError;
use crate::command::client::{Session, warn_of_failures};
use crate::context::Context;
use crate::exit::Exit;
use crate::ui::{Fields, Ui, bytes, duration, rate};

/// What is shown of a put.
#[derive(Debug, Serialize)]
struct PutView {
    object: String,
    name: String,
    size: u64,
    stored_size: u64,
    scheme: String,
    mode: Mode,
    stripe_count: u64,
    acknowledged: Wholeness,
    seconds: f64,
}

/// An input that is open.
struct Input {
    source: Box<dyn Source>,
    kind: Kind,
    name: String,
    size: Option<u64>,
}

pub(super) async fn run(args: &PutArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    if args.paths.len() > 1 && args.name.is_some() {
        return Err(CommandError::new(Exit::Usage, "one name can't be given to several paths"));
    }
    let session = Session::open(context, args.overrides()).await?;
    let owner = Arc::new(context.identity(ui)?);
    let scheme = scheme(&session.settings.put, &session.client.world.peers.topology())?;
    let mut outcome = Ok(());
    for path in &args.paths {
        outcome = put_one(args, path, context, ui, &session, &owner, scheme).await;
        if outcome.is_err() {
            break;
        }
    }
    session.client.close().await;
    outcome
}

async fn put_one(
    args: &PutArgs,
    path: &Path,
    context: &Context,
    ui: &Ui,
    session: &Session,
    owner: &Arc<Identity>,
    scheme: Scheme,
) -> Result<(), CommandError> {
    let started = Instant::now();
    let Input { mut source, kind, name, size } = open(args, path).await?;
    let order = PutOrder {
        scheme,
        name: args.name.clone().unwrap_or(name),
        kind,
        media_type: args.media_type.clone(),
        metadata: args.meta.iter().map(|meta| (meta.key.clone(), meta.value.clone())).collect(),
        expected_size: size,
        owner: Arc::clone(owner),
        recipients: args.to.clone(),
        until: Epoch::NEVER,
    };
    let client = &session.client;
    let progress = Arc::new(ui.progress(&order.name));
    let done = put(&client.world, client.transfer, progress, source.as_mut(), &order).await?;
    let entry = entry(&done, &order, session);
    context.home().catalog().insert(&entry)?;
    warn_of_failures(ui, &done.failures);
    show(ui, &done, &entry, started)
}

async fn open(args: &PutArgs, path: &Path) -> Result<Input, CommandError> {
    if path == Path::new("-") {
        let source = Box::new(PipeSource(tokio::io::stdin()));
        return Ok(Input { source, kind: Kind::File, name: "stdin".to_owned(), size: None });
    }
    let unreadable = |error| CommandError::io(format!("{} can't be read", path.display()), error);
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    let name = path.canonicalize().map_err(unreadable)?;
    let name = name.file_name().map_or_else(|| "/".into(), |name| name.to_string_lossy());
    let name = name.into_owned();
    if metadata.is_dir() {
        if !args.recursive {
            let error = CommandError::new(Exit::Usage, format!("{} is a folder", path.display()));
            return Err(error.hint("datamesh put -r stores folders"));
        }
        let source = Box::new(FolderSource::open(path).map_err(unreadable)?);
        return Ok(Input { source, kind: Kind::Folder, name, size: None });
    }
    let source = FileSource::open(path).await.map_err(unreadable)?;
    let size = source.size();
    Ok(Input { source: Box::new(source), kind: Kind::File, name, size })
}

fn entry(done: &Put, order: &PutOrder, session: &Session) -> Entry {
    Entry {
        object: done.object,
        name: order.name.clone(),
        kind: order.kind,
        size: done.size,
        stored_size: done.stored_size,
        scheme: order.scheme,
        created: done.created,
        owner: order.owner.owner(),
        tag: done.tag,
        network: session.mesh.clone(),
        acknowledged: done.acknowledged,
    }
}

fn show(ui: &Ui, done: &Put, entry: &Entry, started: Instant) -> Result<(), CommandError> {
    let elapsed = started.elapsed();
    let redundancy = entry.scheme.redundancy;
    let acknowledged = match done.acknowledged {
        Wholeness::Whole => {
            format!(
                "whole: any {} of its {} failure domains may fail",
                redundancy.parity_count(),
                redundancy.shard_count()
            )
        }
        _ => "degraded: some shards found no failure domain of their own; repair completes it".to_owned(),
    };
    let fields = Fields::new()
        .field("object", done.object)
        .field("name", &entry.name)
        .field("size", format!("{}, stored as {}", bytes(done.size), bytes(done.stored_size)))
        .field("scheme", redundancy)
        .field("stored", acknowledged)
        .field("time", format!("{} ({})", duration(elapsed), rate(done.size, elapsed)));
    let view = PutView {
        object: done.object.to_string(),
        name: entry.name.clone(),
        size: done.size,
        stored_size: done.stored_size,
        scheme: redundancy.to_string(),
        mode: entry.scheme.mode,
        stripe_count: done.stripe_count,
        acknowledged: done.acknowledged,
        seconds: elapsed.as_secs_f64(),
    };
    ui.result(fields, view)
}
