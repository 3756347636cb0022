//! `get`: fetches an object.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use datamesh_core::id::ObjectId;
use datamesh_core::manifest::{Details, Kind};
use datamesh_engine::get::{DigestCheck, GetError, Reading};
use datamesh_node::files::{Existing, FileSink, FolderSink, PipeSink, Resumption};
use serde::Serialize;

use crate::args::{ByteRange, GetArgs};
use crate::command::CommandError;
use crate::command::client::{Session, target};
use crate::context::Context;
use crate::exit::Exit;
use crate::ui::{Fields, Ui, bytes, duration, rate};

/// What is shown of a get.
#[derive(Debug, Serialize)]
struct GetView {
    object: String,
    name: String,
    size: u64,
    resumed_size: u64,
    out: String,
    seconds: f64,
}

pub(super) async fn run(args: &GetArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let target = target(context, &args.object)?;
    let session = Session::open(context, args.overrides()).await?;
    let outcome = get(args, target.object, context, ui, &session).await;
    session.client.close().await;
    outcome
}

async fn get(
    args: &GetArgs,
    object: ObjectId,
    context: &Context,
    ui: &Ui,
    session: &Session,
) -> Result<(), CommandError> {
    let started = Instant::now();
    let readers = context.readers(ui)?;
    let client = &session.client;
    let label = &args.object;
    let progress = Arc::new(if args.progress { ui.progress_in_lines(label) } else { ui.progress(label) });
    let reading = Reading::open(&client.world, client.transfer, progress, object, &readers).await?;
    let details = reading.details();
    let out = args.out.clone().unwrap_or_else(|| default_name(details));
    let range = args.range.map(range);
    let check = if args.verify { DigestCheck::Check } else { DigestCheck::Skip };
    if out == Path::new("-") {
        let mut sink = PipeSink(tokio::io::stdout());
        return match reading.copy(range, check, &mut sink).await {
            Err(GetError::Sink(error)) => Err(CommandError::output(error)),
            copied => Ok(copied.map(|_| ())?),
        };
    }
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    let (size, resumed_size) = match (details.kind, &range) {
        (Kind::Folder, None) => (to_folder(&reading, check, &out, existing).await?, 0),
        _ => {
            let journals = context.home().get_journals_path();
            let resumption = Resumption { journals, content: content(object, range.as_ref()) };
            to_file(&reading, range, check, &out, existing, resumption, ui).await?
        }
    };
    let elapsed = started.elapsed();
    let name = details.name.clone();
    let fields = Fields::new()
        .field("object", object)
        .field("name", &name)
        .field("size", bytes(size))
        .field("written to", out.display())
        .field("time", format!("{} ({})", duration(elapsed), rate(size, elapsed)));
    let view = GetView {
        object: object.to_string(),
        name,
        size,
        resumed_size,
        out: out.display().to_string(),
        seconds: elapsed.as_secs_f64(),
    };
    ui.result(fields, view)
}

/// Writes what a partial file of an earlier run doesn't have yet. Says how many bytes the file has, and how many of them
/// were there already.
async fn to_file(
    reading: &Reading,
    range: Option<Range<u64>>,
    check: DigestCheck,
    out: &Path,
    existing: Existing,
    resumption: Resumption,
    ui: &Ui,
) -> Result<(u64, u64), CommandError> {
    let unwritable = |error| unwritable(out, error);
    let mut sink = FileSink::resume(out, existing, resumption).await.map_err(unwritable)?;
    let (resumed_size, _) = sink.written().expect("nothing was written yet, so that nothing failed");
    if resumed_size > 0 {
        ui.note(format!("going on behind the {} that are there already", bytes(resumed_size)));
    }
    // The sink takes the digest of all it holds; the engine's would begin where this run does.
    reading.copy_on(range, resumed_size, DigestCheck::Skip, &mut sink).await.inspect_err(|_| {
        if sink.written().is_none_or(|(written, _)| written > 0) {
            ui.note("what was got is kept: the same command goes on from there");
        }
    })?;
    let (size, digest) = sink.written().expect("every write has succeeded");
    if check == DigestCheck::Check && digest != reading.details().digest {
        sink.discard();
        return Err(GetError::Digest.into());
    }
    sink.finish().await.map_err(unwritable)?;
    Ok((size, resumed_size))
}

/// What is got, as one get is told from another by.
fn content(object: ObjectId, range: Option<&Range<u64>>) -> Vec<u8> {
    let bounds = range.map(|range| [range.start, range.end].map(u64::to_le_bytes).concat());
    [&object.root().as_bytes()[..], &bounds.unwrap_or_default()].concat()
}

async fn to_folder(
    reading: &Reading,
    check: DigestCheck,
    out: &Path,
    existing: Existing,
) -> Result<u64, CommandError> {
    let unwritable = |error| unwritable(out, error);
    let mut sink = FolderSink::create(out, existing).map_err(unwritable)?;
    let size = reading.copy(None, check, &mut sink).await?;
    sink.finish().await.map_err(unwritable)?;
    Ok(size)
}

fn unwritable(out: &Path, error: std::io::Error) -> CommandError {
    if error.kind() == std::io::ErrorKind::AlreadyExists {
        let error = CommandError::new(Exit::Failed, format!("{} exists", out.display()));
        return error.hint("choose another name, or replace it with --force");
    }
    CommandError::io(format!("{} can't be written", out.display()), error)
}

/// The name under which the object was put, without whatever folders its owner put into the name.
fn default_name(details: &Details) -> PathBuf {
    let name = Path::new(&details.name).file_name();
    name.map_or_else(|| PathBuf::from("object"), PathBuf::from)
}

fn range(range: ByteRange) -> Range<u64> {
    range.first..range.last.map_or(u64::MAX, |last| last.saturating_add(1))
}
