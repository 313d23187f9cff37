//! Matching (MQTT 5.0 section 4.7), in its plainest form.

/// Whether `topic` matches `filter`.
pub fn matches(filter: &str, topic: &str) -> bool {
    // MQTT-4.7.2-1.
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    levels(&filter, &topic)
}

fn levels(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        // `#` stands for its parent, too (section 4.7.1.2).
        (["#"], _) | ([], []) => true,
        (["+", filter @ ..], [_, topic @ ..]) => levels(filter, topic),
        ([level, filter @ ..], [name, topic @ ..]) if level == name => levels(filter, topic),
        _ => false,
    }
}
