//! Which of a row of chunks or blocks a range of plaintext lies in.

use core::ops::Range;

/// The items that share bytes with a wanted range, where the items of these sizes follow each other from byte 0 of what
/// `wanted` counts in. An empty range is nowhere.
pub fn seek(sizes: impl IntoIterator<Item = u64>, wanted: Range<u64>) -> Range<usize> {
    let (mut first, mut end) = (0, 0);
    let mut offset = 0_u64;
    for (index, size) in sizes.into_iter().enumerate() {
        if offset >= wanted.end {
            break;
        }
        offset = offset.saturating_add(size);
        if offset <= wanted.start {
            first = index + 1;
        }
        end = index + 1;
    }
    if wanted.is_empty() { 0..0 } else { first..end.max(first) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::seek;

    proptest! {
        #[test]
        fn exactly_the_items_that_share_bytes_with_the_range_are_found(
            sizes in prop::collection::vec(1_u64..20, 0..20),
            start in 0_u64..250,
            length in 0_u64..250,
        ) {
            let wanted = start..start + length;
            let found = seek(sizes.iter().copied(), wanted.clone());
            let mut offset = 0;
            for (index, size) in sizes.iter().enumerate() {
                let shares = (offset..offset + size).any(|byte| wanted.contains(&byte));
                assert_eq!(found.contains(&index), shares, "{sizes:?} {wanted:?} {found:?} {index}");
                offset += size;
            }
            assert!(found.end <= sizes.len());
        }

        #[test]
        fn absurd_sizes_and_ranges_do_no_harm(
            sizes in prop::collection::vec(any::<u64>(), 0..5),
            start: u64,
            end: u64,
        ) {
            let found = seek(sizes.iter().copied(), start..end);
            assert!(found.end <= sizes.len());
        }
    }
}
