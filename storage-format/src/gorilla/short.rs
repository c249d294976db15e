//! Short residuals, several in one step: what the next bits mean is looked up, for each small width.
//!
//! Percentages and slow walks differ by -8 to 7 nearly always, and then whether a bit begins a zero or a number cannot be
//! foreseen: going one by one costs a wrong guess of the processor every second number.
//! Invariant: an entry is exactly what `take_residuals` would read one by one from these bits.
//! Not here: residuals that set a width, times.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use crate::bits::BitReader;

use super::SAME_WIDTH_BITS;

/// Bits that are looked up. A table of 10 takes 10 KiB, so that two widths stay in the nearest cache; a typical walk has
/// three residuals in them.
const LOOK_BITS: u32 = 10;

/// Residuals of one step at most.
const STEP_MAX: usize = 8;

/// Wider ones fit the looked up bits hardly more than once.
const WIDTH_MAX: usize = 6;

/// By the next bits.
struct Table {
    /// The lowest byte is the first; zeros follow the last.
    residuals: [u64; 1 << LOOK_BITS],
    steps: [Step; 1 << LOOK_BITS],
}

#[derive(Clone, Copy)]
struct Step {
    count: u8,
    bits: u8,
}

static TABLES: [Table; WIDTH_MAX] =
    [Table::new(1), Table::new(2), Table::new(3), Table::new(4), Table::new(5), Table::new(6)];

impl Table {
    #[allow(clippy::indexing_slicing, reason = "computed when compiled, where a wrong index is an error")]
    const fn new(width: u32) -> Table {
        let mut table =
            Table { residuals: [0; 1 << LOOK_BITS], steps: [Step { count: 0, bits: 0 }; 1 << LOOK_BITS] };
        // Of nothing but zeros there may be many more, which are better counted.
        let mut look = 1;
        while look < 1 << LOOK_BITS {
            let (mut used, mut count, mut residuals) = (0, 0, 0u64);
            while count < STEP_MAX && used < LOOK_BITS {
                let left = LOOK_BITS - used;
                let rest = look as u32 & ((1 << left) - 1);
                if rest >> (left - 1) == 0 {
                    used += 1;
                } else if left >= SAME_WIDTH_BITS + width && rest >> (left - 2) == 0b10 {
                    let number = rest >> (left - SAME_WIDTH_BITS - width) & ((1 << width) - 1);
                    let residual = (number >> 1) as i8 ^ -((number & 1) as i8);
                    residuals |= (residual as u8 as u64) << (8 * count);
                    used += SAME_WIDTH_BITS + width;
                } else {
                    break;
                }
                count += 1;
            }
            table.residuals[look] = residuals;
            table.steps[look] = Step { count: count as u8, bits: used as u8 };
            look += 1;
        }
        table
    }
}

/// Fills slots, which hold zeros, as long as short residuals of this width follow and a whole step fits. Returns the slots
/// that are left.
#[inline]
pub(super) fn take_short<'a>(
    reader: &mut BitReader<'_>,
    width: u32,
    mut slots: &'a mut [i64],
) -> &'a mut [i64] {
    let Some(table) = (width as usize).checked_sub(1).and_then(|place| TABLES.get(place)) else {
        return slots;
    };
    while let Some(step_slots) = slots.first_chunk_mut::<STEP_MAX>() {
        let look = (reader.peek() >> (64 - LOOK_BITS)) as usize;
        let (Some(residuals), Some(step)) = (table.residuals.get(look), table.steps.get(look)) else { break };
        if step.count == 0 {
            break;
        }
        *step_slots = residuals.to_le_bytes().map(|residual| i64::from(residual as i8));
        reader.skip(u32::from(step.bits));
        slots = std::mem::take(&mut slots).get_mut(usize::from(step.count)..).unwrap_or_default();
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::varint::unzigzag;

    #[test]
    fn entries_are_what_one_by_one_gives() {
        for (width, table) in (1u32..).zip(&TABLES) {
            for look in 0..1usize << LOOK_BITS {
                let bytes = ((look as u64) << (64 - LOOK_BITS)).to_be_bytes();
                let mut reader = BitReader::new(&bytes);
                let Step { count, bits } = table.steps[look];
                let residuals = table.residuals[look].to_le_bytes();
                for residual in &residuals[..usize::from(count)] {
                    let expected = match reader.take(1) {
                        0 => 0,
                        _ => {
                            assert_eq!(reader.take(1), 0);
                            unzigzag(reader.take(width))
                        }
                    };
                    assert_eq!(i64::from(*residual as i8), expected);
                }
                assert_eq!(reader.position(), usize::from(bits));
                assert!(residuals[usize::from(count)..].iter().all(|residual| *residual == 0));
            }
        }
    }
}
