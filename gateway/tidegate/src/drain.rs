//! The word that the gateway is to end, passed by hand to everything that must hear it.

use tokio::sync::watch;

/// Begins the drain. Dropping it begins the drain, too: whoever could say it is gone.
#[derive(Debug)]
pub(crate) struct DrainTrigger(watch::Sender<bool>);

/// Hears that the drain has begun. Clones hear the same.
#[derive(Clone, Debug)]
pub(crate) struct Drain(watch::Receiver<bool>);

pub(crate) fn channel() -> (DrainTrigger, Drain) {
    let (sender, receiver) = watch::channel(false);
    (DrainTrigger(sender), Drain(receiver))
}

impl DrainTrigger {
    pub(crate) fn begin(&self) {
        self.0.send_replace(true);
    }
}

impl Drain {
    /// Completes when the drain has begun, at once if it had begun before.
    pub(crate) async fn begun(mut self) {
        // An error means that the trigger was dropped, which is the same word.
        let _ = self.0.wait_for(|begun| *begun).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_hears_it_early_or_late() {
        let (trigger, drain) = channel();
        let early = tokio::spawn(drain.clone().begun());
        trigger.begin();
        early.await.unwrap();
        drain.begun().await;
    }

    #[tokio::test]
    async fn a_trigger_that_is_gone_has_said_it() {
        let (trigger, drain) = channel();
        drop(trigger);
        drain.begun().await;
    }
}
