//! Figures as a picture (SVG): a group of bars for each scenario, a bar for each broker, on a
//! logarithmic scale.
//!
//! The picture brings its own background and follows the colour scheme of whoever looks at it.

use std::fmt::{self, Write};

use crate::figure::{grouped, micros, rounds};
use crate::report::{Figures, Report, Spread};

/// What a chart shows.
#[derive(Clone, Copy, Debug)]
pub struct Chart {
    /// The headline.
    title: &'static str,
    /// What it means, in a line.
    note: &'static str,
    /// Of a scenario at a broker.
    figure: fn(&Figures) -> Option<Spread>,
    /// How a figure is written beside its bar.
    form: fn(f64) -> String,
}

impl Chart {
    /// Processor time per delivery.
    pub const CPU: Self = Self {
        title: "Broker CPU per delivery, in microseconds",
        note: "user and system time of the broker's process; shorter is better; logarithmic scale",
        figure: |figures| figures.cpu,
        form: micros,
    };

    /// Deliveries a second.
    pub const RATE: Self = Self {
        title: "Deliveries per second",
        note: "closed loop, load and broker on the same cores; longer is better; logarithmic scale",
        figure: |figures| figures.rate,
        form: grouped,
    };
}

const WIDTH: f64 = 960.0;
/// Where bars begin and where their longest ends.
const LEFT: f64 = 190.0;
const RIGHT: f64 = 870.0;
const TOP: f64 = 96.0;
const BAR: f64 = 13.0;
const GAP: f64 = 14.0;

/// Colours of brokers in the order of the report; each is told apart from its neighbours, and from both
/// backgrounds, also by who sees no red and green.
const COLOURS: [&str; 6] = [
    "#0a84c1", "#e08a00", "#12946c", "#c65f8e", "#8a6fd1", "#7d8590",
];

const STYLE: &str = "\
.paper{fill:#ffffff}.ink{fill:#1f2328}.soft{fill:#59636e}.line{stroke:#d1d9e0}\
@media (prefers-color-scheme: dark){\
.paper{fill:#0d1117}.ink{fill:#e6edf3}.soft{fill:#9198a1}.line{stroke:#30363d}}";

struct Group<'a> {
    name: &'a str,
    /// By broker, as the report has them.
    bars: Vec<Option<f64>>,
}

impl Chart {
    /// The picture of a report; `None` if there is nothing to show.
    #[must_use]
    pub fn render(&self, report: &Report, closed_loop_only: bool) -> Option<String> {
        let groups = self.groups(report, closed_loop_only);
        let figures = || groups.iter().flat_map(|group| group.bars.iter().flatten());
        let smallest = figures().copied().reduce(f64::min)?;
        let largest = figures().copied().reduce(f64::max)?;
        let scale = Scale::around(smallest, largest);
        let mut out = String::new();
        // Writing into a String does not fail.
        self.draw(&mut out, report, &groups, &scale).ok()?;
        Some(out)
    }

    fn groups<'a>(&self, report: &'a Report, closed_loop_only: bool) -> Vec<Group<'a>> {
        let scenarios = report.scenarios.iter().filter(|ran| {
            !closed_loop_only || !matches!(pace(&ran.workload), Some(crate::order::Pace::Rate(_)))
        });
        let groups = scenarios.map(|ran| Group {
            name: &ran.name,
            bars: report
                .brokers
                .iter()
                .map(|broker| {
                    let figures = report.figures(&ran.name, &broker.name)?;
                    let figure = (self.figure)(figures)?.median;
                    (figure > 0.0).then_some(figure)
                })
                .collect(),
        });
        groups
            .filter(|group| group.bars.iter().any(Option::is_some))
            .collect()
    }

    fn draw(
        &self,
        out: &mut String,
        report: &Report,
        groups: &[Group<'_>],
        scale: &Scale,
    ) -> fmt::Result {
        let tall = |group: &Group<'_>| BAR * group.bars.len() as f64 + GAP;
        let bottom = TOP + groups.iter().map(tall).sum::<f64>();
        let height = bottom + 44.0;
        writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" \
             role=\"img\" aria-label=\"{}\">\n<style>{STYLE}</style>\n\
             <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\"/>",
            escaped(self.title)
        )?;
        words(
            out,
            20.0,
            30.0,
            "ink",
            "font-size=\"17\" font-weight=\"600\"",
            self.title,
        )?;
        words(out, 20.0, 50.0, "soft", "", self.note)?;
        legend(out, report)?;
        for tick in scale.ticks() {
            let x = scale.place(tick);
            writeln!(
                out,
                "<line class=\"line\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{bottom:.1}\"/>",
                TOP - 6.0
            )?;
            let label = number(tick);
            words(
                out,
                x,
                bottom + 16.0,
                "soft",
                "text-anchor=\"middle\"",
                &label,
            )?;
        }
        let mut y = TOP;
        for group in groups {
            let middle = y + BAR * group.bars.len() as f64 / 2.0 + 4.0;
            words(
                out,
                LEFT - 12.0,
                middle,
                "ink",
                "text-anchor=\"end\"",
                group.name,
            )?;
            for (index, bar) in group.bars.iter().enumerate() {
                let top = y + BAR * index as f64;
                let (end, label) = match bar {
                    Some(figure) => (scale.place(*figure), (self.form)(*figure)),
                    None => (LEFT, "not measured".to_owned()),
                };
                writeln!(
                    out,
                    "<rect x=\"{LEFT}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" \
                     fill=\"{}\"/>",
                    end - LEFT,
                    BAR - 2.0,
                    colour(index)
                )?;
                words(
                    out,
                    end + 5.0,
                    top + 9.5,
                    "soft",
                    "font-size=\"11\"",
                    &label,
                )?;
            }
            y += tall(group);
        }
        let machine = &report.machine;
        let foot = format!(
            "{}, {} cores, {}; {}; median of {}",
            machine.processor,
            machine.cores,
            machine.kernel,
            report.date.get(..10).unwrap_or_default(),
            rounds(report.settings.rounds)
        );
        words(out, 20.0, height - 10.0, "soft", "font-size=\"11\"", &foot)?;
        writeln!(out, "</svg>")
    }
}

fn legend(out: &mut String, report: &Report) -> fmt::Result {
    let mut x = 20.0;
    for (index, broker) in report.brokers.iter().enumerate() {
        writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"64\" width=\"11\" height=\"11\" fill=\"{}\"/>",
            colour(index)
        )?;
        let name = format!("{} {}", broker.name, broker.version);
        words(out, x + 16.0, 74.0, "ink", "", name.trim_end())?;
        // About the width of the letters: there is no font to ask.
        x += 40.0 + 6.6 * name.chars().count() as f64;
    }
    Ok(())
}

fn words(out: &mut String, x: f64, y: f64, class: &str, more: &str, text: &str) -> fmt::Result {
    let more = if more.is_empty() {
        String::new()
    } else {
        format!(" {more}")
    };
    writeln!(
        out,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\"{more}>{}</text>",
        escaped(text)
    )
}

fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn pace(workload: &crate::order::Workload) -> Option<crate::order::Pace> {
    match workload {
        crate::order::Workload::Traffic(traffic) => Some(traffic.pace),
        _ => None,
    }
}

/// A power of ten as people write it.
fn number(figure: f64) -> String {
    if figure < 1.0 {
        format!("{figure}")
    } else {
        grouped(figure)
    }
}

/// A logarithmic scale.
struct Scale {
    /// Powers of ten, where it begins and where it ends.
    first: f64,
    last: f64,
}

impl Scale {
    fn around(smallest: f64, largest: f64) -> Self {
        // The smallest bar is long enough to be seen, so the scale does not begin with it.
        let first = (smallest.log10() - 0.15).floor();
        Self {
            first,
            last: largest.log10(),
        }
    }

    fn place(&self, figure: f64) -> f64 {
        let part = (figure.log10() - self.first) / (self.last - self.first);
        LEFT + part * (RIGHT - LEFT)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        // Whole numbers, and few.
        (self.first as i32..=self.last.floor() as i32).map(|power| 10f64.powi(power))
    }
}
