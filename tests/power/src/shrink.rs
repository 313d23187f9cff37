//! The smallest set that still fails.

/// Leaves out of `items` what can be left out while `fails` says that the rest still fails. Asks at most `most` times.
pub fn minimize<T: Clone>(
    mut items: Vec<T>,
    most: usize,
    mut fails: impl FnMut(&[T]) -> bool,
) -> Vec<T> {
    let mut asked = 0;
    let mut parts = 2;
    while !items.is_empty() {
        let size = items.len().div_ceil(parts);
        let mut smaller = None;
        for start in (0..items.len()).step_by(size) {
            if asked == most {
                return items;
            }
            asked += 1;
            let end = (start + size).min(items.len());
            let rest = [&items[..start], &items[end..]].concat();
            if fails(&rest) {
                smaller = Some(rest);
                break;
            }
        }
        match smaller {
            Some(rest) => {
                items = rest;
                parts = (parts - 1).max(2);
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(items.len()),
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_is_left_out() {
        let fails = |items: &[u32]| items.contains(&13) && items.contains(&77);
        assert_eq!(minimize((0..100).collect(), 200, fails), [13, 77]);
        assert_eq!(minimize((0..100).collect(), 200, |_| true), [0; 0]);
    }
}
