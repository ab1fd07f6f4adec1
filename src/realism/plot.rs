//! Plots as SVG: two axes, with lines, bars and dots between them.
//!
//! A writer of our own, because the page takes its colours from the reader's light or dark scheme,
//! and must be readable on a phone: colours are classes of the page's style sheet, and the legend is
//! text of the page, which breaks into lines where it has to.

use std::fmt::Write;

/// A plot with its title and legend.
pub(super) struct Plot {
    pub(super) title: &'static str,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) series: Vec<Series>,
    /// A sentence under these.
    pub(super) note: String,
}

pub(super) struct Axis {
    /// What it measures, with its unit.
    pub(super) label: &'static str,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) logarithmic: bool,
    /// Where it has a mark, and what is written there.
    pub(super) ticks: Vec<(f64, String)>,
}

pub(super) struct Series {
    pub(super) name: String,
    pub(super) mark: Mark,
    /// Class of the style sheet that has its colour.
    pub(super) colour: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Line,
    Dashes,
    Dots,
    /// From the bottom.
    Bars,
}

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 38.0;

impl Axis {
    /// From nothing to a little over the greatest value, with round marks.
    pub(super) fn up_to(label: &'static str, greatest: f64, write: impl Fn(f64) -> String) -> Axis {
        let greatest = if greatest.is_finite() && greatest > 0.0 { greatest } else { 1.0 };
        let rough = greatest / 4.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step =
            [1.0, 2.0, 2.5, 5.0, 10.0].map(|of| of * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let count = (greatest / step).ceil();
        let ticks =
            (0..=count as u32).map(|i| f64::from(i) * step).map(|at| (at, write(at))).collect();
        Axis { label, from: 0.0, to: count * step, logarithmic: false, ticks }
    }

    /// With a mark at each power of ten between two values.
    pub(super) fn powers(
        label: &'static str,
        from: f64,
        to: f64,
        write: impl Fn(f64) -> String,
    ) -> Axis {
        let powers = from.log10().ceil() as i32..=to.log10().floor() as i32;
        let ticks = powers.map(|power| 10_f64.powi(power)).map(|at| (at, write(at))).collect();
        Axis { label, from, to, logarithmic: true, ticks }
    }

    /// With these marks only.
    pub(super) fn marked(
        label: &'static str,
        (from, to): (f64, f64),
        ticks: impl IntoIterator<Item = (f64, String)>,
    ) -> Axis {
        Axis { label, from, to, logarithmic: false, ticks: ticks.into_iter().collect() }
    }

    /// Where a value is: 0 at the beginning, 1 at the end; none where it is not on the axis.
    fn place(&self, value: f64) -> Option<f64> {
        let of = |value: f64| if self.logarithmic { value.ln() } else { value };
        let place = (of(value) - of(self.from)) / (of(self.to) - of(self.from));
        (-1e-9..=1.0 + 1e-9).contains(&place).then_some(place)
    }
}

impl Plot {
    /// As a part of a page.
    pub(super) fn html(&self) -> String {
        let mut html =
            format!("<figure>\n<figcaption>{}</figcaption>\n<p class=legend>", self.title);
        for Series { name, mark, colour, .. } in &self.series {
            let shape = match mark {
                Mark::Line => "<path d='M1 5H17'/>",
                Mark::Dashes => "<path class=dashed d='M1 5H17'/>",
                Mark::Dots => "<circle cx=9 cy=5 r=3.5 />",
                Mark::Bars => "<rect x=4 y=0 width=10 height=10 />",
            };
            _ = writeln!(
                html,
                "<span><svg class='{colour}' width=18 height=10>{shape}</svg> {name}</span>"
            );
        }
        html.push_str("</p>\n");
        if !self.note.is_empty() {
            _ = writeln!(html, "<p class=note>{}</p>", self.note);
        }
        self.svg(&mut html);
        html.push_str("</figure>\n");
        html
    }

    fn x_at(&self, value: f64) -> Option<f64> {
        self.x.place(value).map(|place| LEFT + place * (WIDTH - LEFT - RIGHT))
    }

    fn y_at(&self, value: f64) -> Option<f64> {
        self.y.place(value).map(|place| HEIGHT - BOTTOM - place * (HEIGHT - TOP - BOTTOM))
    }

    fn svg(&self, svg: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        _ = writeln!(
            svg,
            "<svg viewBox='0 0 {WIDTH} {HEIGHT}' role=img aria-label='{}'>\n\
             <text class=label x=2 y=12>{}</text>\n\
             <text class=label x={right} y={} text-anchor=end>{}</text>",
            self.title,
            self.y.label,
            HEIGHT - 5.0,
            self.x.label
        );
        for (value, text) in &self.y.ticks {
            if let Some(y) = self.y_at(*value) {
                _ = writeln!(
                    svg,
                    "<path class=grid d='M{LEFT} {y:.1}H{right}'/>\
                     <text x={} y={:.1} text-anchor=end>{text}</text>",
                    LEFT - 6.0,
                    y + 4.0
                );
            }
        }
        for (value, text) in &self.x.ticks {
            let Some(x) = self.x_at(*value) else { continue };
            // A text must not stand out of the picture.
            let anchor = if x + 4.0 * text.len() as f64 > WIDTH { "end" } else { "middle" };
            _ = writeln!(
                svg,
                "<path class=axis d='M{x:.1} {bottom}v4'/>\
                 <text x={x:.1} y={} text-anchor={anchor}>{text}</text>",
                bottom + 16.0
            );
        }
        _ = writeln!(svg, "<path class=axis d='M{LEFT} {bottom}H{right}'/>");
        for series in &self.series {
            self.draw(series, svg);
        }
        svg.push_str("</svg>\n");
    }

    fn draw(&self, series: &Series, svg: &mut String) {
        let places: Vec<(f64, f64)> = series
            .points
            .iter()
            .filter_map(|(x, y)| Some((self.x_at(*x)?, self.y_at(*y)?)))
            .collect();
        let bottom = HEIGHT - BOTTOM;
        _ = write!(svg, "<g class='{}'>", series.colour);
        match series.mark {
            Mark::Line | Mark::Dashes => {
                let class = if series.mark == Mark::Dashes { " class=dashed" } else { "" };
                let mut path = String::new();
                for (place, (x, y)) in places.iter().enumerate() {
                    _ = write!(path, "{}{x:.1} {y:.1}", if place == 0 { "M" } else { "L" });
                }
                _ = write!(svg, "<path{class} d='{path}'/>");
            }
            Mark::Dots => {
                for (x, y) in places {
                    _ = write!(svg, "<circle cx={x:.1} cy={y:.1} r=3.5 />");
                }
            }
            Mark::Bars => {
                let apart = places.windows(2).map(|two| two[1].0 - two[0].0);
                let width = 0.8 * apart.fold(40.0, f64::min);
                for (x, y) in places {
                    _ = write!(
                        svg,
                        "<rect x={:.1} y={y:.1} width={width:.1} height={:.1} />",
                        x - width / 2.0,
                        bottom - y
                    );
                }
            }
        }
        svg.push_str("</g>\n");
    }
}
