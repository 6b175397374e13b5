//! The cost of a packet over the number of flows, as an SVG.

use std::fmt::Write as _;

use super::report::Cell;
use super::targets::{count, family_name, points, upper};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 540.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 230.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 60.0;

/// Where a cell lies in the drawing.
struct Scale {
    decades: f64,
    highest: f64,
}

impl Scale {
    fn x(&self, flows: u64) -> f64 {
        let decade = (flows.max(1) as f64).log10();
        LEFT + decade / self.decades * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, ns: f64) -> f64 {
        HEIGHT - BOTTOM - ns / self.highest * (HEIGHT - TOP - BOTTOM)
    }
}

/// The line that a cell belongs to.
fn series(cell: &Cell) -> String {
    let direction = if cell.method == "nat" { format!(" {}", cell.direction) } else { String::new() };
    let name = cell.name();
    let unusual = name.strip_prefix("forward").unwrap_or_default();
    format!("{}{direction} {} {} {}{unusual}", cell.method, cell.family, cell.protocol, cell.frame)
}

/// Colour and dashes of a line.
fn style(cell: &Cell) -> (&'static str, &'static str) {
    let colour = match (cell.method.as_str(), cell.direction.as_str()) {
        ("dr", _) => "#0060a8",
        ("nat", "request") => "#b03000",
        ("nat", _) => "#e08000",
        _ => "#208040",
    };
    let dashes = match (cell.family.as_str(), cell.protocol.as_str()) {
        ("ipv4", "udp") => "",
        ("ipv4", _) => "7 3",
        (_, "udp") => "2 2",
        _ => "9 3 2 3",
    };
    (colour, dashes)
}

/// Draws all cells of open connections: a line for each kind of traffic, with bars from the least to the most, and the
/// floor below.
#[must_use]
pub fn svg(cells: &[Cell]) -> String {
    let cells: Vec<&Cell> = cells.iter().filter(|cell| cell.kind == "forward").collect();
    let targets = target_lines(&cells);
    let dearest = targets.iter().flat_map(|line| &line.points).map(|(_, ns)| ns * 1.15).fold(10.0, f64::max);
    let most =
        |value: fn(&Cell) -> f64, least: f64| cells.iter().map(|cell| value(cell)).fold(least, f64::max);
    let scale = Scale {
        decades: most(|cell| (cell.flows.max(1) as f64).log10().ceil(), 1.0),
        highest: (most(|cell| cell.ns_per_packet.median * 1.15, dearest) / 10.0).ceil() * 10.0,
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">Nanoseconds for a packet, by open connections</text>\n"
    );
    axes(&mut svg, &scale);
    let mut names: Vec<String> = Vec::new();
    for cell in &cells {
        let name = series(cell);
        if !names.contains(&name) {
            let number = names.len();
            line(&mut svg, &scale, &cells, cell, &name, number);
            names.push(name);
        }
    }
    for (number, line) in (names.len()..).zip(&targets) {
        target(&mut svg, &scale, line, number);
    }
    let floor = cells.iter().map(|cell| cell.floor_ns_per_packet.median).fold(f64::INFINITY, f64::min);
    if floor.is_finite() && floor > 0.0 {
        let y = scale.y(floor);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"black\" stroke-dasharray=\"4 4\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\">floor (macswap) {floor:.1}</text>",
            WIDTH - RIGHT,
            WIDTH - RIGHT + 8.0,
            y + 4.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// What should be reached.
struct TargetLine {
    name: String,
    colour: &'static str,
    points: Vec<(u64, f64)>,
}

/// Targets of the methods and families that are drawn. Methods with the same target share a line.
fn target_lines(cells: &[&Cell]) -> Vec<TargetLine> {
    let mut lines: Vec<TargetLine> = Vec::new();
    for cell in cells {
        let (method, family) = (upper(&cell.method), family_name(&cell.family));
        let points = points(&cell.method, &cell.family);
        match lines.iter_mut().find(|line| line.points == points) {
            Some(line) if line.name.contains(&method) => {}
            Some(line) => line.name.push_str(&format!(", {method}")),
            None if points.is_empty() => {}
            None => {
                let name = format!("target {family} {method}");
                lines.push(TargetLine { name, colour: style(cell).0, points });
            }
        }
    }
    lines
}

/// A target: dots, with a mark where it is set.
fn target(svg: &mut String, scale: &Scale, line: &TargetLine, number: usize) {
    let TargetLine { name, colour, points } = line;
    let drawn = points.iter().filter(|(flows, _)| (*flows as f64).log10() <= scale.decades);
    let places: Vec<_> = drawn.map(|&(flows, ns)| (scale.x(flows), scale.y(ns))).collect();
    let corners: Vec<_> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let (x, y) = (WIDTH - RIGHT + 8.0, TOP + 10.0 + 17.0 * number as f64);
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.2\" stroke-dasharray=\"1 4\"/>\n\
         <text x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
        corners.join(" "),
        x + 32.0,
        y + 4.0
    );
    for (x, y) in places.into_iter().chain([(x + 13.0, y)]) {
        let _ = writeln!(
            svg,
            "<path d=\"M{:.1} {y:.1}h14m-7 -4v8\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>",
            x - 7.0
        );
    }
}

fn axes(svg: &mut String, scale: &Scale) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for decade in 0..=scale.decades as u32 {
        let flows = 10_u64.pow(decade);
        let word = count(flows);
        let x = scale.x(flows);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\n\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{word}</text>",
            bottom + 18.0
        );
    }
    let step = if scale.highest > 200.0 { 50.0 } else { 10.0 };
    let mut ns = 0.0;
    while ns <= scale.highest {
        let y = scale.y(ns);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{ns}</text>",
            LEFT - 8.0,
            y + 4.0
        );
        ns += step;
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">open connections</text>",
        (LEFT + right) / 2.0,
        HEIGHT - 14.0
    );
}

fn line(svg: &mut String, scale: &Scale, cells: &[&Cell], of: &Cell, name: &str, number: usize) {
    let (colour, dashes) = style(of);
    let mut mine: Vec<&&Cell> = cells.iter().filter(|cell| series(cell) == name).collect();
    mine.sort_by_key(|cell| cell.flows);
    let points: Vec<String> = mine
        .iter()
        .map(|cell| format!("{:.1},{:.1}", scale.x(cell.flows), scale.y(cell.ns_per_packet.median)))
        .collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\" stroke-dasharray=\"{dashes}\"/>",
        points.join(" ")
    );
    for cell in mine {
        let x = scale.x(cell.flows);
        let (low, high) =
            (scale.y(cell.ns_per_packet.min), scale.y(cell.ns_per_packet.max.min(scale.highest)));
        let middle = scale.y(cell.ns_per_packet.median);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{low:.1}\" y2=\"{high:.1}\" stroke=\"{colour}\"/>\n\
             <circle cx=\"{x:.1}\" cy=\"{middle:.1}\" r=\"2.5\" fill=\"{colour}\"/>"
        );
    }
    let (x, y) = (WIDTH - RIGHT + 8.0, TOP + 10.0 + 17.0 * number as f64);
    let _ = writeln!(
        svg,
        "<line x1=\"{x}\" x2=\"{:.1}\" y1=\"{y}\" y2=\"{y}\" stroke=\"{colour}\" stroke-width=\"1.8\" \
         stroke-dasharray=\"{dashes}\"/>\n<text x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
        x + 26.0,
        x + 32.0,
        y + 4.0
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Shape;
    use crate::bench::measure::Spread;
    use crate::bench::traffic::{FrameSize, Kind};
    use shunt_dataplane::address::Family;
    use shunt_dataplane::id::Protocol;
    use shunt_dataplane::service::Method;
    use shunt_dataplane::service::schedulers::Scheduler;

    #[test]
    fn floor_and_targets_are_drawn_within_the_axes() {
        let shape = Shape {
            method: Method::Tun,
            family: Family::V6,
            protocol: Protocol::Tcp,
            frame: FrameSize::Bytes(64),
            services: 1,
            reals: 10,
            scheduler: Scheduler::Rr,
            new_share: 0,
            burst: 64,
        };
        let mut cell = Cell::new(&shape, Kind::Request, 1_000_000);
        cell.ns_per_packet = Spread { min: 50.0, median: 52.0, max: 60.0 };
        cell.floor_ns_per_packet = Spread { min: 4.0, median: 4.5, max: 5.0 };
        let drawn = svg(&[cell]);
        assert!(drawn.contains("floor (macswap) 4.5") && drawn.contains("target IPv6 TUN"));
        let marks = drawn.matches("<path").count();
        assert_eq!(marks, 3, "targets at 1 k and 1 M flows and the legend: 10 M lies beyond the axis");
    }
}
