//! The figures as SVG: grouped bars, and curves. The ground is white, so that the plots read on a
//! dark page as well.

use std::fmt::Write;

use crate::report::{self, Row, Unit};
use crate::scaling::{Curve, Point, Scaling};

const WIDTH: f64 = 960.0;
const MARGIN: f64 = 24.0;
const PANEL_WIDTH_MIN: f64 = 124.0;
const PANEL_GAP: f64 = 20.0;
/// A bar with the room around it: its figure must fit above.
const BAR_WIDTH: f64 = 31.0;
const SLOT_WIDTH_MAX: f64 = 36.0;
const INK: &str = "#1f2328";
const FAINT: &str = "#d0d7de";
const MUTED: &str = "#57606a";
/// Colours that people tell apart whatever their colour vision (Okabe and Ito, 2008).
const COLOURS: [(&str, &str); 6] = [
    ("Tickr", "#d55e00"),
    ("Tickr, strict", "#e69f00"),
    ("nginx", "#0072b2"),
    ("Redis", "#cc79a7"),
    ("static reply", "#009e73"),
    ("bare UPDATE", "#999999"),
];

/// Rows that share a scale.
struct Panel {
    title: &'static str,
    hint: &'static str,
    works: &'static [&'static str],
}

const PANELS: [Panel; 5] = [
    Panel {
        title: "Singles",
        hint: "more is better",
        works: &[
            "singles, 1 client",
            "singles, 64 clients",
            "singles, 256 clients",
            "singles, 64 clients, strict",
        ],
    },
    Panel {
        title: "Pipelined",
        hint: "more is better",
        works: &["singles, 64 clients, 16 deep"],
    },
    Panel {
        title: "Batches of 100k",
        hint: "more is better",
        works: &["batches of 100000, 8 clients"],
    },
    Panel {
        title: "One client",
        hint: "less is better",
        works: &["singles, 1 client, strict, median"],
    },
    Panel {
        title: "Processor time",
        hint: "less is better",
        works: &["processor time a single, 64 clients"],
    },
];

/// The bars of one piece of work.
struct Group<'a> {
    label: Vec<&'a str>,
    unit: Unit,
    bars: Vec<Bar<'a>>,
}

struct Bar<'a> {
    name: &'a str,
    figures: &'a [f64],
}

impl Group<'_> {
    /// Its width in bars, with half a bar of room on either side.
    fn slots(&self) -> f64 {
        self.bars.len() as f64 + 1.0
    }
}

/// Grouped bars: medians, with a line from the lowest to the highest run.
pub(crate) fn bars(rows: &[Row], caption: &str) -> String {
    let panels: Vec<(&Panel, Vec<Group<'_>>)> = PANELS
        .iter()
        .map(|panel| (panel, groups(rows, panel.works)))
        .filter(|(_, groups)| !groups.is_empty())
        .collect();
    let slots = |groups: &[Group<'_>]| groups.iter().map(Group::slots).sum::<f64>();
    let wide: Vec<f64> = panels.iter().map(|(_, groups)| slots(groups)).collect();
    // A panel is as wide as its bars need, and wide enough for its title.
    let narrow = |&slots: &f64| slots * BAR_WIDTH < PANEL_WIDTH_MIN;
    let narrow_count = wide.iter().filter(|slots| narrow(slots)).count() as f64;
    let gaps = PANEL_GAP * (panels.len() as f64 - 1.0);
    let left = WIDTH - 2.0 * MARGIN - gaps - narrow_count * PANEL_WIDTH_MIN;
    let shared: f64 = wide.iter().filter(|slots| !narrow(slots)).sum();
    let mut svg = Svg::new(400.0, "Tickr beside nginx, Redis and others");
    svg.legend(panels.iter().flat_map(|(_, groups)| {
        let bars = groups.iter().flat_map(|group| &group.bars);
        bars.map(|bar| bar.name)
    }));
    let mut x = MARGIN;
    for ((panel, groups), slots) in panels.iter().zip(&wide) {
        let width = match narrow(slots) {
            true => PANEL_WIDTH_MIN,
            false => left * slots / shared,
        };
        panel.draw(&mut svg, groups, x, width);
        x += width + PANEL_GAP;
    }
    svg.finish(caption)
}

impl Panel {
    fn draw(&self, svg: &mut Svg, groups: &[Group<'_>], left: f64, width: f64) {
        let (top, bottom) = (116.0, 330.0);
        let figures = || {
            let bars = groups.iter().flat_map(|group| &group.bars);
            bars.flat_map(|bar| bar.figures.iter().copied())
        };
        let Some((_, highest)) = range(figures()) else {
            return;
        };
        let slots: f64 = groups.iter().map(Group::slots).sum();
        let slot = (width / slots).min(SLOT_WIDTH_MAX);
        let scale = groups[0].unit.scale(highest);
        let hint = format!("{}, {}", scale.name, self.hint);
        svg.text(left, top - 44.0, "start", 14.0, INK, self.title);
        svg.text(left, top - 27.0, "start", 11.0, MUTED, &hint);
        svg.line((left, bottom), (left + width, bottom), MUTED, 1.0);
        let y = |figure: f64| bottom - (bottom - top) * figure / highest;
        let mut x = left + (width - slots * slot) / 2.0;
        for group in groups {
            let middle = x + group.slots() * slot / 2.0;
            for (line, label) in group.label.iter().enumerate() {
                let below = bottom + 16.0 + 13.0 * line as f64;
                svg.text(middle, below, "middle", 11.0, INK, label);
            }
            x += slot / 2.0;
            for bar in &group.bars {
                let centre = x + slot / 2.0;
                let median = report::median(bar.figures.iter().copied());
                let size = (slot - 3.0, bottom - y(median));
                svg.bar((x + 1.5, y(median)), size, colour(bar.name));
                let runs = range(bar.figures.iter().copied());
                let (low, high) = runs.unwrap_or((median, median));
                svg.line((centre, y(low)), (centre, y(high)), INK, 1.0);
                let value = scale.show(median);
                svg.text(centre, y(high) - 5.0, "middle", 10.0, INK, &value);
                x += slot;
            }
            x += slot / 2.0;
        }
    }
}

/// The groups of a panel; rows of the same work stand side by side.
fn groups<'a>(rows: &'a [Row], works: &[&str]) -> Vec<Group<'a>> {
    let group = |work: &&str| {
        let mut rows = rows.iter().filter(|row| row.work == *work).peekable();
        let first = rows.peek()?;
        let mut bars = vec![Bar {
            name: "Tickr",
            figures: &first.tickr,
        }];
        let (label, unit) = (first.work.split(", ").skip(1).collect(), first.unit);
        bars.extend(rows.filter_map(|row| {
            let (name, figures) = row.peer.as_ref()?;
            Some(Bar {
                name: kind(name),
                figures,
            })
        }));
        Some(Group { label, unit, bars })
    };
    works.iter().filter_map(group).collect()
}

/// Four plots: rate and median time, against clients and against batch size.
pub(crate) fn curves(scaling: &Scaling, caption: &str) -> String {
    let height = 640.0;
    let mut svg = Svg::new(height, "How cost grows");
    svg.legend(scaling.clients.iter().map(|curve| curve.name));
    let rate = |point: &Point| point.figures.rate;
    let tickets = |point: &Point| point.figures.rate * point.size;
    let milliseconds = |point: &Point| point.figures.median_seconds * 1e3;
    let plot = |title, below, top, left, logarithmic| Plot {
        title,
        below,
        left,
        top,
        logarithmic,
    };
    let right = WIDTH / 2.0 + MARGIN;
    let clients = "clients";
    let size = "tickets in a batch, 8 clients";
    plot("singles a second", clients, 96.0, MARGIN, false).draw(&mut svg, &scaling.clients, &rate);
    plot("median, ms", clients, 96.0, right, true).draw(&mut svg, &scaling.clients, &milliseconds);
    plot("tickets a second", size, 366.0, MARGIN, true).draw(&mut svg, &scaling.batches, &tickets);
    plot("median, ms", size, 366.0, right, true).draw(&mut svg, &scaling.batches, &milliseconds);
    svg.finish(caption)
}

/// One coordinate system; its horizontal axis is logarithmic.
struct Plot {
    title: &'static str,
    below: &'static str,
    left: f64,
    top: f64,
    /// The vertical axis is logarithmic too.
    logarithmic: bool,
}

impl Plot {
    fn draw(&self, svg: &mut Svg, curves: &[Curve], value: &dyn Fn(&Point) -> f64) {
        let (left, top) = (self.left + 44.0, self.top);
        let (width, height) = (WIDTH / 2.0 - 2.0 * MARGIN - 56.0, 190.0);
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let Some((x_low, x_high)) = range(points().map(|point| point.size)) else {
            return;
        };
        let Some((y_low, y_high)) = range(points().map(value)) else {
            return;
        };
        let ticks = match self.logarithmic {
            true => decades(y_low, y_high),
            false => steps(y_high),
        };
        let (Some(&low), Some(&high)) = (ticks.first(), ticks.last()) else {
            return;
        };
        let share = |value: f64, low: f64, high: f64| match low < high {
            true => (value - low) / (high - low),
            false => 0.5,
        };
        let x = |size: f64| left + width * share(size.ln(), x_low.ln(), x_high.ln());
        let y = |value: f64| match self.logarithmic {
            true => top + height * (1.0 - share(value.ln(), low.ln(), high.ln())),
            false => top + height * (1.0 - share(value, low, high)),
        };
        svg.text(self.left, top - 14.0, "start", 13.0, INK, self.title);
        for &tick in &ticks {
            svg.line((left, y(tick)), (left + width, y(tick)), FAINT, 1.0);
            svg.text(left - 6.0, y(tick) + 4.0, "end", 10.0, MUTED, &short(tick));
        }
        for point in curves.first().map_or(&[][..], |curve| &curve.points) {
            let label = short(point.size);
            svg.text(
                x(point.size),
                top + height + 16.0,
                "middle",
                10.0,
                MUTED,
                &label,
            );
        }
        let middle = left + width / 2.0;
        svg.text(middle, top + height + 32.0, "middle", 11.0, INK, self.below);
        for curve in curves {
            let path: Vec<(f64, f64)> = curve
                .points
                .iter()
                .map(|point| (x(point.size), y(value(point))))
                .collect();
            svg.curve(&path, colour(curve.name));
        }
    }
}

/// The powers of ten around two numbers.
fn decades(low: f64, high: f64) -> Vec<f64> {
    let first = low.log10().floor() as i32;
    let last = (high.log10().ceil() as i32).max(first + 1);
    (first..=last).map(|power| 10_f64.powi(power)).collect()
}

/// Round steps from 0 to just above a number.
fn steps(high: f64) -> Vec<f64> {
    let power = 10_f64.powf(high.log10().floor());
    let step = [0.2, 0.5, 1.0, 2.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| high / step <= 6.0)
        .unwrap_or(2.0 * power);
    let count = (high / step).ceil() as i32;
    (0..=count).map(|index| f64::from(index) * step).collect()
}

/// The lowest and the highest of some numbers above 0.
fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let positive = values.filter(|value| *value > 0.0);
    positive.fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((low.min(value), high.max(value))),
    })
}

fn short(number: f64) -> String {
    match number {
        n if n >= 1e9 => format!("{}G", n / 1e9),
        n if n >= 1e6 => format!("{}M", n / 1e6),
        n if n >= 1e4 => format!("{}k", n / 1e3),
        n => format!("{}", (n * 1e6).round() / 1e6),
    }
}

/// The name without what is in parentheses.
fn kind(name: &str) -> &str {
    name.split(" (").next().unwrap_or(name)
}

fn colour(name: &str) -> &'static str {
    let known = COLOURS.iter().find(|(known, _)| *known == name);
    known.map_or(MUTED, |(_, colour)| colour)
}

/// A drawing that grows.
struct Svg {
    text: String,
    height: f64,
}

impl Svg {
    fn new(height: f64, title: &str) -> Svg {
        let text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             width=\"{WIDTH}\" height=\"{height}\" role=\"img\" font-family=\"system-ui, \
             'Helvetica Neue', Arial, sans-serif\">\n<title>{}</title>\n\
             <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#ffffff\"/>\n",
            escape(title)
        );
        let mut svg = Svg { text, height };
        svg.text(MARGIN, 30.0, "start", 16.0, INK, title);
        svg
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a `String` cannot fail.
        let _ = self.text.write_fmt(element);
        self.text.push('\n');
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, size: f64, fill: &str, text: &str) {
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" \
             fill=\"{fill}\">{}</text>",
            escape(text)
        ));
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: &str, width: f64) {
        self.push(format_args!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{stroke}\" \
             stroke-width=\"{width}\"/>",
            from.0, from.1, to.0, to.1
        ));
    }

    fn bar(&mut self, corner: (f64, f64), size: (f64, f64), fill: &str) {
        self.push(format_args!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{fill}\"/>",
            corner.0, corner.1, size.0, size.1
        ));
    }

    fn curve(&mut self, points: &[(f64, f64)], stroke: &str) {
        let path: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        self.push(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{stroke}\" stroke-width=\"2\"/>",
            path.join(" ")
        ));
        for (x, y) in points {
            self.push(format_args!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{stroke}\"/>"
            ));
        }
    }

    /// One entry for each name, in the order of the colours.
    fn legend<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let used: Vec<&str> = names.collect();
        let mut x = WIDTH - MARGIN;
        for (name, fill) in COLOURS.iter().rev() {
            if used.contains(name) {
                // Wide enough for the letters of any font.
                x -= 6.8 * name.len() as f64 + 16.0;
                self.bar((x, 21.0), (10.0, 10.0), fill);
                self.text(x + 15.0, 30.0, "start", 11.0, INK, name);
                x -= 14.0;
            }
        }
    }

    fn finish(mut self, caption: &str) -> String {
        let y = self.height - 14.0;
        self.text(MARGIN, y, "start", 10.0, MUTED, caption);
        self.text.push_str("</svg>\n");
        self.text
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
