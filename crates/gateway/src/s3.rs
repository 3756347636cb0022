//! The S3 dialect: one file per operation group.
