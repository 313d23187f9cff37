//! The end of a run: everybody comes back, and everything has time to arrive.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::rules::Stage;
use crate::run::Run;

/// For so long nothing arrives before the rules are looked at.
const QUIET: Duration = Duration::from_millis(200);

/// For so long nothing arrives while something is missing before it counts as lost: longer than the
/// delay of any will that is waited for.
const PATIENCE: Duration = Duration::from_secs(8);

/// For so long something may be waited for that comes at once otherwise.
const LIMIT: Duration = Duration::from_secs(20);

/// Messages that each writer sends behind all others.
const LAST: usize = 20;

impl Run {
    /// Waits until everybody who is there from the beginning has subscribed, then lets the writers come.
    pub(crate) fn gather(&mut self) -> Result<()> {
        let first: Vec<String> = self.plan.first().map(str::to_owned).collect();
        for name in &first {
            self.come(name)?;
        }
        let end = Instant::now() + LIMIT;
        while !first.iter().all(|name| self.subscribed.contains(name)) {
            self.next(QUIET)?;
            ensure!(
                Instant::now() < end,
                "not all clients have subscribed after {LIMIT:?}: {:?}",
                self.subscribed
            );
        }
        for name in self.plan.writers() {
            self.come(name)?;
        }
        Ok(())
    }

    /// Everybody comes, a last time after one more crash.
    pub(crate) fn finish(&mut self, kills: bool) -> Result<()> {
        let clients = self.plan.crews.iter().flat_map(|crew| &crew.clients);
        let staying = clients.filter(|client| {
            let will = client.will.as_ref();
            will.is_none_or(|will| will.round.is_none())
        });
        let names: Vec<String> = staying.map(|client| client.client.clone()).collect();
        for name in names {
            self.come(&name)?;
        }
        self.settle()?;
        if kills && self.broken(Stage::End).is_empty() {
            self.kill()?;
            self.start()?;
            self.settle()?;
        }
        Ok(())
    }

    /// Some messages more, behind which nothing can hide, and one look at what is retained.
    fn settle(&mut self) -> Result<()> {
        self.publish(LAST, LAST)?;
        self.last = Instant::now();
        while !self.is_settled() {
            self.next(QUIET)?;
            self.gateway.lives()?;
            ensure!(
                self.last.elapsed() < LIMIT,
                "nothing has happened for {LIMIT:?}, but not everything is acknowledged"
            );
        }
        let looks = self.looks;
        self.look()?;
        while self.looks == looks {
            self.next(QUIET)?;
            if self.last.elapsed() > LIMIT {
                bail!("nobody is told what is retained");
            }
        }
        loop {
            while self.next(QUIET)? {}
            self.gateway.lives()?;
            if self.last.elapsed() >= PATIENCE || self.broken(Stage::End).is_empty() {
                return Ok(());
            }
        }
    }
}
