//! The types that a key can have: what may be written for each, and how it is shown.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::reader::{Found, Section};
use super::tree::Raw;
use super::units::{parse_duration, parse_size, show_count, show_duration, show_size};

/// A number of the configuration, whatever its width.
pub(crate) trait Number: Copy + TryFrom<u64> + TryInto<u64> {}

impl<T: Copy + TryFrom<u64> + TryInto<u64>> Number for T {}

/// One of a few words. The first of a value's words is the one that is shown.
pub(crate) type Words<T> = [(&'static str, T)];

impl Section<'_> {
    /// `true` or `false`.
    pub(crate) fn boolean(&mut self, key: &str, default: bool) -> bool {
        let parse = |raw: &Raw| {
            let value = match raw {
                Raw::Boolean(value) => Some(*value),
                Raw::Untyped(text) => text.trim().parse().ok(),
                _ => None,
            };
            value.ok_or_else(|| "must be true or false".to_owned())
        };
        self.read(key, default, parse, |value| Some(value.to_string()))
            .value
    }

    /// A whole number.
    pub(crate) fn count<T: Number>(
        &mut self,
        key: &str,
        default: T,
        range: RangeInclusive<u64>,
    ) -> T {
        let parse = |raw: &Raw| parse_count(raw, &range);
        self.read(key, default, parse, |value| show_number(*value))
            .value
    }

    /// A whole number that may be left out.
    pub(crate) fn optional_count<T: Number>(
        &mut self,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Option<T> {
        let parse = |raw: &Raw| parse_count(raw, &range).map(Some);
        self.read(key, None, parse, |value| value.and_then(show_number))
            .value
    }

    /// A number of bytes: "64KiB", "1MiB", or an integer.
    pub(crate) fn size<T: Number>(
        &mut self,
        key: &str,
        default: T,
        range: RangeInclusive<u64>,
    ) -> T {
        self.read_size(key, default, range).value
    }

    /// The same with the place where it was said.
    pub(crate) fn read_size<T: Number>(
        &mut self,
        key: &str,
        default: T,
        range: RangeInclusive<u64>,
    ) -> Found<T> {
        let parse = |raw: &Raw| parse_bytes(raw, &range);
        self.read(key, default, parse, |value| show_bytes(*value))
    }

    /// A number of bytes that may be left out.
    pub(crate) fn optional_size<T: Number>(
        &mut self,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Option<T> {
        let parse = |raw: &Raw| parse_bytes(raw, &range).map(Some);
        self.read(key, None, parse, |value| value.and_then(show_bytes))
            .value
    }

    /// A length of time: "10s", "7d"; 0 needs no unit.
    pub(crate) fn duration(
        &mut self,
        key: &str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        self.duration_where(key, default, range, |_| Ok(()))
    }

    /// A length of time in whole seconds, because the protocol counts in them.
    pub(crate) fn seconds(
        &mut self,
        key: &str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        self.duration_where(key, default, range, whole_seconds)
    }

    /// A length of time in `range` for which `more` holds too.
    pub(crate) fn duration_where(
        &mut self,
        key: &str,
        default: Duration,
        range: RangeInclusive<Duration>,
        more: impl FnOnce(Duration) -> Result<(), String>,
    ) -> Duration {
        let parse = |raw: &Raw| {
            let duration = parse_time(raw, &range)?;
            more(duration).map(|()| duration)
        };
        self.read(key, default, parse, |value| show_time(*value))
            .value
    }

    /// A length of time that may be left out.
    pub(crate) fn optional_duration(
        &mut self,
        key: &str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let parse = |raw: &Raw| parse_time(raw, &range).map(Some);
        self.read(key, None, parse, |value| value.and_then(show_time))
            .value
    }

    /// The same in whole seconds, because the protocol counts in them.
    pub(crate) fn optional_seconds(
        &mut self,
        key: &str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let parse = |raw: &Raw| {
            let duration = parse_time(raw, &range)?;
            whole_seconds(duration).map(|()| Some(duration))
        };
        self.read(key, None, parse, |value| value.and_then(show_time))
            .value
    }

    /// One of `words`.
    pub(crate) fn choice<T: Copy + PartialEq>(
        &mut self,
        key: &str,
        default: T,
        words: &Words<T>,
    ) -> T {
        self.read_choice(key, default, words).value
    }

    /// The same with the place where it was said.
    pub(crate) fn read_choice<T: Copy + PartialEq>(
        &mut self,
        key: &str,
        default: T,
        words: &Words<T>,
    ) -> Found<T> {
        self.read(
            key,
            default,
            |raw| parse_choice(raw, words),
            |value| show_choice(value, words),
        )
    }

    /// One of `words`, each of them something, or nothing.
    pub(crate) fn optional_choice<T: Copy + PartialEq>(
        &mut self,
        key: &str,
        words: &Words<Option<T>>,
    ) -> Found<Option<T>> {
        self.read(
            key,
            None,
            |raw| parse_choice(raw, words),
            |value| show_choice(value, words),
        )
    }

    /// A socket address: an IP address and a port.
    pub(crate) fn address(&mut self, key: &str, default: SocketAddr) -> Found<SocketAddr> {
        self.read(key, default, parse_address, |address| {
            Some(quoted(&address.to_string()))
        })
    }

    /// A socket address that may have no default.
    pub(crate) fn optional_address(
        &mut self,
        key: &str,
        default: Option<SocketAddr>,
    ) -> Found<Option<SocketAddr>> {
        let parse = |raw: &Raw| parse_address(raw).map(Some);
        self.read(key, default, parse, |address| {
            address.map(|address| quoted(&address.to_string()))
        })
    }

    /// A path, relative to the directory that the gateway is started in.
    pub(crate) fn path_to(&mut self, key: &str, default: &str) -> PathBuf {
        let check = |text: &str| match text {
            "" => Err("must not be empty".to_owned()),
            _ => Ok(()),
        };
        PathBuf::from(self.text(key, default, check))
    }

    /// A path that may be left out.
    pub(crate) fn optional_path(&mut self, key: &str) -> Found<Option<PathBuf>> {
        let parse = |raw: &Raw| match word(raw) {
            Some("") => Err("must not be empty".to_owned()),
            Some(path) => Ok(Some(PathBuf::from(path))),
            None => Err("must be text".to_owned()),
        };
        self.read(key, None, parse, |path| {
            path.as_ref().map(|path| quoted(&path.to_string_lossy()))
        })
    }

    /// Text for which `check` holds.
    pub(crate) fn text(
        &mut self,
        key: &str,
        default: &str,
        check: impl FnOnce(&str) -> Result<(), String>,
    ) -> String {
        let parse = |raw: &Raw| checked(raw, check);
        self.read(key, default.to_owned(), parse, |text| Some(quoted(text)))
            .value
    }

    /// Text that may be left out.
    pub(crate) fn optional_text(
        &mut self,
        key: &str,
        check: impl FnOnce(&str) -> Result<(), String>,
    ) -> Option<String> {
        let parse = |raw: &Raw| checked(raw, check).map(Some);
        self.read(key, None, parse, |text| text.as_deref().map(quoted))
            .value
    }

    /// A list; in the environment and in flags its items are separated by commas.
    pub(crate) fn list<T>(&mut self, key: &str) -> Vec<T>
    where
        T: FromStr + Display,
        T::Err: Display,
    {
        self.read_list(key).value
    }

    /// The same with the place where it was said.
    pub(crate) fn read_list<T>(&mut self, key: &str) -> Found<Vec<T>>
    where
        T: FromStr + Display,
        T::Err: Display,
    {
        let parse = |raw: &Raw| {
            let items: Vec<&str> = match raw {
                Raw::List(items) => items
                    .iter()
                    .map(|item| match item {
                        Raw::Text(text) => Ok(text.as_str()),
                        other => Err(format!("{other} is not text")),
                    })
                    .collect::<Result<_, _>>()?,
                Raw::Untyped(text) if text.trim().is_empty() => Vec::new(),
                Raw::Untyped(text) => text.split(',').map(str::trim).collect(),
                _ => return Err("must be a list of texts".to_owned()),
            };
            let parsed = items.iter().map(|item| item.parse::<T>());
            parsed
                .collect::<Result<Vec<T>, _>>()
                .map_err(|error| error.to_string())
        };
        let show = |items: &Vec<T>| {
            let items: Vec<_> = items.iter().map(|item| quoted(&item.to_string())).collect();
            Some(format!("[{}]", items.join(", ")))
        };
        self.read(key, Vec::new(), parse, show)
    }
}

/// `text` as a TOML string.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// "a", "a or b", "a, b or c".
pub(crate) fn alternatives(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// The text of a value that is text.
pub(crate) fn word(raw: &Raw) -> Option<&str> {
    match raw {
        Raw::Text(text) => Some(text),
        Raw::Untyped(text) => Some(text.trim()),
        _ => None,
    }
}

fn parse_choice<T: Copy>(raw: &Raw, words: &Words<T>) -> Result<T, String> {
    let word = word(raw).unwrap_or_default();
    let found = words.iter().find(|(name, _)| *name == word);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = words.iter().map(|(name, _)| quoted(name)).collect();
        format!("must be {}", alternatives(&names))
    })
}

fn show_choice<T: PartialEq>(value: &T, words: &Words<T>) -> Option<String> {
    let found = words.iter().find(|(_, known)| known == value);
    found.map(|(name, _)| quoted(name))
}

fn parse_count<T: Number>(raw: &Raw, range: &RangeInclusive<u64>) -> Result<T, String> {
    let (low, high) = (show_count(*range.start()), show_count(*range.end()));
    let number = match raw {
        Raw::Integer(number) => Some(*number),
        Raw::Untyped(text) => text.trim().parse().ok(),
        _ => None,
    };
    let number = number.ok_or_else(|| format!("must be a number, {low} to {high}"))?;
    within(number, range).ok_or_else(|| format!("must be {low} to {high}"))
}

fn show_number<T: Number>(value: T) -> Option<String> {
    to_u64(value).map(|number| number.to_string())
}

fn parse_bytes<T: Number>(raw: &Raw, range: &RangeInclusive<u64>) -> Result<T, String> {
    let (low, high) = (show_size(*range.start()), show_size(*range.end()));
    let number = match raw {
        Raw::Integer(number) => Some(*number),
        Raw::Text(text) | Raw::Untyped(text) => parse_size(text).map(i128::from),
        _ => None,
    };
    let number = number.ok_or_else(|| {
        format!("must be a size such as \"64KiB\" or a number of bytes, {low} to {high}")
    })?;
    within(number, range).ok_or_else(|| format!("must be {low} to {high}"))
}

fn show_bytes<T: Number>(value: T) -> Option<String> {
    let text = show_size(to_u64(value)?);
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    Some(if is_number { text } else { quoted(&text) })
}

fn parse_time(raw: &Raw, range: &RangeInclusive<Duration>) -> Result<Duration, String> {
    let (low, high) = (show_duration(*range.start()), show_duration(*range.end()));
    let duration = match raw {
        Raw::Integer(0) => Some(Duration::ZERO),
        Raw::Untyped(text) if text.trim() == "0" => Some(Duration::ZERO),
        Raw::Text(text) | Raw::Untyped(text) => parse_duration(text),
        _ => None,
    };
    let duration = duration
        .ok_or_else(|| format!("must be a duration such as \"10s\" or \"7d\", {low} to {high}"))?;
    if range.contains(&duration) {
        Ok(duration)
    } else {
        Err(format!("must be {low} to {high}"))
    }
}

fn show_time(value: Duration) -> Option<String> {
    Some(quoted(&show_duration(value)))
}

fn whole_seconds(duration: Duration) -> Result<(), String> {
    match duration.subsec_nanos() {
        0 => Ok(()),
        _ => Err("must be whole seconds".to_owned()),
    }
}

fn parse_address(raw: &Raw) -> Result<SocketAddr, String> {
    let address = word(raw).and_then(|text| text.parse().ok());
    address.ok_or_else(|| {
        "must be an IP address and a port, such as \"127.0.0.1:1883\" or \"[::1]:1883\"".to_owned()
    })
}

fn checked(raw: &Raw, check: impl FnOnce(&str) -> Result<(), String>) -> Result<String, String> {
    let text = word(raw).ok_or("must be text")?;
    check(text).map(|()| text.to_owned())
}

fn within<T: Number>(number: i128, range: &RangeInclusive<u64>) -> Option<T> {
    let number = u64::try_from(number).ok()?;
    range.contains(&number).then(|| T::try_from(number).ok())?
}

fn to_u64<T: Number>(value: T) -> Option<u64> {
    value.try_into().ok()
}
