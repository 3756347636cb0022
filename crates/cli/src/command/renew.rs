//! `renew`: keeps an object for longer.

use std::sync::Arc;

use datamesh_engine::catalog::Entry;
use datamesh_engine::renew::{RenewOrder, renew};
use serde::Serialize;

use crate::args::RenewArgs;
use crate::command::CommandError;
use crate::command::client::{Session, owned, warn_of_failures};
use crate::context::{Context, now};
use crate::exit::Exit;
use crate::ui::{Fields, Ui, instant, kept_until};

/// What is shown of a renewal.
#[derive(Debug, Serialize)]
struct RenewView {
    object: String,
    /// `null` for what is kept until it is deleted.
    until: Option<String>,
    lease_count: u64,
    missed_count: u64,
}

pub(super) async fn run(args: &RenewArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let (entry, owner) = owned(context, ui, &args.object)?;
    let until = args.term.term().end(now());
    if until < entry.end() {
        let message = format!("{} is kept until {} already", entry.object, kept_until(entry.end()));
        return Err(CommandError::new(Exit::Usage, message)
            .hint("a lease can't be made shorter: put it anew for that long, and delete this one"));
    }
    if until <= now().epoch() {
        let message = format!("{} is over already", kept_until(until));
        return Err(CommandError::new(Exit::Usage, message).hint("say a time that is still to come"));
    }
    let session = Session::open_of(context, &entry).await?;
    let order = RenewOrder { object: entry.object, owner: &owner, tag: entry.tag, until };
    let progress = Arc::new(ui.progress(&entry.name));
    let client = &session.client;
    let renewed = renew(&client.world, client.transfer, progress, &order).await;
    session.client.close().await;
    let renewed = renewed?;
    warn_of_failures(ui, &renewed.failures);
    let prolonged = Entry { until: until.begin().map(|_| until), ..entry };
    if !context.home().catalog().replace(&prolonged)? {
        let message = format!("{} was deleted meanwhile", prolonged.object);
        return Err(CommandError::new(Exit::NotFound, message).hint("put it again"));
    }
    if renewed.missed_count > 0 {
        ui.warn(format!(
            "{} parts could not be renewed where they lie: repair makes them again from the others when they end",
            renewed.missed_count
        ));
    }
    let fields = Fields::new()
        .field("object", prolonged.object)
        .field("kept until", kept_until(until))
        .field("parts renewed", renewed.lease_count);
    let view = RenewView {
        object: prolonged.object.to_string(),
        until: until.begin().map(instant),
        lease_count: renewed.lease_count,
        missed_count: renewed.missed_count,
    };
    ui.result(fields, view)
}
