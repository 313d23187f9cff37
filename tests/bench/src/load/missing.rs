//! Sequence numbers that were passed over and may still come.

use std::ops::Range;

/// Ranges in ascending order that do not touch.
#[derive(Default)]
pub(super) struct Missing {
    ranges: Vec<Range<u64>>,
}

impl Missing {
    /// Adds numbers above all that are here.
    pub(super) fn add(&mut self, numbers: Range<u64>) {
        if numbers.is_empty() {
            return;
        }
        match self.ranges.last_mut() {
            Some(last) if last.end == numbers.start => last.end = numbers.end,
            _ => self.ranges.push(numbers),
        }
    }

    /// Takes a number out; whether it was here.
    pub(super) fn remove(&mut self, number: u64) -> bool {
        let at = self.ranges.partition_point(|range| range.end <= number);
        let Some(range) = self.ranges.get_mut(at) else {
            return false;
        };
        if !range.contains(&number) {
            return false;
        }
        let after = number + 1..range.end;
        range.end = number;
        let before_is_empty = range.is_empty();
        match (before_is_empty, after.is_empty()) {
            (true, true) => drop(self.ranges.remove(at)),
            (true, false) => self.ranges[at] = after,
            (false, true) => {}
            (false, false) => self.ranges.insert(at + 1, after),
        }
        true
    }

    /// How many there are from `number` on.
    pub(super) fn count_from(&self, number: u64) -> u64 {
        let ranges = self.ranges.iter();
        ranges
            .map(|range| range.end.saturating_sub(range.start.max(number)))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Missing;

    #[test]
    fn numbers_go_out_once_each_in_any_order() {
        let mut missing = Missing::default();
        let mut expected = BTreeSet::new();
        for start in [3, 10, 15, 40] {
            missing.add(start..start + 5);
            expected.extend(start..start + 5);
        }
        // Every seventh of 47 meets each number once, in the middle and at the ends of ranges.
        for step in 0..47 {
            let number = step * 7 % 47;
            for from in 0..50 {
                let count = expected.range(from..).count() as u64;
                assert_eq!(missing.count_from(from), count, "{number}, from {from}");
            }
            assert_eq!(missing.remove(number), expected.remove(&number), "{number}");
            assert!(!missing.remove(number), "{number} went out twice");
        }
        assert_eq!(missing.count_from(0), 0);
        assert!(missing.ranges.is_empty());
    }
}
