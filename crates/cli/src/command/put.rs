//! `put`: stores files and folders.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use datamesh_core::manifest::Kind;
use datamesh_core::scheme::Mode;
use datamesh_core::time::Timestamp;
use datamesh_engine::catalog::{Entry, Savings};
use datamesh_engine::journal::Begun;
use datamesh_engine::place::Wholeness;
use datamesh_engine::put::{Put, PutError, PutOrder, put_with_journal};
use datamesh_engine::world::Source;
use datamesh_node::files::{FileSource, FolderSource, PipeSource, state};
use datamesh_node::journals::{Cleared, Found, Journals, PutIdentity, PutJournal};
use datamesh_node::keyring::Identity;
use datamesh_node::scheme::{rule, scheme};
use datamesh_node::settings::{PolicyRule, PutSettings, PutSubject};
use serde::Serialize;

use crate::args::PutArgs;
use crate::command::CommandError;
use crate::command::client::{Session, warn_of_failures};
use crate::context::{Context, now};
use crate::exit::Exit;
use crate::ui::{Fields, Progress, Ui, bytes, duration, instant, kept_until, rate};

/// What is shown of a put.
#[derive(Debug, Serialize)]
struct PutView {
    object: String,
    name: String,
    size: u64,
    packed_size: u64,
    stored_size: u64,
    reused_size: u64,
    sent_size: u64,
    scheme: String,
    policy: Option<String>,
    mode: Mode,
    stripe_count: u64,
    stripes_reused: u64,
    stripes_resumed: u64,
    acknowledged: Wholeness,
    /// `null` for what is kept until it is deleted.
    until: Option<String>,
    seconds: f64,
}

/// What all puts of a command have in common.
struct Command<'a> {
    args: &'a PutArgs,
    context: &'a Context,
    ui: &'a Ui,
    session: &'a Session,
    owner: Arc<Identity>,
    journals: Journals,
}

/// A rule of the policy, with its number.
type Rule<'a> = (usize, &'a PolicyRule);

/// An input that is open.
struct Input {
    source: Box<dyn Source>,
    kind: Kind,
    name: String,
    size: Option<u64>,
    /// Where it lies and in which state it is; `None` for what can be read but once.
    place: Option<(PathBuf, Vec<u8>)>,
}

pub(super) async fn run(args: &PutArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    if args.paths.len() > 1 && args.name.is_some() {
        return Err(CommandError::new(Exit::Usage, "one name can't be given to several paths"));
    }
    if let Some(end) = args.term.ended(now()) {
        let message = format!("{} is over already", kept_until(end));
        return Err(CommandError::new(Exit::Usage, message).hint("say a time that is still to come"));
    }
    let session = Session::open(context, args.overrides()).await?;
    let outcome = put_all(args, context, ui, &session).await;
    session.client.close().await;
    outcome
}

async fn put_all(args: &PutArgs, context: &Context, ui: &Ui, session: &Session) -> Result<(), CommandError> {
    let owner = Arc::new(context.identity(ui)?);
    let journals = context.home().journals(&session.mesh);
    let command = Command { args, context, ui, session, owner, journals };
    for path in &args.paths {
        // Boxed, since a put makes a large future.
        Box::pin(command.put(path)).await?;
    }
    // What this command itself had to give up is released now, if its nodes can be told.
    command.clear().await
}

impl Command<'_> {
    /// Puts one input; goes on with a put of it that was broken off.
    async fn put(&self, path: &Path) -> Result<(), CommandError> {
        self.clear().await?;
        let started = Instant::now();
        let mut restart = self.args.restart;
        loop {
            let Input { mut source, kind, name, size, place } = open(self.args, path).await?;
            let name = self.args.name.clone().unwrap_or(name);
            let rule = self.rule(&name, size);
            let order = PutOrder { name, kind, expected_size: size, ..self.order(rule)? };
            let again = place.is_some();
            let journal = match place {
                Some((path, state)) => self.journal(&order, rule, &path, &state, restart).await?,
                None => self.journals.pipe(),
            };
            let progress = self.progress(&order.name);
            let client = &self.session.client;
            let source = source.as_mut();
            let done =
                put_with_journal(&client.world, client.transfer, progress, source, &order, &journal).await;
            match done {
                Ok(done) => {
                    let entry = entry(&done, &order, self.session);
                    self.context.home().catalog().insert(&entry)?;
                    // The entry is durable: from now on it tells what is to be released.
                    journal.remove().map_err(unwritable)?;
                    warn_of_failures(self.ui, &done.failures);
                    return show(self.ui, &done, &entry, rule, started);
                }
                Err(PutError::Changed) if again && !restart => {
                    self.begin_anew(path);
                    journal.leave().map_err(unwritable)?;
                    self.clear().await?;
                    restart = true;
                }
                Err(error) => {
                    if again && error.may_pass() {
                        self.ui.note("what was stored is kept: the same command goes on from there");
                    } else {
                        journal.leave().map_err(unwritable)?;
                        self.clear().await?;
                    }
                    return Err(error.into());
                }
            }
        }
    }

    /// The rule of the policy that chooses the scheme, unless the command does.
    fn rule(&self, name: &str, size: Option<u64>) -> Option<Rule<'_>> {
        if self.args.scheme.is_some() {
            return None;
        }
        let subject = PutSubject { name, media_type: self.args.media_type.as_deref(), size };
        rule(&self.session.settings.put, &subject)
    }

    fn order(&self, rule: Option<Rule<'_>>) -> Result<PutOrder, CommandError> {
        let settings = &self.session.settings.put;
        let choice = rule.map_or(settings.scheme, |(_, rule)| rule.scheme);
        Ok(PutOrder {
            scheme: scheme(settings, choice, &self.session.client.world.peers.topology())?,
            name: String::new(),
            kind: Kind::File,
            media_type: self.args.media_type.clone(),
            metadata: self.args.meta.iter().map(|meta| (meta.key.clone(), meta.value.clone())).collect(),
            expected_size: None,
            owner: Arc::clone(&self.owner),
            recipients: self.args.to.clone(),
            term: self.args.term.term(),
        })
    }

    /// The journal of the put of what lies at this path in this state.
    async fn journal(
        &self,
        order: &PutOrder,
        rule: Option<Rule<'_>>,
        path: &Path,
        state: &[u8],
        restart: bool,
    ) -> Result<PutJournal, CommandError> {
        let PutSettings { mode, scheme, chunking, compression, .. } = &self.session.settings.put;
        let scheme = rule.map_or(scheme, |(_, rule)| &rule.scheme);
        // Settings and not the scheme they came to: a mesh of another size does not make it another put.
        let how = format!("{mode:?} {scheme:?} {chunking:?} {compression:?}");
        let recipients = order.recipients.iter().map(ToString::to_string);
        let what = format!("{:?} {:?} {:?} {:?}", order.kind, order.media_type, order.metadata, order.term);
        let words: Vec<Vec<u8>> = [
            path.as_os_str().as_encoded_bytes().to_vec(),
            order.name.clone().into_bytes(),
            order.owner.owner().as_bytes().to_vec(),
            how.into_bytes(),
            what.into_bytes(),
        ]
        .into_iter()
        .chain(recipients.map(String::into_bytes))
        .collect();
        let identity = PutIdentity::new(words.iter().map(Vec::as_slice), state);
        loop {
            let (journal, why_left) = match self.journals.open(&identity).map_err(unwritable)? {
                Found::New(journal) => return Ok(journal),
                Found::Begun(journal) if !restart => {
                    self.ui.note(format!("going on with the put of {} that was broken off", path.display()));
                    return Ok(journal);
                }
                Found::Begun(journal) => (journal, None),
                Found::Changed(journal) => (journal, Some(path)),
            };
            why_left.into_iter().for_each(|path| self.begin_anew(path));
            journal.leave().map_err(unwritable)?;
            self.clear().await?;
        }
    }

    fn progress(&self, label: &str) -> Arc<Progress> {
        let Self { ui, args, .. } = self;
        Arc::new(if args.progress { ui.progress_in_lines(label) } else { ui.progress(label) })
    }

    fn begin_anew(&self, path: &Path) {
        let path = path.display();
        self.ui.note(format!("{path} has changed since its put was broken off: it begins anew"));
    }

    /// Releases what puts have stored that nobody goes on with.
    async fn clear(&self) -> Result<(), CommandError> {
        let keep = u64::try_from(self.session.settings.put.resume_for.duration().as_millis());
        let oldest = Timestamp::from_ms(now().as_ms().saturating_sub(keep.unwrap_or(u64::MAX)));
        if self.journals.is_empty().map_err(unwritable)? {
            return Ok(());
        }
        let entries = self.context.home().catalog().entries()?;
        let tags: BTreeSet<_> = entries.iter().map(|entry| (entry.owner, entry.tag)).collect();
        let readers = self.context.readers(self.ui)?;
        let acknowledged = |begun: &Begun| tags.contains(&(begun.owner, begun.tag));
        let client = &self.session.client;
        let cleared = self.journals.clear(client, &readers, oldest, acknowledged).await;
        let Cleared { released_count, pending_count } = cleared.map_err(unwritable)?;
        if released_count > 0 {
            self.ui.note(format!("released what {released_count} puts had stored that were not finished"));
        }
        if pending_count > 0 {
            let what = "some nodes could not be told to release what an unfinished put had stored";
            self.ui.note(format!("{what}; the next put tells them"));
        }
        Ok(())
    }
}

fn unwritable(error: std::io::Error) -> CommandError {
    CommandError::io("the journal of the put can't be read or written", error)
}

async fn open(args: &PutArgs, path: &Path) -> Result<Input, CommandError> {
    if path == Path::new("-") {
        let source = Box::new(PipeSource(tokio::io::stdin()));
        return Ok(Input { source, kind: Kind::File, name: "stdin".to_owned(), size: None, place: None });
    }
    let unreadable = |error| CommandError::io(format!("{} can't be read", path.display()), error);
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    let full = path.canonicalize().map_err(unreadable)?;
    let name = full.file_name().map_or_else(|| "/".into(), |name| name.to_string_lossy());
    let name = name.into_owned();
    if metadata.is_dir() {
        if !args.recursive {
            let error = CommandError::new(Exit::Usage, format!("{} is a folder", path.display()));
            return Err(error.hint("datamesh put -r stores folders"));
        }
        let source = Box::new(FolderSource::open(path).map_err(unreadable)?);
        let place = Some((full, state(&metadata)));
        return Ok(Input { source, kind: Kind::Folder, name, size: None, place });
    }
    let place = metadata.is_file().then(|| (full, state(&metadata)));
    let source = FileSource::open(path).await.map_err(unreadable)?;
    let size = source.size();
    Ok(Input { source: Box::new(source), kind: Kind::File, name, size, place })
}

fn entry(done: &Put, order: &PutOrder, session: &Session) -> Entry {
    let Put { packed_size, reused_size, stripe_count, reused_count, .. } = *done;
    Entry {
        object: done.object,
        name: order.name.clone(),
        kind: order.kind,
        size: done.size,
        stored_size: done.stored_size,
        scheme: done.scheme,
        created: done.created,
        owner: order.owner.owner(),
        tag: done.tag,
        network: session.mesh.clone(),
        acknowledged: done.acknowledged,
        savings: Some(Savings { packed_size, reused_size, stripe_count, reused_count }),
        until: done.until.begin().map(|_| done.until),
    }
}

fn show(
    ui: &Ui,
    done: &Put,
    entry: &Entry,
    rule: Option<Rule<'_>>,
    started: Instant,
) -> Result<(), CommandError> {
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
    let mut size = format!("{}, stored as {}", bytes(done.size), bytes(done.stored_size));
    if done.reused_size > 0 {
        size += &format!(", of which {} were there already", bytes(done.reused_size));
    }
    if done.resumed_count > 0 {
        size += &format!(", of which {} were sent now", bytes(done.sent_size));
    }
    let scheme = match rule {
        Some((number, rule)) => format!("{redundancy}, by rule {number} of put.policy: {rule}"),
        None => redundancy.to_string(),
    };
    let fields = Fields::new()
        .field("object", done.object)
        .field("name", &entry.name)
        .field("size", size)
        .field("scheme", scheme)
        .field("stored", acknowledged)
        .field("kept until", kept_until(entry.end()))
        .field("time", format!("{} ({})", duration(elapsed), rate(done.size, elapsed)));
    let view = PutView {
        object: done.object.to_string(),
        name: entry.name.clone(),
        size: done.size,
        packed_size: done.packed_size,
        stored_size: done.stored_size,
        reused_size: done.reused_size,
        sent_size: done.sent_size,
        scheme: redundancy.to_string(),
        policy: rule.map(|(_, rule)| rule.to_string()),
        mode: entry.scheme.mode,
        stripe_count: done.stripe_count,
        stripes_reused: done.reused_count,
        stripes_resumed: done.resumed_count,
        acknowledged: done.acknowledged,
        until: entry.end().begin().map(instant),
        seconds: elapsed.as_secs_f64(),
    };
    ui.result(fields, view)
}
