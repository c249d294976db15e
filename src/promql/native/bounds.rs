//! Upper bounds of buckets.
//!
//! Invariant: bounds are Prometheus', to the last bit: a product of square roots of 2 that are each rounded, the larger first.

use storage_format::histogram::SCHEMA_MAX;

/// 2^(1/2), 2^(1/4), ... The first is 2 / √2, a bit less than √2 itself.
fn roots() -> [f64; SCHEMA_MAX as usize] {
    let mut root = 2.0 / std::f64::consts::SQRT_2;
    std::array::from_fn(|_| {
        let next = root.sqrt();
        std::mem::replace(&mut root, next)
    })
}

/// Of a bucket whose bounds are powers of 2^(2^-schema).
pub fn exponential(schema: i32, index: i32) -> f64 {
    if schema < 0 {
        return power(i64::from(index) << -schema, 1.0);
    }
    let within = index & ((1 << schema) - 1);
    let mut fraction = 1.0;
    for (at, root) in roots().iter().take(schema as usize).enumerate() {
        if within >> (schema as usize - 1 - at) & 1 == 1 {
            fraction *= root;
        }
    }
    power(i64::from(index >> schema), fraction)
}

/// `fraction`, which is at least 1 and less than 2, times 2^exponent. What would be just too large is the largest number.
fn power(exponent: i64, fraction: f64) -> f64 {
    if exponent == 1024 && fraction == 1.0 {
        return f64::MAX;
    }
    let exponent = exponent.clamp(-1_100, 1_100) as i32;
    // In two steps, since numbers near 0 are rounded once only if the second gives them.
    let half = exponent / 2;
    fraction * 2f64.powi(half) * 2f64.powi(exponent - half)
}

/// Of bounds that are given; below the first and above the last there is no end.
pub fn custom(bounds: &[f64], index: i32) -> f64 {
    match usize::try_from(index) {
        Err(_) => f64::NEG_INFINITY,
        Ok(index) => bounds.get(index).copied().unwrap_or(f64::INFINITY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_prometheus() {
        // As Prometheus 3.5.3 shows them.
        assert_eq!((exponential(0, 0), exponential(0, 1), exponential(0, -1)), (1.0, 2.0, 0.5));
        assert_eq!(exponential(1, -1), 0.7071067811865475);
        assert_eq!((exponential(2, -3), exponential(2, -1)), (0.5946035575013605, 0.8408964152537144));
        assert_eq!((exponential(8, -1), exponential(8, 1)), (0.9972960560854698, 1.0027112750502025));
        assert_eq!(
            (exponential(-4, -3), exponential(-4, 63)),
            (3.552713678800501e-15, 2.7430620343968443e303)
        );
        assert_eq!((exponential(-3, 128), exponential(-3, 129)), (f64::MAX, f64::INFINITY));
        assert_eq!((exponential(0, 1024), exponential(0, 1025)), (f64::MAX, f64::INFINITY));
        assert_eq!((exponential(0, -1070), exponential(-4, -1000)), (8e-323, 0.0));
        assert_eq!((custom(&[1.0, 5.0], -1), custom(&[1.0, 5.0], 1)), (f64::NEG_INFINITY, 5.0));
        assert_eq!(custom(&[1.0, 5.0], 2), f64::INFINITY);
    }
}
