//! The code itself, behind one wall: parity from data, and lost shards from any k.
//!
//! The generator matrix is G = V · T⁻¹, where V is the Vandermonde matrix of k + m points with rows (r⁰, r¹, … rᵏ⁻¹) for
//! r = 0, 1, 2 …, and T its first k rows; arithmetic is in GF(2^8) modulo x⁸ + x⁴ + x³ + x² + 1. So its first k rows
//! are the identity. Any k rows of G are k rows of V, which are independent because their points differ, times an
//! invertible matrix: any k shards suffice, for every k + m that the field has points for. (Putting Vandermonde rows
//! directly under an identity, as some libraries do, has no such guarantee.)
//!
//! Backblaze's and klauspost's libraries and the crate `reed-solomon-erasure` use this matrix too, so that shards outlive
//! any one library. Tests pin it.

use datamesh_core::scheme::Redundancy;
use rusty_erasure::compat::reed_solomon_erasure_matrix;

/// The code of one redundancy.
#[derive(Debug, Clone)]
pub struct Code {
    redundancy: Redundancy,
    /// None where there is no parity, and so nothing to compute.
    coder: Option<rusty_erasure::Coder>,
}

impl Code {
    /// The code of this redundancy.
    ///
    /// # Panics
    /// Never: every redundancy has a matrix.
    #[must_use]
    pub fn new(redundancy: Redundancy) -> Self {
        let (data, parity) = (redundancy.data_count(), redundancy.parity_count());
        let coder = (parity > 0).then(|| {
            let matrix = reed_solomon_erasure_matrix(data, parity).expect("the field has points for k + m");
            rusty_erasure::coder(matrix).expect("the matrix has rows below the identity")
        });
        Self { redundancy, coder }
    }

    /// The m rows of k coefficients that parity is computed with, one after another.
    #[must_use]
    pub fn parity_rows(&self) -> &[u8] {
        self.coder.as_ref().map_or(&[], |coder| coder.matrix().parity_bytes())
    }

    /// Computes the m parity shards from the k data shards.
    ///
    /// # Panics
    /// If the shards are more or fewer, or not all of one size.
    pub fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) {
        let counts = (data.len(), parity.len());
        assert_eq!(
            counts,
            (self.redundancy.data_count(), self.redundancy.parity_count()),
            "k data, m parity"
        );
        if let Some(coder) = &self.coder {
            coder.encode(data, parity).expect("shards are k and m, of one size");
        }
    }

    /// Computes the wanted shards from any k of the k + m, each given at its own place.
    ///
    /// The matrix to decode with is worked out anew each time. It takes a few microseconds, against a hundred for a
    /// stripe, until k is in the dozens.
    ///
    /// # Panics
    /// If fewer than k shards are given, a wanted one is none of the stripe, or they are not all of one size.
    pub fn rebuild(&self, shards: &[Option<&[u8]>], wanted: &[usize], places: &mut [&mut [u8]]) {
        // The library's kernels take the size of shards from the first place.
        if wanted.is_empty() {
            return;
        }
        match &self.coder {
            Some(coder) => {
                coder.recover(shards, wanted, places).expect("any k rows of the matrix are independent");
            }
            // Without parity all shards are given, and rebuilding one is copying it.
            None => {
                for (&index, place) in wanted.iter().zip(places) {
                    place.copy_from_slice(shards[index].expect("all k shards are given"));
                }
            }
        }
    }
}
