//! Variable-length integers: LEB128 for unsigned, zigzag before it for signed.
//!
//! Readers take a slice by `&mut` and leave the rest in it. A number that does not end within
//! [`VARINT_BYTES_MAX`] bytes, or does not fit 64 bits, is damage.

use crate::corrupt::{Corrupt, Result};

/// 64 bits in groups of 7.
pub const VARINT_BYTES_MAX: usize = 10;

pub fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, zigzag(value));
}

/// Length, then the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub fn take_u64(rest: &mut &[u8]) -> Result<u64> {
    // Most numbers in a record are below 128.
    if let Some((&first, tail)) = rest.split_first()
        && first < 0x80
    {
        *rest = tail;
        return Ok(u64::from(first));
    }
    let mut value = 0u64;
    for (index, &byte) in rest.iter().take(VARINT_BYTES_MAX).enumerate() {
        let group = u64::from(byte & 0x7f);
        if index == VARINT_BYTES_MAX - 1 && group > 1 {
            return Err(Corrupt::new("a number does not fit 64 bits"));
        }
        value |= group << (7 * index);
        if byte == 0 {
            return Err(Corrupt::new("a number is not in its shortest form"));
        }
        if byte < 0x80 {
            *rest = rest.get(index + 1..).unwrap_or_default();
            return Ok(value);
        }
    }
    Err(Corrupt::new("a number does not end"))
}

pub fn take_i64(rest: &mut &[u8]) -> Result<i64> {
    take_u64(rest).map(unzigzag)
}

pub fn take_u32(rest: &mut &[u8]) -> Result<u32> {
    u32::try_from(take_u64(rest)?).map_err(|_| Corrupt::new("a number does not fit 32 bits"))
}

/// A count of things that each take at least one byte of what follows, so that damage cannot ask for a
/// huge allocation.
pub fn take_count(rest: &mut &[u8]) -> Result<usize> {
    let count = take_u64(rest)?;
    if count > rest.len() as u64 {
        return Err(Corrupt::new("a count is larger than what follows"));
    }
    Ok(count as usize)
}

pub fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let len = take_count(rest)?;
    take_exact(rest, len)
}

pub fn take_str<'a>(rest: &mut &'a [u8]) -> Result<&'a str> {
    std::str::from_utf8(take_bytes(rest)?).map_err(|_| Corrupt::new("a name is not UTF-8"))
}

pub fn take_exact<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(len).ok_or(Corrupt::new("the bytes end too early"))?;
    *rest = tail;
    Ok(head)
}

pub fn take_array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(Corrupt::new("the bytes end too early"))?;
    *rest = tail;
    Ok(*head)
}

pub fn take_u8(rest: &mut &[u8]) -> Result<u8> {
    take_array::<1>(rest).map(|[byte]| byte)
}

/// Small magnitudes of either sign become small unsigned numbers: 0, -1, 1, -2 become 0, 1, 2, 3.
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(unsigned: u64, signed: i64, bytes: Vec<u8>) {
            let mut out = Vec::new();
            put_u64(&mut out, unsigned);
            put_i64(&mut out, signed);
            put_bytes(&mut out, &bytes);
            let mut rest = out.as_slice();
            prop_assert_eq!(take_u64(&mut rest).unwrap(), unsigned);
            prop_assert_eq!(take_i64(&mut rest).unwrap(), signed);
            prop_assert_eq!(take_bytes(&mut rest).unwrap(), bytes.as_slice());
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let mut rest = bytes.as_slice();
            while take_bytes(&mut rest).is_ok() && !rest.is_empty() {}
        }
    }

    #[test]
    fn numbers_too_long_are_refused() {
        assert!(take_u64(&mut [0xff; 10].as_slice()).is_err());
        assert!(take_u64(&mut [0x80; 3].as_slice()).is_err());
        let mut largest = Vec::new();
        put_u64(&mut largest, u64::MAX);
        assert_eq!(take_u64(&mut largest.as_slice()), Ok(u64::MAX));
    }
}
