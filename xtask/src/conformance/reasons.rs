//! Why tests of the suite end otherwise, as far as that was looked into.

/// Tests that wait until objects expire, on a server that takes ten seconds for a day, which only Ceph can be told to.
pub(super) const NOT_RUN: [&str; 9] = [
    "test_lifecycle_expiration",
    "test_lifecycle_v2_expiration",
    "test_lifecycle_non_cur_expiration",
    "test_lifecycle_delete_marker_expiration",
    "test_lifecycle_multipart_expiration",
    "test_lifecycle_expiration_with_two_tags",
    "test_lifecycle_expiration_versioned_with_two_tags",
    "test_lifecycle_expiration_date",
    "test_lifecycle_expiration_non_cur_with_one_tag",
];

/// What a test says that asks for what is not there.
const REFUSALS: [&str; 6] = [
    "(NotImplemented)",
    "(AccessControlListNotSupported)",
    "(InvalidBucketAclWithObjectOwnership)",
    "501 != ",
    "'NotImplemented' != ",
    "'AccessControlListNotSupported' != ",
];
/// The ends of names of tests that sign as before version 4.
const OLD_SIGNATURES: [&str; 1] = ["_aws2"];

/// Whether a test that said this asks for what is not there.
pub(super) fn is_not_there(name: &str, said: &str) -> bool {
    OLD_SIGNATURES.iter().any(|end| name.ends_with(end))
        || REFUSALS.iter().any(|refusal| said.contains(refusal))
}

/// Why a test ends otherwise.
pub(super) fn why(name: &str) -> &'static str {
    WHY.iter().find(|(tests, _)| tests.contains(&name)).map_or("not looked into", |(_, why)| why)
}

/// The reasons, each with the tests that it is of.
const WHY: [(&[&str], &str); 20] = [
    (
        &["test_bucket_list_unordered", "test_bucket_list_v2_unordered", "test_bucket_head_extended"],
        "asks for an extension of Ceph",
    ),
    (
        &[
            "test_object_create_bad_authorization_empty",
            "test_object_create_bad_authorization_none",
            "test_bucket_create_bad_authorization_empty",
            "test_bucket_create_bad_authorization_none",
            "test_object_create_bad_content_length_none",
        ],
        "changes a header before this boto3 sets it, so that what is sent is right",
    ),
    (
        &["test_object_create_bad_content_length_mismatch_above"],
        "asks this boto3 for what it does not have, and sends nothing",
    ),
    (
        &["test_bucket_concurrent_set_canned_acl"],
        "sets ACLs that are not there, and hides that they are refused",
    ),
    (
        &[
            "test_object_raw_put_authenticated_expired",
            "test_object_raw_get_x_amz_expires_out_positive_range",
        ],
        "asks for a negative time, which is 400 at S3 too",
    ),
    (&["test_object_raw_get_x_amz_expires_out_max_range"], "S3 answers 400 as well, not 403"),
    (&["test_put_object_if_match_non_existed_failed"], "S3 answers 404 as well: there is nothing to match"),
    (
        &["test_put_object_if_non_match_good", "test_put_object_if_non_match_failed"],
        "S3 knows no tag but `*` there either",
    ),
    (&["test_object_set_get_unicode_metadata"], "S3 as well tells what is not ASCII in the form of RFC 2047"),
    (&["test_bucket_list_prefix_unreadable"], "the prefix is encoded as was asked; boto3 does not decode it"),
    (&["test_list_buckets_anonymous"], "nothing is told to those who do not sign"),
    (&["test_bucket_get_location"], "the region `us-east-1` has no name there, as at S3"),
    (
        &[
            "test_bucket_create_exists_non_owner",
            "test_object_copy_not_owned_bucket",
            "test_object_copy_not_owned_object_bucket",
        ],
        "the suite's second user is a key without grants here, which makes no buckets",
    ),
    (
        &[
            "test_versioning_bucket_atomic_upload_return_version_id",
            "test_versioning_bucket_multipart_upload_return_version_id",
        ],
        "the version of what is put while versioning is suspended is told, `null`, as S3 tells it",
    ),
    (
        &["test_atomic_write_4mb", "test_para11"],
        "does not run with this boto3, or runs commands on the server by ssh",
    ),
    (&["test_multipart_resend_first_finishes_last"], "sends parts to an upload that it has completed"),
    (
        &[
            "test_post_object_missing_policy_condition",
            "test_post_object_request_missing_policy_specified_field",
            "test_post_object_invalid_request_field_value",
        ],
        "the library that reads forms says 400 where a form is not what its policy says; S3 says 403",
    ),
    (
        &["test_post_object_set_key_from_filename"],
        "the library holds the key to the policy before `${filename}` is replaced; S3 after",
    ),
    (
        &["test_object_create_date_and_amz_date", "test_object_create_amz_date_and_no_date"],
        "the library that checks signatures wants `x-amz-date`; S3 takes `date` too",
    ),
    (
        &["test_post_object_invalid_date_format", "test_lifecycle_set_invalid_date"],
        "the library reads dates more widely, or says so in another code",
    ),
];

#[cfg(test)]
mod tests {
    use super::{WHY, is_not_there, why};

    #[test]
    fn every_test_has_one_reason() {
        let mut names: Vec<&str> = WHY.iter().flat_map(|(tests, _)| tests.iter().copied()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(why("test_list_buckets_anonymous"), "nothing is told to those who do not sign");
    }

    #[test]
    fn what_is_refused_by_name_is_not_there() {
        assert!(is_not_there("test_a", "An error occurred (NotImplemented) when"));
        assert!(is_not_there("test_a_aws2", "anything"));
        assert!(!is_not_there("test_a", "AssertionError: 500 != 200"));
    }
}
