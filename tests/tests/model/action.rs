//! What a walk does, and how it is chosen.

use proptest::collection::vec;
use proptest::prelude::*;

/// How many clients there are, besides the one that watches.
pub(crate) const CLIENTS: usize = 5;

/// One step. Where it has no sense at the moment, it is left out.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Connect {
        client: usize,
        clean: bool,
        lasting: bool,
        receive_maximum: Option<u16>,
        alias_maximum: u16,
        will: Option<Will>,
        over_websocket: bool,
    },
    Subscribe {
        client: usize,
        filters: Vec<Filter>,
        identifier: Option<u32>,
    },
    Unsubscribe {
        client: usize,
        filters: Vec<&'static str>,
    },
    Publish {
        client: usize,
        topic: &'static str,
        qos: u8,
        retain: bool,
        /// Without payload: with `retain` it removes what is retained.
        empty: bool,
        alias: Option<u16>,
        /// At QoS 2: stop after PUBREC.
        half: bool,
    },
    /// Sends a half QoS 2 publish again.
    PublishAgain { client: usize, which: usize },
    /// Completes a half QoS 2 publish.
    Release { client: usize, which: usize },
    /// One step in the exchange of a message that was received.
    Acknowledge {
        client: usize,
        which: usize,
        refuse: bool,
    },
    /// Every message that was received, to its end.
    AcknowledgeAll { client: usize },
    Disconnect {
        client: usize,
        with_will: bool,
        expiry: Option<u32>,
    },
    /// The connection breaks.
    Break { client: usize },
}

#[derive(Clone, Debug)]
pub(crate) struct Will {
    pub(crate) topic: &'static str,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) filter: &'static str,
    pub(crate) qos: u8,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    pub(crate) retain_handling: u8,
}

/// A list of actions, long enough for states that take several steps. Most walks begin with clients
/// that are there and listen; shrinking takes them away where they do not matter.
pub(crate) fn walk() -> impl Strategy<Value = Vec<Action>> {
    (
        vec(connect(), 0..16),
        vec(subscribe(), 0..12),
        vec(action(), 20..220),
    )
        .prop_map(|(connects, subscribes, actions)| [connects, subscribes, actions].concat())
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => connect(),
        3 => subscribe(),
        1 => (client(), vec(filter_name(), 1..3))
            .prop_map(|(client, filters)| Action::Unsubscribe { client, filters }),
        10 => publish(),
        1 => (client(), any::<usize>())
            .prop_map(|(client, which)| Action::PublishAgain { client, which }),
        2 => (client(), any::<usize>())
            .prop_map(|(client, which)| Action::Release { client, which }),
        4 => (client(), any::<usize>(), prop::bool::weighted(0.1))
            .prop_map(|(client, which, refuse)| Action::Acknowledge { client, which, refuse }),
        2 => client().prop_map(|client| Action::AcknowledgeAll { client }),
        1 => (client(), prop::bool::weighted(0.3), prop::option::weighted(0.3, prop_oneof![Just(0), Just(600)]))
            .prop_map(|(client, with_will, expiry)| Action::Disconnect { client, with_will, expiry }),
        1 => client().prop_map(|client| Action::Break { client }),
    ]
}

fn client() -> impl Strategy<Value = usize> {
    0..CLIENTS
}

fn topic() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "a/b", "a/b/c", "b", "b/b", "$c"])
}

fn filter_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "#", "+", "a", "a/#", "+/b", "a/b", "a/+/c", "b/#", "$c",
    ])
}

fn connect() -> impl Strategy<Value = Action> {
    let will = (topic(), 0..=2_u8, any::<bool>()).prop_map(|(topic, qos, retain)| Will {
        topic,
        qos,
        retain,
    });
    (
        client(),
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.8),
        prop::option::weighted(0.6, 1..6_u16),
        0..4_u16,
        prop::option::weighted(0.6, will),
        any::<bool>(),
    )
        .prop_map(
            |(client, clean, lasting, receive_maximum, alias_maximum, will, over_websocket)| {
                Action::Connect {
                    client,
                    clean,
                    lasting,
                    receive_maximum,
                    alias_maximum,
                    will,
                    over_websocket,
                }
            },
        )
}

fn subscribe() -> impl Strategy<Value = Action> {
    let filter = (
        filter_name(),
        0..=2_u8,
        any::<bool>(),
        any::<bool>(),
        0..=2_u8,
    )
        .prop_map(
            |(filter, qos, no_local, retain_as_published, retain_handling)| Filter {
                filter,
                qos,
                no_local,
                retain_as_published,
                retain_handling,
            },
        );
    (client(), vec(filter, 1..4), prop::option::of(1..4_u32)).prop_map(
        |(client, filters, identifier)| Action::Subscribe {
            client,
            filters,
            identifier,
        },
    )
}

fn publish() -> impl Strategy<Value = Action> {
    (
        client(),
        topic(),
        0..=2_u8,
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.2),
        prop::option::weighted(0.2, 1..4_u16),
        prop::bool::weighted(0.4),
    )
        .prop_map(
            |(client, topic, qos, retain, empty, alias, half)| Action::Publish {
                client,
                topic,
                qos,
                retain,
                empty,
                alias,
                half,
            },
        )
}
