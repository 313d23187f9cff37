//! For each rule a history that breaks it and one that does not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it stands"
)]

use tidegate_crash::Rule::{
    ContentIsKept, NothingIsLost, NothingIsRefused, NothingTwice, OrderIsKept, RetainedIsLast,
    SessionIsPresent, SharedOnce, WillArrives, WillIsSpared,
};
use tidegate_crash::{Event, Rule, Stage, What, check, history, round};

const SECOND: u64 = 1_000_000;

/// Events one millisecond apart.
#[derive(Clone, Default)]
struct Story(Vec<Event>);

impl Story {
    fn and(mut self, what: What) -> Self {
        let at = self.0.last().map_or(0, |event| event.at) + 1000;
        self.0.push(Event { at, what });
        self
    }

    /// What follows comes so much later.
    fn later(mut self, seconds: u64) -> Self {
        self.0.last_mut().expect("a story that has begun").at += seconds * SECOND;
        self
    }

    fn killed(self) -> Self {
        self.and(What::Killed).and(What::Started)
    }

    fn connected(self, client: &str, present: bool) -> Self {
        let client = client.to_owned();
        self.and(What::Connected { client, present })
    }

    fn subscribed(self, client: &str, filter: &str, qos: u8) -> Self {
        let filters = vec![(filter.to_owned(), qos)];
        let client = client.to_owned();
        self.and(What::Subscribed { client, filters })
    }

    fn sent(self, message: u64, topic: &str, qos: u8) -> Self {
        self.sends(message, topic, qos, false, 10)
    }

    fn retains(self, message: u64, size: usize) -> Self {
        self.sends(message, "kept", 1, true, size)
    }

    fn sends(self, message: u64, topic: &str, qos: u8, retain: bool, size: usize) -> Self {
        self.and(What::Sent {
            client: "writer".to_owned(),
            message,
            topic: topic.to_owned(),
            qos,
            retain,
            size,
            sum: 7,
        })
    }

    fn acked(self, message: u64) -> Self {
        let client = "writer".to_owned();
        self.and(What::Acked { client, message })
    }

    fn arrived(self, client: &str, message: u64, topic: &str, qos: u8) -> Self {
        self.arrives(client, message, topic, qos, false, 7)
    }

    fn arrives(
        self,
        client: &str,
        message: u64,
        topic: &str,
        qos: u8,
        retain: bool,
        sum: u32,
    ) -> Self {
        self.and(What::Arrived {
            client: client.to_owned(),
            message: Some(message),
            topic: topic.to_owned(),
            qos,
            dup: false,
            retain,
            size: 10,
            sum,
        })
    }

    fn looked(self, found: &[u64]) -> Self {
        let asked = self.0.last().map_or(0, |event| event.at) + 500;
        let found = found.iter().map(|message| ("kept".to_owned(), *message));
        let found = found.collect();
        self.and(What::Kept { asked, found })
    }

    fn willed(self, delay: u64) -> Self {
        let client = "doomed".to_owned();
        self.and(What::Willed {
            client,
            message: 9,
            topic: "will".to_owned(),
            qos: 1,
            delay,
            size: 10,
            sum: 7,
        })
    }

    #[track_caller]
    fn breaks(&self, rules: &[Rule]) {
        let found = check(&self.0, Stage::End);
        let broken: Vec<Rule> = found.iter().map(|violation| violation.rule).collect();
        assert_eq!(broken, rules, "{found:#?}");
    }

    #[track_caller]
    fn breaks_nothing(&self) {
        self.breaks(&[]);
    }
}

fn reader(filter: &str, qos: u8) -> Story {
    let story = Story::default().connected("reader", false);
    story.subscribed("reader", filter, qos)
}

#[test]
fn what_was_acknowledged_has_to_arrive() {
    let sent = reader("a/#", 1).sent(1, "a/b", 1);
    sent.clone().breaks_nothing();
    let acked = sent.acked(1).killed();
    acked.breaks(&[NothingIsLost]);
    assert!(
        check(&acked.0, Stage::Running).is_empty(),
        "it may come yet"
    );
    acked
        .clone()
        .arrived("reader", 1, "a/b", 1)
        .breaks_nothing();
    // A retained copy is another thing.
    acked
        .arrives("reader", 1, "a/b", 1, true, 7)
        .breaks(&[NothingIsLost]);
}

#[test]
fn each_session_has_to_receive_it() {
    let two = reader("a/#", 1).subscribed("other", "a/b", 1);
    let acked = two.sent(1, "a/b", 1).acked(1);
    let one = acked.arrived("other", 1, "a/b", 1);
    one.breaks(&[NothingIsLost]);
    one.arrived("reader", 1, "a/b", 1).breaks_nothing();
}

#[test]
fn only_what_was_subscribed_to_before_has_to_arrive() {
    let late = Story::default().sent(1, "a/b", 1);
    let late = late.subscribed("reader", "a/#", 1).acked(1);
    late.breaks_nothing();
    reader("a/c", 1).sent(1, "a/b", 1).acked(1).breaks_nothing();
}

#[test]
fn what_a_client_held_when_it_was_killed_is_its_own_loss() {
    let sent = reader("a", 2).sent(1, "a", 2).acked(1);
    let client = || "reader".to_owned();
    let held = What::Held {
        client: client(),
        message: 1,
    };
    let died = What::Died { client: client() };
    sent.clone()
        .and(held.clone())
        .and(died.clone())
        .breaks_nothing();
    sent.clone().and(held.clone()).breaks(&[NothingIsLost]);
    sent.and(died).and(held).breaks(&[NothingIsLost]);
}

#[test]
fn qos_2_arrives_once_and_qos_1_may_arrive_again() {
    let sent = |qos| {
        reader("a", 2)
            .sent(1, "a", qos)
            .acked(1)
            .arrived("reader", 1, "a", qos)
    };
    sent(2).breaks_nothing();
    sent(2)
        .killed()
        .arrived("reader", 1, "a", 2)
        .breaks(&[NothingTwice]);
    sent(1)
        .killed()
        .arrived("reader", 1, "a", 1)
        .breaks_nothing();
    // Of a new subscription.
    sent(2)
        .arrives("reader", 1, "a", 2, true, 7)
        .breaks_nothing();
}

#[test]
fn first_arrivals_keep_their_order_and_repetitions_need_not() {
    let sent = reader("+", 1)
        .sent(1, "a", 1)
        .sent(2, "a", 1)
        .sent(3, "b", 1);
    let came = |story: Story, order: [u64; 4]| {
        order.into_iter().fold(story, |story, message| {
            let topic = if message == 3 { "b" } else { "a" };
            story.arrived("reader", message, topic, 1)
        })
    };
    came(sent.clone(), [3, 1, 2, 1]).breaks_nothing();
    came(sent.clone(), [1, 1, 2, 3]).breaks_nothing();
    came(sent, [2, 1, 2, 3]).breaks(&[OrderIsKept]);
}

#[test]
fn what_arrives_is_what_was_sent() {
    let sent = reader("#", 1).sent(1, "a", 2);
    sent.clone().arrived("reader", 1, "a", 1).breaks_nothing();
    sent.clone()
        .arrived("reader", 1, "b", 1)
        .breaks(&[ContentIsKept]);
    sent.clone()
        .arrived("reader", 1, "a", 2)
        .breaks(&[ContentIsKept]);
    sent.clone()
        .arrived("reader", 5, "a", 1)
        .breaks(&[ContentIsKept]);
    let other = sent.arrives("reader", 1, "a", 1, false, 8);
    other.breaks(&[ContentIsKept]);
}

#[test]
fn nothing_is_refused() {
    let client = "writer".to_owned();
    let refused = Story::default().sent(1, "a", 1).and(What::Refused {
        client,
        message: 1,
        reason: 0x97,
    });
    refused.breaks(&[NothingIsRefused]);
}

#[test]
fn a_session_is_present_after_something_was_acknowledged_to_it() {
    let new = Story::default().connected("reader", false).killed();
    new.connected("reader", false).breaks_nothing();
    let known = reader("a", 1).killed();
    known.clone().connected("reader", true).breaks_nothing();
    known.connected("reader", false).breaks(&[SessionIsPresent]);
    let writer = Story::default().connected("writer", false);
    let writer = writer.sent(1, "a", 2).acked(1).killed();
    writer
        .connected("writer", false)
        .breaks(&[SessionIsPresent]);
}

#[test]
fn the_retained_message_is_the_last_acknowledged_or_a_later_one() {
    let first = Story::default().retains(1, 10);
    first.clone().looked(&[]).breaks_nothing();
    first.clone().looked(&[1]).breaks_nothing();
    let both = first.acked(1).retains(2, 10);
    both.clone().looked(&[1]).breaks_nothing();
    both.clone().looked(&[2]).breaks_nothing();
    both.clone().looked(&[]).breaks(&[RetainedIsLast]);
    let acked = both.acked(2);
    acked.clone().looked(&[2]).breaks_nothing();
    acked.clone().looked(&[1]).breaks(&[RetainedIsLast]);
    // One that is sent only after the look.
    acked.looked(&[3]).retains(3, 10).breaks(&[RetainedIsLast]);
}

#[test]
fn a_retained_message_that_was_removed_is_gone() {
    let removed = Story::default().retains(1, 10).acked(1).retains(2, 0);
    removed.clone().looked(&[1]).breaks_nothing();
    removed.clone().looked(&[]).breaks_nothing();
    let acked = removed.acked(2);
    acked.clone().looked(&[]).breaks_nothing();
    acked.looked(&[1]).breaks(&[RetainedIsLast]);
}

#[test]
fn a_shared_group_receives_each_message_and_qos_2_once() {
    let group = |qos| {
        let members = Story::default().subscribed("one", "$share/g/a", qos);
        members
            .subscribed("two", "$share/g/a", qos)
            .sent(1, "a", qos)
    };
    group(1).breaks_nothing();
    group(1).acked(1).breaks(&[SharedOnce]);
    let once = |qos| group(qos).acked(1).arrived("two", 1, "a", qos);
    once(1).breaks_nothing();
    once(1).arrived("one", 1, "a", 1).breaks_nothing();
    once(2).breaks_nothing();
    once(2).arrived("one", 1, "a", 2).breaks(&[SharedOnce]);
}

#[test]
fn the_will_of_a_client_that_a_crash_cut_off_arrives() {
    let doomed = reader("will", 1).willed(2).connected("doomed", false);
    // Nothing was acknowledged to it yet.
    doomed.clone().killed().breaks_nothing();
    let armed = doomed.subscribed("doomed", "none", 1);
    armed.breaks_nothing();
    let cut_off = armed.killed();
    cut_off.breaks(&[WillArrives]);
    cut_off
        .clone()
        .later(2)
        .arrived("reader", 9, "will", 1)
        .breaks_nothing();
    // It came back.
    cut_off.connected("doomed", true).breaks_nothing();
}

#[test]
fn the_will_of_a_client_that_came_back_in_time_does_not_arrive() {
    let armed = |delay| {
        let doomed = reader("will", 1).willed(delay).connected("doomed", false);
        doomed.subscribed("doomed", "none", 1)
    };
    let came_back = |delay| armed(delay).killed().later(1).connected("doomed", true);
    let will = |story: Story| story.arrived("reader", 9, "will", 1);
    will(came_back(600)).breaks(&[WillIsSpared]);
    will(came_back(0)).breaks_nothing();
    will(came_back(1)).breaks_nothing();
    // Nothing has cut it off.
    will(armed(0)).breaks(&[WillIsSpared]);
}

#[test]
fn a_violation_is_told_with_the_history_of_its_message() {
    let story = reader("a", 1).sent(1, "a", 1).sent(2, "a", 1).acked(1);
    let story = story.killed().connected("reader", true).acked(2);
    let story = story.killed().arrived("reader", 2, "a", 1);
    let found = check(&story.0, Stage::End);
    let [lost] = found.as_slice() else {
        panic!("{found:#?}");
    };
    assert_eq!((lost.rule, lost.message), (NothingIsLost, Some(1)));
    assert_eq!(round(&story.0, lost.at), 1);
    let told = history(&story.0, lost);
    let lines: Vec<&str> = told
        .lines()
        .map(|line| &line[line.find("s  ").unwrap() + 3..])
        .collect();
    let expected = [
        "reader: SUBACK for [(\"a\", 1)]",
        "writer: sent 1 to a, QoS 1, retain 0, 10 bytes",
        "writer: 1 acknowledged",
        "gateway killed",
        "gateway ready",
        "reader: connected, session present 1",
        "gateway killed",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn events_are_read_as_the_clients_write_them() {
    let line = r#"{"at": 5, "what": "arrived", "client": "r", "message": null, "topic": "a", "qos": 1,
        "dup": false, "retain": false, "size": 0, "sum": 0}"#;
    let event: Event = serde_json::from_str(line).unwrap();
    assert_eq!((event.at, event.what.client()), (5, Some("r")));
    let line = r#"{"at": 6, "what": "subscribed", "client": "r", "filters": [["a", 1]]}"#;
    let event: Event = serde_json::from_str(line).unwrap();
    assert!(matches!(event.what, What::Subscribed { filters, .. } if filters[0].1 == 1));
}
