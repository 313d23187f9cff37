//! Clients with a will that a crash cuts off for good.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::run::{PATIENCE, QUIET, Run};

impl Run {
    /// Clients with a will whose round has come and that no crash has cut off yet.
    pub(crate) fn come_with_will(&mut self, number: u32) -> Result<()> {
        for name in self.wills(number) {
            if !self.subscribed.contains(&name) {
                self.come(&name)?;
            }
        }
        Ok(())
    }

    /// Those of them that were there when the gateway was killed do not come back. It is not started again
    /// before they know.
    pub(crate) fn stay_away(&mut self, number: u32) -> Result<()> {
        let mut wills = self.wills(number);
        wills.retain(|name| self.subscribed.contains(name) && !self.left.contains(name));
        for name in &wills {
            self.tell(
                name,
                &json!({ "do": "go", "client": name, "polite": false }),
            )?;
        }
        let end = Instant::now() + PATIENCE;
        while !wills.iter().all(|name| self.left.contains(name)) {
            self.next(QUIET)?;
            ensure!(Instant::now() < end, "these do not stay away: {wills:?}");
        }
        Ok(())
    }

    /// Clients that are to be cut off in this round or were to be in an earlier one.
    fn wills(&self, number: u32) -> Vec<String> {
        let clients = self.plan.crews.iter().flat_map(|crew| &crew.clients);
        let due = clients.filter(|client| {
            let round = client.will.as_ref().and_then(|will| will.round);
            round.is_some_and(|round| round <= number)
        });
        due.map(|client| client.client.clone()).collect()
    }
}
