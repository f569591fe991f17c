//! Line charts as SVG, beside each other and with one legend. The colours are Okabe and Ito's, which
//! the colour-blind tell apart; markers and dashes differ as well.

use std::fmt::Write as _;

pub struct Plot {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub lines: Vec<Line>,
}

pub struct Axis {
    pub label: &'static str,
    /// Places that are marked; the first and the last are the ends.
    pub ticks: Vec<f64>,
    pub is_log: bool,
}

pub struct Line {
    pub name: &'static str,
    pub points: Vec<(f64, f64)>,
}

/// A name looks the same in every plot.
struct Look {
    colour: &'static str,
    dashes: &'static str,
    marker: Marker,
    width: f64,
}

#[derive(Clone, Copy)]
enum Marker {
    None,
    Disc,
    Square,
    Diamond,
    Up,
    Down,
    Ring,
}

fn look(name: &str) -> Look {
    let (colour, dashes, marker, width) = match name {
        "larder" => ("#D55E00", "", Marker::Disc, 2.6),
        "quick_cache" => ("#0072B2", "", Marker::Square, 1.5),
        "moka" => ("#009E73", "", Marker::Diamond, 1.5),
        "scc" => ("#CC79A7", "", Marker::Up, 1.5),
        "tinyufo" => ("#E69F00", "", Marker::Down, 1.5),
        "papaya" => ("#56B4E9", "5 3", Marker::Ring, 1.5),
        "jitter 0.1" => ("#D55E00", "", Marker::None, 2.6),
        "jitter 0" => ("#0072B2", "4 2", Marker::None, 1.5),
        "LRU" => ("#777777", "2 3", Marker::None, 1.8),
        _ => ("#000000", "6 3", Marker::None, 1.5),
    };
    Look { colour, dashes, marker, width }
}

impl Axis {
    /// From about zero to above the most, at round places.
    pub fn up_to(label: &'static str, most: f64) -> Self {
        let magnitude = 10f64.powf((most / 4.0).log10().floor());
        let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * magnitude);
        let step = steps.into_iter().find(|step| step * 5.0 >= most).unwrap_or(most);
        let ticks = (0..=(most / step).ceil() as u32).map(|n| f64::from(n) * step).collect();
        Self { label, ticks, is_log: false }
    }

    pub fn log(label: &'static str, ticks: Vec<f64>) -> Self {
        Self { label, ticks, is_log: true }
    }

    /// From 0.0 to 1.0 along the axis.
    fn place(&self, value: f64) -> f64 {
        let scale = |v: f64| if self.is_log { v.ln() } else { v };
        let ends = [self.ticks.first(), self.ticks.last()].map(|end| scale(*end.unwrap_or(&1.0)));
        (scale(value) - ends[0]) / (ends[1] - ends[0])
    }
}

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 290.0;
/// Left, top, right and bottom of a chart, for what stands around it.
const AROUND: [f64; 4] = [46.0, 56.0, 14.0, 44.0];

/// The charts, in a row.
pub fn svg(plots: &[Plot]) -> String {
    let (width, mut out) = (WIDTH * plots.len() as f64, String::new());
    let _ = writeln!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" font-family="Helvetica, Arial, sans-serif" font-size="12" fill="#222">
<rect width="{width}" height="{HEIGHT}" fill="#fff"/>"##
    );
    legend(&mut out, plots);
    for (n, plot) in (0u32..).zip(plots) {
        let _ = writeln!(out, r#"<g transform="translate({} 0)">"#, f64::from(n) * WIDTH);
        chart(&mut out, plot);
        out.push_str("</g>\n");
    }
    out + "</svg>\n"
}

fn legend(out: &mut String, plots: &[Plot]) {
    let mut names = Vec::new();
    for line in plots.iter().flat_map(|plot| &plot.lines) {
        if !names.contains(&line.name) {
            names.push(line.name);
        }
    }
    let mut x = AROUND[0];
    for name in names {
        draw(out, &look(name), &[(x, 16.0), (x + 14.0, 16.0), (x + 28.0, 16.0)], 1);
        let _ = writeln!(out, r#"<text x="{}" y="20">{name}</text>"#, x + 34.0);
        x += 52.0 + 6.6 * name.len() as f64;
    }
}

/// A line, with markers at each point of `every`.
fn draw(out: &mut String, look: &Look, points: &[(f64, f64)], only: usize) {
    let Look { colour, dashes, marker, width } = look;
    let path: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        out,
        r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dashes}" stroke-linejoin="round"/>"#,
        path.join(" ")
    );
    let marked = points.iter().enumerate().filter(|(i, _)| only == usize::MAX || *i == only);
    for (_, (x, y)) in marked {
        let shape = |points: &[(f64, f64)]| {
            let points: Vec<_> =
                points.iter().map(|(dx, dy)| format!("{:.1},{:.1}", x + dx, y + dy)).collect();
            format!(r#"<polygon points="{}" fill="{colour}"/>"#, points.join(" "))
        };
        let _ = match marker {
            Marker::None => continue,
            Marker::Disc => {
                writeln!(out, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3.6" fill="{colour}"/>"#)
            }
            Marker::Ring => writeln!(
                out,
                r##"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="#fff" stroke="{colour}" stroke-width="1.5"/>"##
            ),
            Marker::Square => {
                writeln!(out, "{}", shape(&[(-3., -3.), (3., -3.), (3., 3.), (-3., 3.)]))
            }
            Marker::Diamond => {
                writeln!(out, "{}", shape(&[(0., -4.2), (4.2, 0.), (0., 4.2), (-4.2, 0.)]))
            }
            Marker::Up => writeln!(out, "{}", shape(&[(0., -4.), (3.8, 3.), (-3.8, 3.)])),
            Marker::Down => writeln!(out, "{}", shape(&[(0., 4.), (3.8, -3.), (-3.8, -3.)])),
        };
    }
}

fn chart(out: &mut String, plot: &Plot) {
    let [left, top, right, bottom] = AROUND;
    let (right, bottom) = (WIDTH - right, HEIGHT - bottom);
    let x = |value| left + plot.x.place(value) * (right - left);
    let y = |value| bottom - plot.y.place(value) * (bottom - top);
    let middle = f64::midpoint(left, right);
    let _ = writeln!(
        out,
        r#"<text x="{left}" y="{}" font-weight="bold">{}</text>"#,
        top - 12.0,
        plot.title
    );
    for tick in &plot.y.ticks {
        let y = y(*tick);
        let _ = writeln!(
            out,
            r##"<line x1="{left}" y1="{y:.1}" x2="{right}" y2="{y:.1}" stroke="#ddd"/><text x="{}" y="{:.1}" text-anchor="end">{}</text>"##,
            left - 5.0,
            y + 4.0,
            short(*tick)
        );
    }
    for tick in &plot.x.ticks {
        let x = x(*tick);
        let _ = writeln!(
            out,
            r##"<line x1="{x:.1}" y1="{bottom}" x2="{x:.1}" y2="{}" stroke="#222"/><text x="{x:.1}" y="{}" text-anchor="middle">{}</text>"##,
            bottom + 4.0,
            bottom + 17.0,
            short(*tick)
        );
    }
    let _ = writeln!(
        out,
        r##"<line x1="{left}" y1="{bottom}" x2="{right}" y2="{bottom}" stroke="#222"/>
<text x="{middle}" y="{}" text-anchor="middle">{}</text>
<text transform="translate(13 {}) rotate(-90)" text-anchor="middle">{}</text>"##,
        HEIGHT - 8.0,
        plot.x.label,
        f64::midpoint(top, bottom),
        plot.y.label
    );
    // the first line is drawn last: it is what the chart is about
    for line in plot.lines.iter().rev() {
        let points: Vec<_> = line.points.iter().map(|(px, py)| (x(*px), y(*py))).collect();
        draw(out, &look(line.name), &points, usize::MAX);
    }
}

/// A number as it is written beside an axis.
fn short(value: f64) -> String {
    if value >= 1e6 {
        format!("{}M", value / 1e6)
    } else if value >= 1e3 {
        format!("{}k", value / 1e3)
    } else {
        format!("{value}")
    }
}

#[cfg(test)]
mod tests {
    use super::Axis;

    #[test]
    fn an_axis_ends_at_or_above_the_most() {
        for most in [0.3, 1.0, 7.0, 46.0, 99.9, 100.0, 1234.0] {
            let axis = Axis::up_to("", most);
            assert!(*axis.ticks.last().unwrap() >= most, "{most}: {:?}", axis.ticks);
            assert!((3..=7).contains(&axis.ticks.len()), "{most}: {:?}", axis.ticks);
        }
    }
}
