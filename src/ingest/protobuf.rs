//! The wire format of Protocol Buffers, read in place: a message is a slice, its fields are parts of it.
//!
//! Nothing is copied and no tree is built, because a message of a thousand series would cost ten times its parsing in
//! allocations. Repeated numbers come packed or one by one ([`Packed`] reads both).
//! Invariant: no input makes it panic, loop or read beyond its slice; what ends too early is [`Malformed`].
//! Not here: what the fields mean (`remote_write`).

use std::fmt;
use std::ops::Range;

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

pub type Result<T, E = Malformed> = std::result::Result<T, E>;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// One field of a message.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    pub number: u64,
    pub value: Value<'a>,
    /// Where it stands in the message, with its key.
    pub at: Range<usize>,
}

/// The fields of a message in their order.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub fn of(message: &'a [u8]) -> Fields<'a> {
        Fields { message, at: 0 }
    }

    /// Passes over fields with this key, of bytes, for as long as one follows the other. Returns where they end: what stands
    /// in them is looked at as a whole.
    #[inline]
    pub fn pass_over(&mut self, key: u8) -> Result<usize> {
        while self.message.get(self.at) == Some(&key) {
            self.at += 1;
            let len = self.varint()?;
            self.take(usize::try_from(len).map_err(|_| ENDS)?)?;
        }
        Ok(self.at)
    }

    /// A message that is a double as field 1 and a whole number as field 2, as nearly all writers put them. None for any
    /// other one, which may be as good.
    #[inline]
    pub fn double_and_varint(message: &'a [u8]) -> Option<(f64, u64)> {
        let (double, rest) = message.strip_prefix(&[DOUBLE_1])?.split_first_chunk()?;
        let mut rest = Fields::of(rest.strip_prefix(&[VARINT_2])?);
        let number = rest.varint().ok()?;
        (rest.at == rest.message.len()).then_some((f64::from_le_bytes(*double), number))
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<u64> {
        let first = *self.message.get(self.at).ok_or(ENDS)?;
        self.at += 1;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        self.long_varint(first)
    }

    fn long_varint(&mut self, first: u8) -> Result<u64> {
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = *self.message.get(self.at).ok_or(ENDS)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("a number has more than ten bytes"))
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(len).ok_or(ENDS)?;
        let taken = self.message.get(self.at..end).ok_or(ENDS)?;
        self.at = end;
        Ok(taken)
    }

    fn fixed<const LEN: usize>(&mut self) -> Result<[u8; LEN]> {
        self.take(LEN)?.try_into().map_err(|_| ENDS)
    }

    #[inline]
    fn field(&mut self) -> Result<Field<'a>> {
        let start = self.at;
        let key = self.varint()?;
        let number = key >> 3;
        if number == 0 {
            return Err(Malformed("a field has the number 0"));
        }
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(usize::try_from(len).map_err(|_| ENDS)?)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.fixed()?)),
            _ => return Err(Malformed("a field is of a kind that there is not")),
        };
        Ok(Field { number, value, at: start..self.at })
    }
}

/// Keys of field 1 as a double, and of field 2 as a whole number.
const DOUBLE_1: u8 = 1 << 3 | 1;
const VARINT_2: u8 = 2 << 3;

const ENDS: Malformed = Malformed("a field ends after its message");

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>>;

    #[inline]
    fn next(&mut self) -> Option<Result<Field<'a>>> {
        if self.at >= self.message.len() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.at = self.message.len();
        }
        Some(field)
    }
}

impl<'a> Value<'a> {
    pub fn bytes(self) -> Result<&'a [u8]> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed("a number stands where a message or a text should be")),
        }
    }

    pub fn varint(self) -> Result<u64> {
        match self {
            Value::Varint(value) => Ok(value),
            _ => Err(Malformed("a field that should be a whole number is none")),
        }
    }

    /// Of `sint32` and `sint64`.
    pub fn zigzag(self) -> Result<i64> {
        self.varint().map(unzigzag)
    }

    pub fn double(self) -> Result<f64> {
        match self {
            Value::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(Malformed("a field that should be a double is none")),
        }
    }

    pub fn text(self) -> Result<&'a str> {
        simdutf8::basic::from_utf8(self.bytes()?).map_err(|_| Malformed("a text is not UTF-8"))
    }
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// The numbers of one field of a repeated number: many if it is packed, else one.
pub struct Packed;

impl Packed {
    #[inline]
    pub fn varints(value: Value<'_>, mut each: impl FnMut(u64)) -> Result<()> {
        match value {
            Value::Varint(value) => each(value),
            value => {
                let mut rest = Fields::of(value.bytes()?);
                while rest.at < rest.message.len() {
                    each(rest.varint()?);
                }
            }
        }
        Ok(())
    }

    pub fn zigzags(value: Value<'_>, mut each: impl FnMut(i64)) -> Result<()> {
        Packed::varints(value, |value| each(unzigzag(value)))
    }

    pub fn doubles(value: Value<'_>, mut each: impl FnMut(f64)) -> Result<()> {
        match value {
            Value::Fixed64(bits) => each(f64::from_bits(bits)),
            value => {
                let mut rest = Fields::of(value.bytes()?);
                while rest.at < rest.message.len() {
                    each(f64::from_le_bytes(rest.fixed()?));
                }
            }
        }
        Ok(())
    }
}

/// Appends a field of bytes: for messages that are built.
pub fn put_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a field of a whole number; a negative one takes ten bytes.
pub fn put_number(out: &mut Vec<u8>, number: u64, value: i64) {
    put_varint(out, number << 3);
    put_varint(out, value as u64);
}

pub fn put_double(out: &mut Vec<u8>, number: u64, value: f64) {
    put_varint(out, number << 3 | 1);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes of a varint.
pub fn varint_len(value: u64) -> usize {
    ((u64::BITS - (value | 1).leading_zeros()) as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_as_they_were_put() {
        let mut message = Vec::new();
        put_number(&mut message, 1, -2);
        put_bytes(&mut message, 200, b"ab");
        put_double(&mut message, 3, 1.5);
        message.extend_from_slice(&[5 << 3 | 5, 7, 0, 0, 0]);
        let fields: Vec<(u64, Value<'_>)> = Fields::of(&message)
            .map(|field| field.map(|field| (field.number, field.value)))
            .collect::<Result<_>>()
            .unwrap();
        let expected = [
            (1, Value::Varint(-2i64 as u64)),
            (200, Value::Bytes(b"ab")),
            (3, Value::Fixed64(1.5f64.to_bits())),
            (5, Value::Fixed32(7)),
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn what_ends_too_early_is_malformed() {
        let mut message = Vec::new();
        put_bytes(&mut message, 1, &[7; 300]);
        put_double(&mut message, 2, 0.5);
        for cut in 1..message.len() {
            let last = Fields::of(&message[..cut]).last().unwrap();
            // Between two fields a cut leaves a whole message.
            assert_eq!(last.is_ok(), cut == 303, "{cut}");
        }
        assert!(Fields::of(&[0xff; 11]).next().unwrap().is_err(), "a key of eleven bytes");
        assert!(Fields::of(&[0x0b]).next().unwrap().is_err(), "groups went out of use");
    }

    #[test]
    fn repeated_numbers_may_be_packed_or_not() {
        let mut seen = Vec::new();
        Packed::zigzags(Value::Bytes(&[1, 4, 0x80, 1]), |value| seen.push(value)).unwrap();
        Packed::zigzags(Value::Varint(3), |value| seen.push(value)).unwrap();
        assert_eq!(seen, [-1, 2, 64, -2]);
        assert!(Packed::doubles(Value::Bytes(&[0; 12]), |_| {}).is_err());
    }
}
