//! Durations and sizes as people write them. The parsing is a library's; what is ours is the writing,
//! which says exactly what was read: "30d", not "about a month".

use std::time::Duration;

use bytesize::ByteSize;

pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text.trim()).ok()
}

/// The largest unit that gives a whole number.
pub(crate) fn show_duration(duration: Duration) -> String {
    const UNITS: [(u128, &str); 6] = [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
    ];
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    UNITS
        .iter()
        .find(|(unit, _)| nanos.is_multiple_of(*unit))
        .map_or_else(
            || format!("{nanos}ns"),
            |(unit, name)| format!("{}{name}", nanos / unit),
        )
}

pub(crate) fn parse_size(text: &str) -> Option<u64> {
    text.trim()
        .parse::<ByteSize>()
        .ok()
        .map(|size| size.as_u64())
}

/// The largest binary unit that gives a whole number.
pub(crate) fn show_size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
    ];
    UNITS
        .iter()
        .find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit))
        .map_or_else(
            || bytes.to_string(),
            |(unit, name)| format!("{}{name}", bytes / unit),
        )
}

/// A count with separators, as a message shows it.
pub(crate) fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shown_so_that_it_reads_back() {
        for (text, shown) in [
            ("10s", "10s"),
            ("7d", "7d"),
            ("168h", "7d"),
            ("90s", "90s"),
            ("1500ms", "1500ms"),
            ("1h 30m", "90m"),
            ("0s", "0s"),
            ("7days", "7d"),
            ("1ns", "1ns"),
            ("250us", "250us"),
        ] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(show_duration(duration), shown, "{text}");
            assert_eq!(parse_duration(shown), Some(duration), "{text}");
        }
        for text in ["", "10", "s", "-1s", "1.5.2s", "ten seconds"] {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_size_is_shown_so_that_it_reads_back() {
        for (text, bytes, shown) in [
            ("1MiB", 1 << 20, "1MiB"),
            ("64 KiB", 64 << 10, "64KiB"),
            ("1024", 1024, "1KiB"),
            ("1000", 1000, "1000"),
            ("1MB", 1_000_000, "1000000"),
            ("0", 0, "0"),
            ("1.5GiB", 3 << 29, "1536MiB"),
            ("2TiB", 2 << 40, "2TiB"),
            ("100B", 100, "100"),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
            assert_eq!(show_size(bytes), shown, "{text}");
            assert_eq!(parse_size(shown), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1 parsec", "1,000"] {
            assert_eq!(parse_size(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_count_is_grouped_by_three() {
        for (count, shown) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (65_535, "65,535"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(show_count(count), shown);
        }
    }
}
