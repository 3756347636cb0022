//! Rules of lifecycle: which versions and uploads have had their time, and the round that ends them.

use std::collections::{BTreeMap, BTreeSet};

use datamesh_core::bucket::{BucketName, Content, Key, Upload, UploadId, VersionSlot};
use datamesh_core::time::Timestamp;
use datamesh_engine::buckets::{Buckets, ChangeError, Found, ListOrder, PutCondition, Refused};
use futures::StreamExt;
use futures::stream;
use s3s::dto::{
    self, BucketLifecycleConfiguration, ExpirationStatus, LifecycleExpiration, LifecycleRule,
    LifecycleRuleAndOperator, LifecycleRuleFilter, TimestampFormat,
};
use s3s::{S3Result, s3_error};

use crate::s3::errors::{map_error, map_index};
use crate::s3::settings::{LIFECYCLE, document};
use crate::s3::{blocking, text};

const DAY_MS: u64 = 86_400_000;
/// After how many days an upload that nobody has completed is given up, whatever the rules say: its parts take space that no list shows.
const ABANDONED_AFTER_DAYS: u64 = 7;
/// Most rules of one bucket, and the longest id of one, as S3 has them.
const RULES_MAX: usize = 1000;
const ID_SIZE_MAX: usize = 255;
/// Keys that are looked at in one go, and versions that are ended at once.
const PAGE: usize = 1000;
const IN_FLIGHT_MAX: usize = 16;

/// What a round has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expired {
    /// Current versions.
    pub current: u64,
    /// Versions that had been overwritten, and marks of deletion.
    pub earlier: u64,
    /// Uploads that nobody completed.
    pub uploads: u64,
}

/// Holds rules to what can be done, and gives those an id that have none.
pub(super) fn checked(
    mut configuration: BucketLifecycleConfiguration,
) -> S3Result<BucketLifecycleConfiguration> {
    if configuration.rules.is_empty() || configuration.rules.len() > RULES_MAX {
        return Err(s3_error!(MalformedXML, "1 to {RULES_MAX} rules are kept"));
    }
    let mut ids = BTreeSet::new();
    for (index, rule) in configuration.rules.iter_mut().enumerate() {
        check_rule(rule)?;
        let id = rule.id.get_or_insert_with(|| format!("rule-{}", index + 1));
        if id.len() > ID_SIZE_MAX {
            return Err(s3_error!(
                InvalidArgument,
                "ID length should not exceed allowed limit of {ID_SIZE_MAX}"
            ));
        }
        if !ids.insert(id.clone()) {
            return Err(s3_error!(
                InvalidArgument,
                "Rule ID must be unique. Found same ID for more than one rule"
            ));
        }
    }
    Ok(configuration)
}

fn check_rule(rule: &LifecycleRule) -> S3Result<()> {
    let known = [ExpirationStatus::ENABLED, ExpirationStatus::DISABLED];
    if !known.contains(&rule.status.as_str()) {
        return Err(s3_error!(MalformedXML, "a rule is Enabled or Disabled"));
    }
    let moves = |count: Option<usize>| count.is_some_and(|count| count > 0);
    if moves(rule.transitions.as_ref().map(Vec::len))
        || moves(rule.noncurrent_version_transitions.as_ref().map(Vec::len))
    {
        return Err(s3_error!(NotImplemented, "transitions between storage classes are not implemented"));
    }
    let expiration = rule.expiration.as_ref();
    let uploads = rule.abort_incomplete_multipart_upload.as_ref();
    let earlier = rule.noncurrent_version_expiration.as_ref();
    if expiration.is_none() && uploads.is_none() && earlier.is_none() {
        return Err(s3_error!(InvalidRequest, "At least one action needs to be specified in a rule"));
    }
    if let Some(LifecycleExpiration { date, days, expired_object_delete_marker }) = expiration {
        let named = [date.is_some(), days.is_some(), expired_object_delete_marker.is_some()];
        if named.iter().filter(|named| **named).count() != 1 {
            return Err(s3_error!(MalformedXML, "an expiration is by days, by a date, or of marks"));
        }
        if date.as_ref().is_some_and(|date| !is_midnight(date)) {
            return Err(s3_error!(InvalidArgument, "'Date' must be at midnight GMT"));
        }
    }
    let days = [
        expiration.and_then(|expiration| expiration.days),
        uploads.map(|uploads| uploads.days_after_initiation.unwrap_or(0)),
        earlier.map(|earlier| earlier.noncurrent_days.unwrap_or(0)),
    ];
    if days.into_iter().flatten().any(|days| days <= 0) {
        return Err(s3_error!(InvalidArgument, "'Days' must be a positive integer"));
    }
    if rule.prefix.is_some() && rule.filter.is_some() {
        return Err(s3_error!(MalformedXML, "a rule has a filter or a prefix"));
    }
    Ok(())
}

fn is_midnight(date: &dto::Timestamp) -> bool {
    let mut text = Vec::new();
    date.format(TimestampFormat::DateTime, &mut text).is_ok() && text.ends_with(b"T00:00:00.000Z")
}

/// A rule in force.
#[derive(Debug, Default)]
struct Rule {
    prefix: String,
    tags: BTreeMap<String, String>,
    larger_than: Option<u64>,
    smaller_than: Option<u64>,
    days: Option<u64>,
    date: Option<dto::Timestamp>,
    lone_marks: bool,
    earlier: Option<Earlier>,
    upload_days: Option<u64>,
}

/// When versions that were overwritten end.
#[derive(Debug)]
struct Earlier {
    days: u64,
    /// The latest so many stay.
    kept: usize,
}

impl Rule {
    /// `None` for a rule that is not in force.
    fn of(rule: LifecycleRule) -> Option<Self> {
        if rule.status.as_str() != ExpirationStatus::ENABLED {
            return None;
        }
        let days = |days: Option<i32>| days.and_then(|days| u64::try_from(days).ok());
        let size = |size: Option<i64>| size.and_then(|size| u64::try_from(size).ok());
        let LifecycleRuleFilter { and, object_size_greater_than, object_size_less_than, prefix, tag } =
            rule.filter.unwrap_or_default();
        let LifecycleRuleAndOperator {
            object_size_greater_than: and_greater,
            object_size_less_than: and_less,
            prefix: and_prefix,
            tags,
        } = and.unwrap_or_default();
        let tags = tags.into_iter().flatten().chain(tag);
        let expiration = rule.expiration.unwrap_or_default();
        Some(Self {
            prefix: prefix.or(and_prefix).or(rule.prefix).unwrap_or_default(),
            tags: tags.filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default()))).collect(),
            larger_than: size(object_size_greater_than.or(and_greater)),
            smaller_than: size(object_size_less_than.or(and_less)),
            days: days(expiration.days),
            date: expiration.date,
            lone_marks: expiration.expired_object_delete_marker == Some(true),
            earlier: rule.noncurrent_version_expiration.and_then(|earlier| {
                let kept = earlier.newer_noncurrent_versions.and_then(|kept| usize::try_from(kept).ok());
                Some(Earlier { days: days(earlier.noncurrent_days)?, kept: kept.unwrap_or(0) })
            }),
            upload_days: rule
                .abort_incomplete_multipart_upload
                .and_then(|uploads| days(uploads.days_after_initiation)),
        })
    }

    fn covers(&self, key: &str, content: Option<&Content>) -> bool {
        let tagged =
            |content: &Content| self.tags.iter().all(|(name, value)| content.tags.get(name) == Some(value));
        let sized = |content: &Content| {
            self.larger_than.is_none_or(|bound| content.size > bound)
                && self.smaller_than.is_none_or(|bound| content.size < bound)
        };
        let plain = self.tags.is_empty() && self.larger_than.is_none() && self.smaller_than.is_none();
        key.starts_with(&self.prefix) && content.map_or(plain, |content| tagged(content) && sized(content))
    }
}

/// Whether so many days have passed, counted as S3 does: the last one ends at midnight.
fn has_passed(since: Timestamp, days: u64, now: Timestamp) -> bool {
    let due =
        since.as_ms().saturating_add(days.saturating_mul(DAY_MS)).div_ceil(DAY_MS).saturating_mul(DAY_MS);
    now.as_ms() >= due
}

/// What is to be ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// What the key holds now, as if somebody deleted it.
    Current,
    /// This version, for good.
    Version(VersionSlot),
}

/// What of a key has had its time: of its versions, the latest first.
fn due(rules: &[Rule], key: &str, versions: &[Found], now: Timestamp) -> Vec<End> {
    let mut ends = Vec::new();
    for (index, found) in versions.iter().enumerate() {
        let content = found.version.content.as_ref();
        let mut covering = rules.iter().filter(|rule| rule.covers(key, content));
        let newer = index.checked_sub(1).and_then(|newer| versions.get(newer));
        let modified = found.version.modified;
        let end = match (newer, content) {
            (None, Some(_)) => covering
                .any(|rule| {
                    rule.days.is_some_and(|days| has_passed(modified, days, now))
                        || rule.date.as_ref().is_some_and(|date| text::timestamp(now) >= *date)
                })
                .then_some(End::Current),
            (None, None) => {
                let lone = versions.len() == 1;
                let past = |rule: &Rule| {
                    rule.lone_marks || rule.days.is_some_and(|days| has_passed(modified, days, now))
                };
                (lone && covering.any(past)).then_some(End::Version(found.slot))
            }
            (Some(newer), _) => {
                let past = |earlier: &Earlier| {
                    index > earlier.kept && has_passed(newer.version.modified, earlier.days, now)
                };
                let past = covering.any(|rule| rule.earlier.as_ref().is_some_and(past));
                past.then_some(End::Version(found.slot))
            }
        };
        ends.extend(end);
    }
    ends
}

/// Ends what has had its time by the rules of each bucket, and uploads that nobody has completed for long. To be called again and
/// again, a few times a day.
///
/// # Errors
/// When the index can't be read. What can't be ended is left to the next round.
///
/// # Cancel safety
/// What was ended is ended; the rest is left to the next round.
pub async fn expire(buckets: &Buckets, now: Timestamp) -> S3Result<Expired> {
    let mut expired = Expired::default();
    for (name, bucket) in buckets.buckets().map_err(map_index)? {
        let configuration =
            document::<BucketLifecycleConfiguration>(&bucket, LIFECYCLE).unwrap_or_else(|error| {
                tracing::error!(bucket = %name, ?error, "the rules of lifecycle can't be read");
                None
            });
        let rules = configuration.into_iter().flat_map(|configuration| configuration.rules);
        let rules: Vec<Rule> = rules.filter_map(Rule::of).collect();
        if !rules.is_empty() {
            end_versions(buckets, &name, &rules, now, &mut expired).await?;
        }
        end_uploads(buckets, &name, &rules, now, &mut expired).await?;
    }
    Ok(expired)
}

async fn end_versions(
    buckets: &Buckets,
    bucket: &BucketName,
    rules: &[Rule],
    now: Timestamp,
    expired: &mut Expired,
) -> S3Result<()> {
    let mut after = None;
    loop {
        let order = ListOrder { after, count_max: PAGE, ..ListOrder::default() };
        let (reader, name) = (buckets.clone(), bucket.clone());
        let list = blocking(move || reader.list_versions(&name, &order).map_err(map_error)).await?;
        let mut ends = Vec::new();
        for versions in list.entries.chunk_by(|(one, _), (other, _)| one == other) {
            let Some((key, _)) = versions.first() else { continue };
            let versions: Vec<Found> = versions.iter().map(|(_, found)| found.clone()).collect();
            let due = due(rules, key.as_str(), &versions, now);
            let condition = condition_of(versions.first());
            ends.extend(due.into_iter().rev().map(|end| (key.clone(), end, condition.clone())));
        }
        let ended = stream::iter(ends).map(|(key, end, condition)| async move {
            let done = end_one(buckets, bucket.clone(), key, &end, condition).await;
            (end, done)
        });
        let mut ended = ended.buffered(IN_FLIGHT_MAX);
        while let Some((end, done)) = ended.next().await {
            match (end, done) {
                (End::Current, true) => expired.current += 1,
                (End::Version(_), true) => expired.earlier += 1,
                (_, false) => {}
            }
        }
        after = list.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// That the key still holds what was looked at: what is put meanwhile has its own time.
fn condition_of(current: Option<&Found>) -> PutCondition {
    match current.and_then(|found| found.version.content.as_ref()) {
        Some(content) => PutCondition::Etag(content.etag.clone()),
        None => PutCondition::Absent,
    }
}

async fn end_one(
    buckets: &Buckets,
    bucket: BucketName,
    key: Key,
    end: &End,
    condition: PutCondition,
) -> bool {
    let slot = match end {
        End::Current => None,
        End::Version(slot) => Some(*slot),
    };
    match buckets.delete(bucket, key.clone(), slot, condition).await {
        Ok(_) => true,
        Err(ChangeError::Refused(_)) => false,
        Err(error) => {
            tracing::warn!(%key, %error, "what has had its time is not ended");
            false
        }
    }
}

async fn end_uploads(
    buckets: &Buckets,
    bucket: &BucketName,
    rules: &[Rule],
    now: Timestamp,
    expired: &mut Expired,
) -> S3Result<()> {
    let mut after = None;
    loop {
        let order = ListOrder { after, count_max: PAGE, ..ListOrder::default() };
        let (reader, name) = (buckets.clone(), bucket.clone());
        let list = blocking(move || reader.list_uploads(&name, &order).map_err(map_error)).await?;
        for (key, (id, upload)) in list.entries {
            if is_overdue(rules, &key, &upload, now) {
                expired.uploads += u64::from(end_upload(buckets, bucket.clone(), key, id).await);
            }
        }
        after = list.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

fn is_overdue(rules: &[Rule], key: &Key, upload: &Upload, now: Timestamp) -> bool {
    let past = |rule: &Rule| rule.upload_days.is_some_and(|days| has_passed(upload.begun, days, now));
    has_passed(upload.begun, ABANDONED_AFTER_DAYS, now)
        || rules.iter().any(|rule| key.as_str().starts_with(&rule.prefix) && past(rule))
}

async fn end_upload(buckets: &Buckets, bucket: BucketName, key: Key, id: UploadId) -> bool {
    match buckets.abort_upload(bucket, key.clone(), id).await {
        Ok(()) => true,
        Err(ChangeError::Refused(Refused::NoUpload(_))) => false,
        Err(error) => {
            tracing::warn!(%key, %error, "an upload that has had its time is not given up");
            false
        }
    }
}

#[cfg(test)]
mod tests;
