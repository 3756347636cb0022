//! What rules of lifecycle end, and what they leave.

use datamesh_core::bucket::{Content, Extents, Stamp, Version, VersionSlot, WriterId};
use datamesh_core::time::Timestamp;
use datamesh_engine::buckets::Found;
use s3s::dto::{
    self, AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, ExpirationStatus,
    LifecycleExpiration, LifecycleRule, LifecycleRuleFilter, NoncurrentVersionExpiration, Tag, Transition,
};

use super::{DAY_MS, End, Rule, checked, due, has_passed};
use crate::s3::text;

fn rule() -> LifecycleRule {
    LifecycleRule {
        abort_incomplete_multipart_upload: None,
        expiration: None,
        filter: None,
        id: None,
        noncurrent_version_expiration: None,
        noncurrent_version_transitions: None,
        prefix: None,
        status: ExpirationStatus::from_static(ExpirationStatus::ENABLED),
        transitions: None,
    }
}

fn expiration(
    days: Option<i32>,
    date: Option<dto::Timestamp>,
    marks: Option<bool>,
) -> Option<LifecycleExpiration> {
    Some(LifecycleExpiration { date, days, expired_object_delete_marker: marks })
}

fn day(number: u64) -> Timestamp {
    Timestamp::from_ms(number * DAY_MS)
}

/// A version that was put on a day; the tag `temp=yes` for those that are marked so, nothing for marks of deletion.
fn version(number: u64, size: Option<u64>) -> Found {
    let stamp = Stamp { ms: day(number).as_ms(), count: 0, writer: WriterId::from_bytes([1; 16]) };
    let content = size.map(|size| Content {
        size,
        etag: format!("etag-{number}"),
        extents: Extents::Listed(Vec::new()),
        headers: [].into(),
        metadata: [].into(),
        tags: [("temp".to_owned(), "yes".to_owned())].into(),
        digests: [].into(),
        class: None,
    });
    Found { slot: VersionSlot::At(stamp), stamp, version: Version { modified: day(number), content } }
}

fn due_by(rule: LifecycleRule, key: &str, versions: &[Found], now: Timestamp) -> Vec<End> {
    due(&[Rule::of(rule).unwrap()], key, versions, now)
}

#[test]
fn days_end_at_midnight() {
    let noon = Timestamp::from_ms(10 * DAY_MS + DAY_MS / 2);
    assert!(!has_passed(noon, 1, Timestamp::from_ms(12 * DAY_MS - 1)));
    assert!(has_passed(noon, 1, day(12)));
    assert!(has_passed(day(10), 1, day(11)));
}

#[test]
fn what_is_old_enough_and_covered_expires() {
    let by_days = || LifecycleRule { expiration: expiration(Some(5), None, None), ..rule() };
    let versions = [version(10, Some(1))];
    assert_eq!(due_by(by_days(), "logs/a", &versions, day(14)), []);
    assert_eq!(due_by(by_days(), "logs/a", &versions, day(15)), [End::Current]);
    let filtered = |filter: LifecycleRuleFilter| LifecycleRule { filter: Some(filter), ..by_days() };
    let prefix = |prefix: &str| {
        filtered(LifecycleRuleFilter { prefix: Some(prefix.to_owned()), ..LifecycleRuleFilter::default() })
    };
    assert_eq!(due_by(prefix("logs/"), "logs/a", &versions, day(15)), [End::Current]);
    assert_eq!(due_by(prefix("logs/"), "data/a", &versions, day(15)), []);
    let tag = |value: &str| {
        let tag = Tag { key: Some("temp".to_owned()), value: Some(value.to_owned()) };
        filtered(LifecycleRuleFilter { tag: Some(tag), ..LifecycleRuleFilter::default() })
    };
    assert_eq!(due_by(tag("yes"), "a", &versions, day(15)), [End::Current]);
    assert_eq!(due_by(tag("no"), "a", &versions, day(15)), []);
    let larger =
        filtered(LifecycleRuleFilter { object_size_greater_than: Some(1), ..LifecycleRuleFilter::default() });
    assert_eq!(due_by(larger, "a", &versions, day(15)), []);
    let date =
        || LifecycleRule { expiration: expiration(None, Some(text::timestamp(day(20))), None), ..rule() };
    assert_eq!(due_by(date(), "a", &versions, day(19)), []);
    assert_eq!(due_by(date(), "a", &versions, day(20)), [End::Current]);
}

#[test]
fn versions_end_so_long_after_they_were_overwritten_but_for_the_latest_of_them() {
    let earlier = |days: i32, kept: Option<i32>| LifecycleRule {
        noncurrent_version_expiration: Some(NoncurrentVersionExpiration {
            newer_noncurrent_versions: kept,
            noncurrent_days: Some(days),
        }),
        ..rule()
    };
    let versions = [version(30, Some(1)), version(20, None), version(10, Some(1)), version(5, Some(1))];
    let slots = |indexes: &[usize]| -> Vec<End> {
        indexes.iter().map(|index| End::Version(versions[*index].slot)).collect()
    };
    assert_eq!(due_by(earlier(1, None), "a", &versions, day(30)), slots(&[2, 3]));
    assert_eq!(due_by(earlier(1, None), "a", &versions, day(31)), slots(&[1, 2, 3]));
    assert_eq!(due_by(earlier(1, Some(2)), "a", &versions, day(31)), slots(&[3]));
    assert_eq!(due_by(earlier(15, None), "a", &versions, day(30)), slots(&[3]));
}

#[test]
fn a_mark_of_deletion_ends_when_nothing_is_behind_it() {
    let marks = || LifecycleRule { expiration: expiration(None, None, Some(true)), ..rule() };
    let lone = [version(10, None)];
    assert_eq!(due_by(marks(), "a", &lone, day(10)), [End::Version(lone[0].slot)]);
    assert_eq!(due_by(marks(), "a", &[version(10, None), version(9, Some(1))], day(99)), []);
}

#[test]
fn rules_that_can_not_be_held_to_are_refused() {
    let all = |rules: Vec<LifecycleRule>| checked(BucketLifecycleConfiguration { rules });
    let by_days = |days: i32| LifecycleRule { expiration: expiration(Some(days), None, None), ..rule() };
    let kept = all(vec![by_days(1), by_days(2)]).unwrap();
    assert_eq!(kept.rules[1].id.as_deref(), Some("rule-2"));
    let same = || LifecycleRule { id: Some("same".to_owned()), ..by_days(1) };
    let noon = text::timestamp(Timestamp::from_ms(DAY_MS / 2));
    let uploads = AbortIncompleteMultipartUpload { days_after_initiation: None };
    for rules in [
        vec![],
        vec![rule()],
        vec![by_days(0)],
        vec![same(), same()],
        vec![LifecycleRule {
            expiration: expiration(Some(1), Some(text::timestamp(day(1))), None),
            ..rule()
        }],
        vec![LifecycleRule { expiration: expiration(None, Some(noon), None), ..rule() }],
        vec![LifecycleRule { abort_incomplete_multipart_upload: Some(uploads), ..rule() }],
        vec![LifecycleRule { transitions: Some(vec![Transition::default()]), ..by_days(1) }],
        vec![LifecycleRule { status: ExpirationStatus::from_static("Sometimes"), ..by_days(1) }],
    ] {
        assert!(all(rules.clone()).is_err(), "{}", rules.len());
    }
    assert!(
        Rule::of(LifecycleRule { status: ExpirationStatus::from_static("Disabled"), ..by_days(1) }).is_none()
    );
}
