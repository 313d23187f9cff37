//! Whether a count has grown too much.

use std::collections::BTreeSet;

use super::baseline::Counts;

/// How much a count may grow without the baseline being renewed.
pub(super) const LIMIT_PERCENT: f64 = 10.0;

/// One case, and what there is to say about it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) case: String,
    pub(super) baseline: Option<f64>,
    /// Counted in this run at the commit before.
    pub(super) parent: Option<f64>,
    pub(super) now: Option<f64>,
    /// What `now` is held against, when there is such a count.
    before: Option<f64>,
    pub(super) verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Held,
    /// Below what it was by more than the limit.
    Shrunk,
    Grown,
    /// Grown, and the baseline was renewed in the same change.
    Accepted,
    /// The commit before does not have it.
    New,
    /// The baseline does not have it.
    Unrecorded,
    /// The baseline has it, and it is not counted any more.
    Gone,
}

impl Verdict {
    pub(super) const fn fails(self) -> bool {
        matches!(self, Self::Grown | Self::Unrecorded | Self::Gone)
    }

    pub(super) const fn in_words(self) -> &'static str {
        match self {
            Self::Held => "",
            Self::Shrunk => "less: renew the baseline, so that this is held",
            Self::Grown => "GROWN",
            Self::Accepted => "grown; the baseline is renewed",
            Self::New => "new",
            Self::Unrecorded => "NOT IN THE BASELINE",
            Self::Gone => "IN THE BASELINE ONLY",
        }
    }
}

impl Row {
    /// In per cent.
    pub(super) fn change(&self) -> Option<f64> {
        let (before, now) = (self.before?, self.now?);
        (before > 0.0).then(|| (now - before) * 100.0 / before)
    }
}

/// Holds what was counted `now` against the commit before, where `parent` was counted in this run,
/// otherwise against the baseline. `renewed`: the baseline is another one than at that commit.
pub(super) fn compare(
    baseline: Option<&Counts>,
    parent: Option<&Counts>,
    now: &Counts,
    renewed: bool,
) -> Vec<Row> {
    let none = Counts::new();
    let recorded = baseline.unwrap_or(&none);
    let cases: BTreeSet<&String> = recorded.keys().chain(now.keys()).collect();
    let rows = cases.into_iter().map(|case| {
        let mut row = Row {
            case: case.clone(),
            baseline: recorded.get(case).copied(),
            parent: parent.and_then(|counts| counts.get(case)).copied(),
            now: now.get(case).copied(),
            before: None,
            verdict: Verdict::Held,
        };
        row.before = if parent.is_some() {
            row.parent
        } else {
            row.baseline
        };
        row.verdict = judge(&row, renewed);
        row
    });
    rows.collect()
}

fn judge(row: &Row, renewed: bool) -> Verdict {
    if row.now.is_none() {
        return Verdict::Gone;
    }
    if row.baseline.is_none() {
        return Verdict::Unrecorded;
    }
    match row.change() {
        None => Verdict::New,
        Some(change) if change > LIMIT_PERCENT && renewed => Verdict::Accepted,
        Some(change) if change > LIMIT_PERCENT => Verdict::Grown,
        // With a baseline that is renewed this is the purpose.
        Some(change) if change < -LIMIT_PERCENT && !renewed => Verdict::Shrunk,
        Some(_) => Verdict::Held,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, f64)]) -> Counts {
        let owned = of.iter().map(|&(case, count)| (case.to_owned(), count));
        owned.collect()
    }

    /// The verdict on the only case.
    fn verdict(
        baseline: &[(&str, f64)],
        parent: Option<&[(&str, f64)]>,
        now: &[(&str, f64)],
        renewed: bool,
    ) -> Verdict {
        let parent = parent.map(counts);
        let rows = compare(
            Some(&counts(baseline)),
            parent.as_ref(),
            &counts(now),
            renewed,
        );
        assert_eq!(rows.len(), 1);
        rows[0].verdict
    }

    #[test]
    fn growth_beyond_the_limit_fails() {
        let at = |now| verdict(&[("a", 1_000.0)], None, &[("a", now)], false);
        assert_eq!(at(1_000.0), Verdict::Held);
        assert_eq!(at(1_100.0), Verdict::Held);
        assert_eq!(at(1_101.0), Verdict::Grown);
        assert_eq!(at(900.0), Verdict::Held);
        assert_eq!(at(899.0), Verdict::Shrunk);
        assert!(Verdict::Grown.fails());
        assert!(!Verdict::Held.fails() && !Verdict::Shrunk.fails());
    }

    #[test]
    fn a_parent_that_was_counted_stands_above_a_baseline_from_elsewhere() {
        let elsewhere = [("a", 10.0)];
        let held = verdict(&elsewhere, Some(&[("a", 100.0)]), &[("a", 105.0)], false);
        assert_eq!(held, Verdict::Held);
        let elsewhere = [("a", 1_000.0)];
        let grown = verdict(&elsewhere, Some(&[("a", 100.0)]), &[("a", 115.0)], false);
        assert_eq!(grown, Verdict::Grown);
    }

    #[test]
    fn growth_passes_where_the_baseline_was_renewed_in_the_same_change() {
        let parent = Some(&[("a", 100.0)][..]);
        let renewed = verdict(&[("a", 150.0)], parent, &[("a", 150.0)], true);
        assert_eq!(renewed, Verdict::Accepted);
        assert!(!renewed.fails());
        let not_renewed = verdict(&[("a", 100.0)], parent, &[("a", 150.0)], false);
        assert!(not_renewed.fails());
    }

    #[test]
    fn a_new_case_has_no_parent_but_a_baseline() {
        let recorded = verdict(&[("a", 5.0)], Some(&[]), &[("a", 5.0)], true);
        assert_eq!(recorded, Verdict::New);
        assert!(!recorded.fails());
        let forgotten = verdict(&[], Some(&[]), &[("a", 5.0)], false);
        assert_eq!(forgotten, Verdict::Unrecorded);
        assert!(forgotten.fails());
    }

    #[test]
    fn without_a_baseline_every_case_is_to_be_recorded() {
        let now = counts(&[("a", 1.0), ("b", 2.0)]);
        let rows = compare(None, None, &now, false);
        assert_eq!(rows.len(), 2);
        assert!(rows.iter().all(|row| row.verdict == Verdict::Unrecorded));
    }

    #[test]
    fn a_case_that_is_not_counted_any_more_leaves_the_baseline_too() {
        let gone = verdict(&[("a", 5.0)], Some(&[("a", 5.0)]), &[], false);
        assert_eq!(gone, Verdict::Gone);
        assert!(gone.fails());
    }

    #[test]
    fn the_change_is_told_in_per_cent_of_what_it_is_held_against() {
        let (baseline, parent) = (counts(&[("a", 50.0)]), counts(&[("a", 200.0)]));
        let now = counts(&[("a", 150.0)]);
        let change = |parent| compare(Some(&baseline), parent, &now, false)[0].change();
        assert_eq!(change(None), Some(200.0));
        assert_eq!(change(Some(&parent)), Some(-25.0));
    }
}
