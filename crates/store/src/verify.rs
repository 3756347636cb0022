//! Compares the index with the segments at a glance.

use std::io;

use datamesh_engine::world::ItemsError;

use crate::index::SegmentUsage;
use crate::segment::{SEGMENT_HEADER_SIZE, SegmentHeader, name_of_segment};
use crate::shared::Shared;

/// What a quick comparison found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// Segment files looked at.
    pub segment_count: u64,
    /// Items in the index.
    pub item_count: u64,
    /// Bytes of the segment files.
    pub size: u64,
    /// What is wrong, in words; nothing if empty.
    pub problems: Vec<String>,
}

/// Compares the index with the segments' headers and sizes.
pub(crate) fn verify_quick(shared: &Shared) -> Result<Findings, ItemsError> {
    let index = shared.index();
    let mut findings = Findings {
        item_count: index.item_count().map_err(|error| shared.index_error(&error))?,
        ..Findings::default()
    };
    for (segment, usage) in index.segments().map_err(|error| shared.index_error(&error))? {
        findings.segment_count += 1;
        findings.size += usage.size;
        let problem = match problem_of(shared, segment, usage) {
            Ok(problem) => problem,
            Err(error) => Some(error.to_string()),
        };
        findings.problems.extend(problem.map(|problem| format!("{}: {problem}", name_of_segment(segment))));
    }
    Ok(findings)
}

fn problem_of(shared: &Shared, segment: u64, usage: SegmentUsage) -> io::Result<Option<String>> {
    let file = shared.file(segment)?;
    let size = file.size()?;
    if size < usage.size {
        return Ok(Some(format!("{size} bytes where the index knows of {}", usage.size)));
    }
    if usage.live > usage.size {
        return Ok(Some(format!("{} bytes in use of {}", usage.live, usage.size)));
    }
    let mut bytes = [0; SEGMENT_HEADER_SIZE];
    file.read_exact_at(&mut bytes, 0)?;
    let header = SegmentHeader::decode(&bytes).ok();
    let own = header.is_some_and(|header| header.segment == segment && header.key == shared.key);
    Ok((!own).then(|| "its header is damaged".to_owned()))
}
