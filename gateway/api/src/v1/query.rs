//! The query of a request: every parameter is asked for by name, and one that nobody asked for is refused.
//!
//! Values are those of HTML forms (`application/x-www-form-urlencoded`): `+` is a space. In topics and filters a
//! `+` that is a whole level stays one: it is the wildcard that people write there, and nothing else of MQTT has a
//! level that is one space.

use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::problem::Problem;

/// Most parameters of a query.
const MOST: usize = 200;

/// The parameters that were not asked for yet, as they came.
#[derive(Debug)]
pub(crate) struct Query<'a>(Vec<(String, &'a str)>);

impl<'a> Query<'a> {
    pub(crate) fn parse(query: Option<&'a str>) -> Result<Self, Problem> {
        let mut pairs = Vec::new();
        for pair in query.unwrap_or_default().split('&') {
            if pair.is_empty() {
                continue;
            }
            if pairs.len() >= MOST {
                return Err(Problem::malformed(format!(
                    "The query has more than {MOST} parameters."
                )));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(&name.replace('+', " "))?, value));
        }
        Ok(Self(pairs))
    }

    /// Whether the parameter is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(it, _)| it == name)
    }

    /// The values of a parameter that may be repeated, as they came.
    fn take_raw(&mut self, name: &str) -> Vec<&'a str> {
        let found = self.0.iter().filter(|(it, _)| it == name);
        let found = found.map(|(_, value)| *value).collect();
        self.0.retain(|(it, _)| it != name);
        found
    }

    fn take_one(&mut self, name: &str) -> Result<Option<&'a str>, Problem> {
        let found = self.take_raw(name);
        match found.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            _ => Err(Problem::malformed(format!(
                "The parameter {name} is there more than once."
            ))),
        }
    }

    /// Text.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, Problem> {
        self.take_one(name)?.map(text).transpose()
    }

    /// Texts of a parameter that may be repeated.
    pub(crate) fn texts(&mut self, name: &str) -> Result<Vec<String>, Problem> {
        self.take_raw(name).into_iter().map(text).collect()
    }

    /// A topic name.
    pub(crate) fn topic(&mut self, name: &str) -> Result<Option<String>, Problem> {
        self.take_one(name)?.map(topic).transpose()
    }

    /// Topic filters.
    pub(crate) fn topics(&mut self, name: &str) -> Result<Vec<String>, Problem> {
        self.take_raw(name).into_iter().map(topic).collect()
    }

    /// A number.
    pub(crate) fn number<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, Problem> {
        let Some(value) = self.take_one(name)? else {
            return Ok(None);
        };
        let number = value.parse();
        number.map(Some).map_err(|_| {
            Problem::malformed(format!(
                "The parameter {name} is a whole number within its range."
            ))
        })
    }

    /// `true`, `false`, or the name alone, which is `true`.
    pub(crate) fn flag(&mut self, name: &str) -> Result<bool, Problem> {
        match self.take_one(name)? {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1" | "") => Ok(true),
            Some(_) => Err(Problem::malformed(format!(
                "The parameter {name} is true or false."
            ))),
        }
    }

    /// Refuses what nobody has asked for.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Problem::malformed(format!(
                "There is no parameter {name:?} here."
            ))),
        }
    }
}

/// Decodes what is percent-encoded.
pub(crate) fn decode(text: &str) -> Result<String, Problem> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(std::borrow::Cow::into_owned).map_err(|_| {
        Problem::malformed("The address holds percent-encoded bytes that are not UTF-8.")
    })
}

fn text(value: &str) -> Result<String, Problem> {
    decode(&value.replace('+', " "))
}

fn topic(value: &str) -> Result<String, Problem> {
    if !value.contains('+') {
        return decode(value);
    }
    let levels: Vec<String> = value
        .split('/')
        .map(|level| match level {
            "+" => level.to_owned(),
            _ => level.replace('+', " "),
        })
        .collect();
    decode(&levels.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plus_is_a_wildcard_where_it_is_a_level_and_a_space_elsewhere() {
        for (value, meant) in [
            ("a/+/b", "a/+/b"),
            ("+", "+"),
            ("%2B/x", "+/x"),
            ("front+door/+", "front door/+"),
            ("a%2Fb", "a/b"),
            ("%23", "#"),
        ] {
            assert_eq!(topic(value).unwrap(), meant);
        }
        assert_eq!(text("a+b").unwrap(), "a b");
    }

    #[test]
    fn what_is_not_asked_for_asked_twice_or_no_utf_8_is_refused() {
        let mut query = Query::parse(Some("a=1&b=x&&c")).unwrap();
        assert_eq!(query.number::<u8>("a").unwrap(), Some(1));
        assert!(query.flag("c").unwrap());
        assert!(query.finish().is_err());
        let mut twice = Query::parse(Some("a=1&a=2")).unwrap();
        assert!(twice.text("a").is_err());
        let mut many = Query::parse(Some("a=1&a=2")).unwrap();
        assert_eq!(many.texts("a").unwrap(), ["1", "2"]);
        assert!(many.finish().is_ok());
        assert!(Query::parse(Some("%ff=1")).is_err());
        assert!(Query::parse(Some("a=%ff")).unwrap().text("a").is_err());
        assert!(Query::parse(Some(&"a&".repeat(201))).is_err());
        for value in ["256", "-1", "1.0", "", "x"] {
            let query = format!("a={value}");
            assert!(
                Query::parse(Some(&query))
                    .unwrap()
                    .number::<u8>("a")
                    .is_err()
            );
        }
    }
}
