//! The scalar types of an action. `faroe-endpoint`, "Types".

use std::{iter, sync::LazyLock};

/// The integer of 32 bits that is the nearest double to a JSON number: by decimal digits alone,
/// without a floating-point number.
pub fn int32(number: &str) -> Option<i32> {
    let (negative, magnitude) = match number.strip_prefix('-') {
        Some(magnitude) => (true, magnitude),
        None => (false, number),
    };
    let (whole, fraction) = digits(magnitude)?;
    // The doubles on both sides of an integer here have odd significands, so that a tie goes to
    // the integer.
    let rounded = if fraction <= half_gap_above(whole) {
        whole
    } else if complement(&fraction) <= half_gap_below(whole + 1) {
        whole + 1
    } else {
        return None;
    };
    i32::try_from(if negative { -rounded } else { rounded }).ok()
}

/// The digits behind a decimal point, without zeros at the end; they compare as the numbers do.
type Fraction = Vec<u8>;

/// The part before the point and the one behind it. `None` if the former has more than ten digits.
fn digits(magnitude: &str) -> Option<(i64, Fraction)> {
    let (significand, exponent) = match magnitude.split_once(['e', 'E']) {
        Some((significand, exponent)) => (significand, saturating(exponent)),
        None => (magnitude, 0),
    };
    let (whole, fraction) = significand.split_once('.').unwrap_or((significand, ""));
    let written: Vec<u8> =
        whole.bytes().chain(fraction.bytes()).map(|digit| digit - b'0').collect();
    let Some(first) = written.iter().position(|digit| *digit != 0) else {
        return Some((0, Fraction::new()));
    };
    // How many digits stand before the point, counted from the first that is not zero.
    let before = (whole.len() as i64 - first as i64).saturating_add(exponent);
    if before > 10 {
        return None;
    }
    // So small that the nearest double is zero; one digit says as much as all of them.
    let zeros = before.min(0).unsigned_abs().min(2000) as usize;
    let mut all = iter::repeat_n(0, zeros).chain(written[first..].iter().copied());
    let before = before.max(0) as usize;
    let whole = (0..before).fold(0, |whole, _| whole * 10 + i64::from(all.next().unwrap_or(0)));
    let mut fraction: Fraction = all.collect();
    while fraction.last() == Some(&0) {
        fraction.pop();
    }
    Some((whole, fraction))
}

fn saturating(exponent: &str) -> i64 {
    let limit = if exponent.starts_with('-') { i64::MIN / 4 } else { i64::MAX / 4 };
    exponent.parse::<i64>().unwrap_or(limit).clamp(i64::MIN / 4, i64::MAX / 4)
}

/// Half of the distance from an integer to the next double.
fn half_gap_above(integer: i64) -> Fraction {
    static ABOVE_ZERO: LazyLock<Fraction> = LazyLock::new(|| power_of_half(1075));
    match integer.checked_ilog2() {
        None => ABOVE_ZERO.clone(),
        Some(exponent) => power_of_half(53 - exponent),
    }
}

/// The same to the double before: at a power of two it is nearer.
fn half_gap_below(integer: i64) -> Fraction {
    let exponent = integer.ilog2();
    power_of_half(if integer == 1 << exponent { 54 - exponent } else { 53 - exponent })
}

fn power_of_half(exponent: u32) -> Fraction {
    let mut fraction = Fraction::from([5]);
    for _ in 1..exponent {
        let mut carry = 0;
        for digit in &mut fraction {
            let value = carry * 10 + *digit;
            *digit = value / 2;
            carry = value % 2;
        }
        // What ends in 5 leaves one half.
        fraction.push(carry * 5);
    }
    fraction
}

/// One minus a fraction that is not zero.
fn complement(fraction: &[u8]) -> Fraction {
    let last = fraction.len() - 1;
    let from = |at| if at == last { 10 } else { 9 };
    fraction.iter().enumerate().map(|(at, digit)| from(at) - digit).collect()
}

/// The bytes of standard Base64, padded and canonical: bit by bit.
pub fn bytes(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (digits, padding) = text.split_at(text.find('=').unwrap_or(text.len()));
    let right_padding = match digits.len() % 4 {
        0 => "",
        2 => "==",
        3 => "=",
        _ => return None,
    };
    if padding != right_padding {
        return None;
    }
    let mut bits = Vec::new();
    for digit in digits.bytes() {
        let value = ALPHABET.iter().position(|known| *known == digit)?;
        bits.extend((0..6).rev().map(|bit| value >> bit & 1));
    }
    let (whole, unused) = bits.split_at(bits.len() / 8 * 8);
    let byte = |bits: &[usize]| bits.iter().fold(0, |byte, bit| byte << 1 | *bit as u8);
    unused.iter().all(|bit| *bit == 0).then(|| whole.chunks(8).map(byte).collect())
}
