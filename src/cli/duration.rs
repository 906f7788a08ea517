//! Lengths of time as people write them.

use core::time::Duration;

/// Units and how many milliseconds they have.
const UNITS: [(&str, u64); 5] = [
    // The one that ends like another comes first.
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Digits after the point that count: nanoseconds of the longest unit are too small to matter.
const DECIMALS: usize = 9;

/// Parses seconds (`5`, `0.5`) or a number with a unit (`500ms`, `10s`, `1.5m`, `2h`, `30d`).
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let unit = UNITS
        .iter()
        .find_map(|(unit, length)| Some((text.strip_suffix(unit)?, *length)));
    let (number, millis) = unit.unwrap_or((text, 1000));
    exactly(number, millis).ok_or_else(|| {
        "not a length of time; write seconds (5, 0.5) or a number with ms, s, m, h or d (500ms, \
         10s, 2m)"
            .to_owned()
    })
}

/// A length of time in the form that [`parse`] takes, to the millisecond.
pub(super) fn text(length: Duration) -> String {
    let millis = length.as_millis();
    let mut units = UNITS.iter().rev();
    let whole = units.find(|(_, unit)| millis % u128::from(*unit) == 0);
    // Every length is a whole number of the last one, the millisecond.
    let (unit, unit_millis) = whole.unwrap_or(&UNITS[0]);
    format!("{}{unit}", millis / u128::from(*unit_millis))
}

fn exactly(number: &str, unit_millis: u64) -> Option<Duration> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && part.is_empty()) || !digits(whole) || !digits(part) {
        return None;
    }
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let part = &part[..part.len().min(DECIMALS)];
    let billionths: u128 = format!("{part:0<DECIMALS$}").parse().ok()?;
    let nanos_of_part = billionths * u128::from(unit_millis) / 1000;
    Duration::from_millis(whole.checked_mul(unit_millis)?)
        .checked_add(Duration::from_nanos(u64::try_from(nanos_of_part).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_notation_parses() {
        for (text, millis) in [
            ("0", 0),
            ("5", 5000),
            ("0.5", 500),
            (".5", 500),
            ("5.", 5000),
            ("10s", 10_000),
            ("500ms", 500),
            ("1m", 60_000),
            ("1.5m", 90_000),
            ("2h", 7_200_000),
            ("40d", 40 * 86_400_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("0.0015ms"), Ok(Duration::from_nanos(1500)));
    }

    #[test]
    fn printed_length_parses_back() {
        for (millis, written) in [
            (1, "1ms"),
            (1500, "1500ms"),
            (60_000, "1m"),
            (90_000, "90s"),
            (7_200_000, "2h"),
            (30 * 86_400_000, "30d"),
        ] {
            let length = Duration::from_millis(millis);
            assert_eq!(text(length), written);
            assert_eq!(parse(written), Ok(length));
        }
    }

    #[test]
    fn malformed_length_is_refused() {
        for text in [
            "",
            "s",
            "ms",
            ".",
            "-1",
            "+1",
            "1e3",
            "5x",
            "5 s",
            "1.2.3",
            "inf",
            "NaN",
            "٣",
            "99999999999999999999",
            "18446744073709551615d",
        ] {
            let refused = parse(text).expect_err(text);
            assert!(refused.contains("10s"), "{refused}");
        }
    }
}
