//! A test and what it proves.

use tidegate_tests::wire::Version;

use crate::case::Case;
use crate::fault::Fault;

/// A test: a function that panics if the server is wrong, and what it stands for.
pub struct Test {
    /// The function's name, which begins with the clause.
    pub name: &'static str,
    pub(crate) run: fn(&Case),
    pub(crate) mqtt3: &'static [&'static str],
    pub(crate) mqtt5: &'static [&'static str],
    pub(crate) level3: Option<&'static str>,
    pub(crate) versions: &'static [Version],
    pub(crate) regressions: &'static [&'static str],
    pub(crate) interplay: Option<&'static str>,
    pub(crate) fault: Option<Fault>,
    pub(crate) fault_of_3: Option<Fault>,
}

/// The test of a function.
macro_rules! test {
    ($function:ident) => {
        $crate::test::Test::new(stringify!($function), $function)
    };
}

pub(crate) use test;

impl Test {
    pub(crate) const fn new(name: &'static str, run: fn(&Case)) -> Self {
        Self {
            name,
            run,
            mqtt3: &[],
            mqtt5: &[],
            level3: None,
            versions: &[],
            regressions: &[],
            interplay: None,
            fault: None,
            fault_of_3: None,
        }
    }

    /// Proves these statements of MQTT 3.1.1, and so runs at level 4.
    pub(crate) const fn mqtt3(mut self, statements: &'static [&'static str]) -> Self {
        self.mqtt3 = statements;
        self
    }

    /// Proves these statements of MQTT 5.0, and so runs at level 5.
    pub(crate) const fn mqtt5(mut self, statements: &'static [&'static str]) -> Self {
        self.mqtt5 = statements;
        self
    }

    /// Runs at level 3, too, and shows this of MQTT 3.1.
    pub(crate) const fn level3(mut self, shows: &'static str) -> Self {
        self.level3 = Some(shows);
        self
    }

    /// Runs at these versions, for a test that stands for no numbered statement.
    pub(crate) const fn at(mut self, versions: &'static [Version]) -> Self {
        self.versions = versions;
        self
    }

    /// Stands for failures that other brokers had, in the words of [`crate::REGRESSIONS`].
    pub(crate) const fn regression(mut self, names: &'static [&'static str]) -> Self {
        self.regressions = names;
        self
    }

    /// Shows how clauses work together that no single one names; in a few words.
    pub(crate) const fn interplay(mut self, what: &'static str) -> Self {
        self.interplay = Some(what);
        self
    }

    /// With this fault between test and server the test fails: it can.
    pub(crate) const fn fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// The fault before MQTT 5.0, where it has to be another one.
    pub(crate) const fn fault_of_3(mut self, fault: Fault) -> Self {
        self.fault_of_3 = Some(fault);
        self
    }

    /// The versions that it runs at.
    #[must_use]
    pub fn versions(&self) -> Vec<Version> {
        Version::ALL
            .into_iter()
            .filter(|version| {
                self.versions.contains(version)
                    || match version {
                        Version::V31 => self.level3.is_some(),
                        Version::V311 => !self.mqtt3.is_empty(),
                        Version::V5 => !self.mqtt5.is_empty(),
                    }
            })
            .collect()
    }

    /// The statements that it proves of a version's specification.
    #[must_use]
    pub fn statements(&self, version: Version) -> &'static [&'static str] {
        match version {
            Version::V31 => &[],
            Version::V311 => self.mqtt3,
            Version::V5 => self.mqtt5,
        }
    }

    /// The failures of other brokers that it stands for.
    #[must_use]
    pub fn regressions(&self) -> &'static [&'static str] {
        self.regressions
    }

    /// The fault that it is shown to fail with at a version.
    #[must_use]
    pub fn fault_at(&self, version: Version) -> Option<&Fault> {
        let before = (version != Version::V5)
            .then_some(self.fault_of_3.as_ref())
            .flatten();
        before.or(self.fault.as_ref())
    }
}
