//! What subscribers and idle connections subscribe to.

use super::publisher::topic_name;
use crate::order::{Shape, Traffic};

/// The most idle filters of one connection.
pub(super) const ON_ONE: u32 = 100;

/// The filter of a subscriber: the topic itself where there is only one, otherwise a wildcard.
pub(super) fn of_subscriber(traffic: &Traffic, number: u32) -> String {
    match (traffic.shape, traffic.publishers, traffic.topics) {
        (Shape::Pairs, _, 1) => topic_name(number, 0),
        (Shape::Pairs, ..) => format!("bench/{number}/+"),
        (Shape::All, 1, 1) => topic_name(0, 0),
        (Shape::All, ..) => "bench/#".to_owned(),
        (Shape::Shared, ..) => "$share/bench/bench/#".to_owned(),
    }
}

/// The filters that match nothing of the traffic, by connection. A topic is `bench/PUBLISHER/TOPIC`, and
/// the filters are of three kinds, in turn:
///
/// - `idle/17/+/state`: not below the traffic's first level; looking up that level rules it out.
/// - `bench/+/never/17/#`: followed to the second level, and ruled out at the third.
/// - `+/3/+/17/#`: followed to the topic's end, which comes one level too early.
///
/// A broker that looks at every filter for every message pays for all of them.
pub(super) fn idle(traffic: &Traffic) -> Vec<Vec<String>> {
    let filter = |number: u32| match number % 3 {
        0 => format!("idle/{number}/+/state"),
        1 => format!("bench/+/never/{number}/#"),
        _ => format!("+/{}/+/{number}/#", number % traffic.publishers),
    };
    let all: Vec<String> = (0..traffic.idle_filters).map(filter).collect();
    all.chunks(ON_ONE as usize).map(<[_]>::to_vec).collect()
}
