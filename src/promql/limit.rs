//! `limitk` and `limit_ratio`: some of the series of each group, floats and histograms alike, with their labels.
//!
//! Invariant: `limit_ratio` goes by the hash of the labels alone, so that it takes the same series at every time and from every server, and
//! a ratio `r` and its complement `r - 1` share them between each other. The hash is that of a Prometheus as it is released (built without
//! the tags `slicelabels` and `dedupelabels`).
//! Not here: which series make a group (`aggregate`).

use storage_format::point::TagSet;
use xxhash_rust::xxh64::xxh64;

use crate::error::Result;
use crate::promql::annotations::Annotations;
use crate::promql::ast::Span;
use crate::promql::failure;
use crate::promql::value::{Column, Series};

/// Lengths from here on take four bytes instead of one.
const LONG: usize = 255;

/// `limitk`: the first of each group at each step. `wanted` has one number per step.
pub fn first(wanted: &[usize], series: &mut [Series], groups: &[(TagSet, Vec<usize>)]) {
    let mut stays = vec![false; wanted.len()];
    for (_, members) in groups {
        let mut left = wanted.to_vec();
        for at in members {
            stays.fill(false);
            series[*at].mark(&mut stays);
            for (stays, left) in stays.iter_mut().zip(&mut left) {
                *stays = *stays && *left > 0;
                *left -= usize::from(*stays);
            }
            series[*at].keep(|step| stays[step]);
        }
    }
}

/// `limit_ratio`: those whose hash is in the lower part, or of a negative ratio in the upper.
pub fn ratio(
    ratios: &Column,
    series: &mut [Series],
    annotations: &Annotations<'_>,
    span: Span,
) -> Result<()> {
    if ratios.iter().any(|ratio| ratio.is_nan()) {
        return Err(failure("Ratio value is NaN"));
    }
    let most = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    for (wrong, nearest) in [(most, most.min(1.0)), (least, least.max(-1.0))] {
        if wrong != nearest {
            annotations.capped_ratio(wrong, nearest, span);
        }
    }
    for one in series {
        let place = hash(&one.labels) as f64 / u64::MAX as f64;
        one.keep(|step| match ratios[step] {
            ratio if ratio >= 0.0 => place < ratio.min(1.0),
            ratio => place >= 1.0 + ratio.max(-1.0),
        });
    }
    Ok(())
}

/// Of names and values, each after its length.
fn hash(labels: &TagSet) -> u64 {
    let mut bytes = Vec::with_capacity(128);
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        match u8::try_from(text.len()) {
            Ok(short) if text.len() < LONG => bytes.push(short),
            _ => {
                bytes.push(u8::MAX);
                bytes.extend_from_slice(&(text.len() as u32).to_le_bytes()[..3]);
            }
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    xxh64(&bytes, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::value::{ABSENT, is_absent};

    fn series(name: &str, values: &[f64]) -> Series {
        Series::floats(TagSet::new([("a", name)]), values.to_vec())
    }

    #[test]
    fn lengths_are_one_byte_or_four() {
        let hash_of = |value: &str| hash(&TagSet::new([("a", value)]));
        assert_eq!(hash_of("bc"), xxh64(b"\x01a\x02bc", 0));
        let long = "x".repeat(300);
        let expected = [b"\x01a\xff\x2c\x01\x00", long.as_bytes()].concat();
        assert_eq!(hash_of(&long), xxh64(&expected, 0));
    }

    #[test]
    fn the_first_that_are_there_stay() {
        let mut all = [series("1", &[1.0, ABSENT]), series("2", &[2.0, 2.0]), series("3", &[3.0, 3.0])];
        first(&[1, 1], &mut all, &[(TagSet::default(), vec![0, 1, 2])]);
        let left: Vec<Vec<bool>> =
            all.iter().map(|one| one.values.iter().map(|value| !is_absent(*value)).collect()).collect();
        assert_eq!(left, [[true, false], [false, true], [false, false]]);
    }

    #[test]
    fn a_ratio_and_its_complement_share_the_series() {
        let all: Vec<Series> = (0..200).map(|at| series(&at.to_string(), &[1.0])).collect();
        let taken = |wanted: f64| {
            let (mut series, annotations) = (all.clone(), Annotations::new("x"));
            ratio(&vec![wanted], &mut series, &annotations, Span::default()).unwrap();
            let names = series.into_iter().filter(|one| !one.is_empty());
            names.map(|one| one.labels.get("a").unwrap().to_string()).collect::<Vec<_>>()
        };
        for wanted in [0.0, 0.1, 0.5, 1.0] {
            let (mut both, other) = (taken(wanted), taken(wanted - 1.0));
            assert!(both.iter().all(|name| !other.contains(name)), "{wanted}");
            both.extend(other);
            assert_eq!(both.len(), if wanted == 0.0 { 200 } else { all.len() }, "{wanted}");
        }
        assert!((10..30).contains(&taken(0.1).len()), "{}", taken(0.1).len());
    }
}
