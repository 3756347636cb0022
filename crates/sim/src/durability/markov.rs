//! The Markov model of one stripe: shards fail and are repaired one by one, each without memory.

use datamesh_core::scheme::Redundancy;

/// The mean time, in the unit of the two arguments, until a stripe that begins whole is lost. `repair` has the mean time
/// to repair a shard while so many are missing: the first for one, the last for all beyond it.
///
/// A birth-death chain over the missing shards, absorbed at m + 1: from i missing, a further shard fails at (n − i)/lifetime and
/// one is back at i/repair. The mean time from i to i + 1 is h(i) = (1 + back(i) · h(i − 1)) / fail(i), and all of them add up. No
/// term is negative, so nothing cancels however rare a loss is.
///
/// # Panics
/// If no repair time is given.
#[must_use]
pub fn time_to_loss(redundancy: Redundancy, lifetime: f64, repair: &[f64]) -> f64 {
    let last = repair.last().expect("a mean time to repair");
    let mut step = 0.0;
    let mut sum = 0.0;
    for missing in 0..=redundancy.parity_count() {
        let (missing_number, healthy) = (real(missing), real(redundancy.shard_count() - missing));
        let fail = healthy / lifetime;
        let back = missing.checked_sub(1).map_or(0.0, |index| {
            let mean = repair.get(index).unwrap_or(last);
            missing_number / mean
        });
        step = (1.0 + back * step) / fail;
        sum += step;
    }
    sum
}

/// The nines of the probability to survive a year at this mean rate of losses a year: its decimals before one is no 9.
#[must_use]
pub fn nines(losses_a_year: f64) -> f64 {
    -(-(-losses_a_year).exp_m1()).log10()
}

fn real(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("a stripe has at most 255 shards"))
}

#[cfg(test)]
mod tests {
    use datamesh_core::scheme::Redundancy;

    use super::{nines, time_to_loss};

    fn scheme(text: &str) -> Redundancy {
        text.parse().expect("a redundancy")
    }

    #[test]
    fn it_is_the_closed_form_of_a_mirrored_pair_and_of_a_single_copy() {
        let (failure, repair) = (1.0 / 1000.0, 1.0 / 3.0);
        let pair = (3.0 * failure + repair) / (2.0 * failure * failure);
        assert!((time_to_loss(scheme("1+1"), 1000.0, &[3.0]) / pair - 1.0).abs() < 1e-12);
        assert!((time_to_loss(scheme("1+0"), 1000.0, &[3.0]) - 1000.0).abs() < 1e-9);
    }

    #[test]
    fn without_repair_shards_just_run_out() {
        let expected: f64 = (4..=6).map(|healthy| 1.0 / f64::from(healthy)).sum();
        assert!((time_to_loss(scheme("4+2"), 1.0, &[f64::MAX]) - expected).abs() < 1e-12);
    }

    #[test]
    fn a_loss_too_rare_for_a_subtraction_keeps_its_digits() {
        // With fast repair: m! / (n · (n − 1) … k) · lifetime^(m + 1) / repair^m.
        let ratio = time_to_loss(scheme("16+8"), 1.0, &[1e-6]);
        let product: f64 = (16..=24).map(f64::from).product();
        let expected = 40_320.0 / product * 1e48;
        assert!((ratio / expected - 1.0).abs() < 1e-3, "{ratio} {expected}");
    }

    #[test]
    fn repair_times_are_those_of_their_levels() {
        let level = |times: &[f64]| time_to_loss(scheme("4+2"), 1000.0, times);
        assert!(level(&[3.0, 1.0]) > level(&[3.0]));
        assert!((level(&[3.0, 3.0]) - level(&[3.0])).abs() < 1e-6);
    }

    #[test]
    fn nines_are_the_decimals_of_survival() {
        assert!((nines(1e-11) - 11.0).abs() < 1e-9);
        assert!((nines(1e-20) - 20.0).abs() < 1e-9);
        assert!(nines(100.0) < 1e-9);
    }
}
