//! Topic names and topic filters (MQTT 5.0 section 4.7), parsed once and trusted afterwards.

use std::fmt;
use std::sync::Arc;

/// The longest string the wire format can carry, in bytes (MQTT 5.0 section 1.5.4).
pub const MAX_STRING_BYTES: usize = 65_535;

/// The prefix of a shared subscription (MQTT 5.0 section 4.8.2).
const SHARE_PREFIX: &str = "$share/";

/// Why a string is not a topic name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicNameError {
    /// At least one character is needed.
    #[error("a topic name has at least one character (MQTT-4.7.3-1)")]
    Empty,
    /// More than [`MAX_STRING_BYTES`].
    #[error("a topic name has at most 65,535 bytes (MQTT-4.7.3-3)")]
    TooLong,
    /// `+` or `#` occurs.
    #[error("a topic name holds no wildcard (MQTT-3.3.2-2)")]
    Wildcard,
    /// U+0000 occurs.
    #[error("a topic name holds no U+0000 (MQTT-4.7.3-2)")]
    Nul,
    /// The bytes are not UTF-8.
    #[error("a topic name is UTF-8 (MQTT-3.3.2-1)")]
    NotUtf8,
}

/// What a message is published to. Borrowed, because it lives in the publisher's read buffer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// Checks that `text` is a topic name.
    pub fn new(text: &'a str) -> Result<Self, TopicNameError> {
        Self::check_bytes(text.as_bytes())?;
        Ok(Self(text))
    }

    /// Checks that `bytes` are UTF-8 and a topic name.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, TopicNameError> {
        let text = std::str::from_utf8(bytes).map_err(|_| TopicNameError::NotUtf8)?;
        Self::new(text)
    }

    /// A name that was checked when it was stored.
    pub(crate) const fn trusted(text: &'a str) -> Self {
        Self(text)
    }

    fn check_bytes(bytes: &[u8]) -> Result<(), TopicNameError> {
        if bytes.is_empty() {
            return Err(TopicNameError::Empty);
        }
        if bytes.len() > MAX_STRING_BYTES {
            return Err(TopicNameError::TooLong);
        }
        let bad = holds_forbidden(bytes);
        if !bad {
            return Ok(());
        }
        if bytes.contains(&0) {
            Err(TopicNameError::Nul)
        } else {
            Err(TopicNameError::Wildcard)
        }
    }

    /// The name as text.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The levels between the separators; an empty level counts (MQTT-4.7.1-1).
    pub fn levels(self) -> std::str::Split<'a, char> {
        self.0.split('/')
    }

    /// Whether the name begins with `$`, which wildcards at the first level do not match
    /// (MQTT-4.7.2-1).
    pub fn is_system(self) -> bool {
        self.0.starts_with('$')
    }
}

impl fmt::Debug for TopicName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

impl fmt::Display for TopicName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Whether a byte is `+`, `#` or 0, eight bytes at a time.
#[inline]
fn holds_forbidden(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk() else {
        return bytes.iter().any(|b| matches!(b, b'+' | b'#' | 0));
    };
    // The last eight bytes cover what the whole words leave over.
    let (words, _) = bytes.as_chunks();
    words
        .iter()
        .fold(forbidden(last), |bad, word| bad | forbidden(word))
        != 0
}

/// Not 0 exactly when one of the bytes is `+`, `#` or 0.
const fn forbidden(word: &[u8; 8]) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    const fn zero(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word & HIGH
    }
    let word = u64::from_ne_bytes(*word);
    zero(word)
        | zero(word ^ u64::from_ne_bytes([b'+'; 8]))
        | zero(word ^ u64::from_ne_bytes([b'#'; 8]))
}

/// Why a string is not a topic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicFilterError {
    /// At least one character is needed, also after the share name.
    #[error("a topic filter has at least one character (MQTT-4.7.3-1)")]
    Empty,
    /// More than [`MAX_STRING_BYTES`].
    #[error("a topic filter has at most 65,535 bytes (MQTT-4.7.3-3)")]
    TooLong,
    /// U+0000 occurs.
    #[error("a topic filter holds no U+0000 (MQTT-4.7.3-2)")]
    Nul,
    /// `#` is not a whole level, or not the last one.
    #[error("`#` stands alone in the last level (MQTT-4.7.1-1)")]
    MultiLevelWildcard,
    /// `+` is not a whole level.
    #[error("`+` stands alone in its level (MQTT-4.7.1-2)")]
    SingleLevelWildcard,
    /// The share name is empty, has a wildcard, or no filter follows it.
    #[error(
        "a shared subscription is `$share/NAME/FILTER` without wildcard in NAME (MQTT-4.8.2-1, -2)"
    )]
    Share,
}

/// What a subscription asks for: a pattern and, when it is shared, the name of its group.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter {
    text: Arc<str>,
    /// Length of the share name, which follows [`SHARE_PREFIX`]; 0 when the subscription is not
    /// shared.
    share: u16,
}

impl TopicFilter {
    /// Checks that `text` is a topic filter, shared or not.
    pub fn new(text: &str) -> Result<Self, TopicFilterError> {
        if text.len() > MAX_STRING_BYTES {
            return Err(TopicFilterError::TooLong);
        }
        if text.as_bytes().contains(&0) {
            return Err(TopicFilterError::Nul);
        }
        let mut share = 0;
        let mut pattern = text;
        if let Some(rest) = text.strip_prefix(SHARE_PREFIX) {
            let (name, after) = rest.split_once('/').ok_or(TopicFilterError::Share)?;
            if name.is_empty() || name.contains(['+', '#']) || after.is_empty() {
                return Err(TopicFilterError::Share);
            }
            // It fits: the whole text was held to 65,535 bytes above.
            share = name.len() as u16;
            pattern = after;
        }
        if pattern.is_empty() {
            return Err(TopicFilterError::Empty);
        }
        let mut levels = pattern.split('/').peekable();
        while let Some(level) = levels.next() {
            if level.contains('#') && (level != "#" || levels.peek().is_some()) {
                return Err(TopicFilterError::MultiLevelWildcard);
            }
            if level.contains('+') && level != "+" {
                return Err(TopicFilterError::SingleLevelWildcard);
            }
        }
        Ok(Self {
            text: text.into(),
            share,
        })
    }

    /// The whole filter, with the `$share` prefix when there is one.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name of the shared group, when the subscription is shared.
    pub fn share_name(&self) -> Option<&str> {
        (self.share > 0).then(|| &self.text[SHARE_PREFIX.len()..self.share_end()])
    }

    fn share_end(&self) -> usize {
        SHARE_PREFIX.len() + usize::from(self.share)
    }

    /// The part that topics are matched against.
    pub fn pattern(&self) -> &str {
        if self.share == 0 {
            &self.text
        } else {
            &self.text[self.share_end() + 1..]
        }
    }

    /// The levels of [`Self::pattern`].
    pub fn levels(&self) -> std::str::Split<'_, char> {
        self.pattern().split('/')
    }

    /// Whether the pattern holds `+` or `#`.
    pub fn has_wildcard(&self) -> bool {
        self.pattern().contains(['+', '#'])
    }

    /// Whether `topic` matches (MQTT 5.0 sections 4.7.1 and 4.7.2). The index does not call this:
    /// it is the rule in its plainest form, for one filter and one topic.
    pub fn matches(&self, topic: TopicName<'_>) -> bool {
        if topic.is_system() && self.pattern().starts_with(['+', '#']) {
            return false;
        }
        let mut names = topic.levels();
        for level in self.levels() {
            match (level, names.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (literal, Some(name)) if literal == name => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(filter: &str, topic: &str) -> bool {
        TopicFilter::new(filter)
            .unwrap()
            .matches(TopicName::new(topic).unwrap())
    }

    #[test]
    fn mqtt_4_7_1_examples_of_the_specification() {
        assert!(matches("sport/tennis/player1/#", "sport/tennis/player1"));
        assert!(matches(
            "sport/tennis/player1/#",
            "sport/tennis/player1/score/wimbledon"
        ));
        assert!(matches("sport/#", "sport"));
        assert!(matches("sport/tennis/+", "sport/tennis/player1"));
        assert!(!matches("sport/tennis/+", "sport/tennis/player1/ranking"));
        assert!(!matches("sport/+", "sport"));
        assert!(matches("sport/+", "sport/"));
        assert!(matches("+/+", "/finance"));
        assert!(matches("/+", "/finance"));
        assert!(!matches("+", "/finance"));
        assert!(matches("#", "/"));
    }

    #[test]
    fn mqtt_4_7_2_1_wildcards_at_the_first_level_leave_dollar_topics_alone() {
        assert!(!matches("#", "$SYS/broker/uptime"));
        assert!(!matches("+/broker/uptime", "$SYS/broker/uptime"));
        assert!(matches("$SYS/#", "$SYS/broker/uptime"));
        assert!(matches("$SYS/+/uptime", "$SYS/broker/uptime"));
    }

    #[test]
    fn mqtt_4_7_1_1_and_2_wildcards_stand_alone() {
        for bad in ["a#", "#/a", "a/#/b", "a/b#", "##"] {
            assert_eq!(
                TopicFilter::new(bad),
                Err(TopicFilterError::MultiLevelWildcard),
                "{bad}"
            );
        }
        for bad in ["a+", "+a/b", "a/++"] {
            assert_eq!(
                TopicFilter::new(bad),
                Err(TopicFilterError::SingleLevelWildcard),
                "{bad}"
            );
        }
        assert_eq!(TopicFilter::new(""), Err(TopicFilterError::Empty));
        assert_eq!(TopicFilter::new("a\0"), Err(TopicFilterError::Nul));
    }

    #[test]
    fn mqtt_4_8_2_1_and_2_the_share_name_is_a_plain_level() {
        let filter = TopicFilter::new("$share/workers/a/+/c").unwrap();
        assert_eq!(filter.share_name(), Some("workers"));
        assert_eq!(filter.pattern(), "a/+/c");
        for bad in [
            "$share/",
            "$share/g",
            "$share/g/",
            "$share//a",
            "$share/g+/a",
            "$share/#/a",
        ] {
            assert_eq!(TopicFilter::new(bad), Err(TopicFilterError::Share), "{bad}");
        }
        assert_eq!(TopicFilter::new("$share").unwrap().share_name(), None);
    }

    #[test]
    fn mqtt_4_7_3_topic_names() {
        assert_eq!(TopicName::new(""), Err(TopicNameError::Empty));
        assert_eq!(TopicName::new("a/+"), Err(TopicNameError::Wildcard));
        assert_eq!(TopicName::new("a#"), Err(TopicNameError::Wildcard));
        assert_eq!(TopicName::new("a\0"), Err(TopicNameError::Nul));
        assert_eq!(
            TopicName::from_bytes(b"\xff\xfe"),
            Err(TopicNameError::NotUtf8)
        );
        let long = "a".repeat(MAX_STRING_BYTES + 1);
        assert_eq!(TopicName::new(&long), Err(TopicNameError::TooLong));
        assert!(TopicName::new(&long[1..]).is_ok());
        assert!(TopicName::new("/").is_ok());
    }
}
