//! The plot of how cost grows: one panel for each series, all from zero and to one scale.

use crate::picture::{INK, OURS, Sheet, THEIRS, broken, text};
use anyhow::Context;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use serde_json::Value;
use std::path::Path;

/// The series, in the order in which they are drawn.
const SERIES: [(&str, &str); 3] = [("N1", "address space"), ("N2", "slots"), ("N3", "VMs")];
const WIDTH: i32 = 960;
const HEIGHT: i32 = 300;
/// Left edge of the first panel, and the width of one with the gap beside it.
const LEFT: i32 = 60;
const PANEL: i32 = 300;
/// A panel's points begin so far from its edge.
const INSET: i32 = 30;
/// The line of zero ticks, and that of the most.
const ZERO: i32 = 240;
const TOP: i32 = 80;

/// Draws the series among the rows of the file `rows` to `out`.
///
/// # Errors
/// Files that cannot be read or written; a series that is not there.
pub fn draw(rows: &Path, out: &Path) -> anyhow::Result<()> {
    let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(rows)?)?;
    let series: Vec<(&str, Vec<(String, f64)>)> = SERIES
        .iter()
        .map(|(id, title)| Ok((*title, points(&rows, id).with_context(|| format!("row {id} has no points"))?)))
        .collect::<anyhow::Result<_>>()?;
    let most = series.iter().flat_map(|(_, points)| points).map(|(_, ticks)| *ticks).fold(0.0, f64::max);
    let most = (most / 200.0).ceil() * 200.0;
    let sheet = SVGBackend::new(out, (WIDTH as u32, HEIGHT as u32)).into_drawing_area();
    sheet.fill(&WHITE).map_err(broken)?;
    text(&sheet, "Ticks of a first touch, the median, as the system grows", (20, 12), 22, HPos::Left)?;
    for (n, (title, points)) in series.iter().enumerate() {
        panel(&sheet, LEFT + n as i32 * PANEL, title, points, most)?;
    }
    sheet.present().map_err(broken)
}

/// The points of a row, as `[["64 MiB", 470.0], ...]`.
fn points(rows: &[Value], id: &str) -> Option<Vec<(String, f64)>> {
    let points = rows.iter().find(|row| row["id"] == id)?["points"].as_array()?;
    let point = |point: &Value| Some((point[0].as_str()?.to_owned(), point[1].as_f64()?));
    points.iter().map(point).collect::<Option<Vec<_>>>().filter(|points| points.len() > 1)
}

fn panel(sheet: &Sheet<'_>, left: i32, title: &str, points: &[(String, f64)], most: f64) -> anyhow::Result<()> {
    let right = left + PANEL - 40;
    let height = |ticks: f64| ZERO - (ticks / most * f64::from(ZERO - TOP)) as i32;
    text(sheet, title, (left, TOP - 34), 19, HPos::Left)?;
    for part in 0..=2 {
        let ticks = most * f64::from(part) / 2.0;
        let line = vec![(left, height(ticks)), (right, height(ticks))];
        sheet.draw(&PathElement::new(line, THEIRS)).map_err(broken)?;
        text(sheet, &format!("{ticks:.0}"), (left - 6, height(ticks) - 8), 15, HPos::Right)?;
    }
    let step = (right - left - 2 * INSET) / (points.len() as i32 - 1);
    let at = |n: usize, ticks: f64| (left + INSET + n as i32 * step, height(ticks));
    let line: Vec<_> = points.iter().enumerate().map(|(n, (_, ticks))| at(n, *ticks)).collect();
    sheet.draw(&PathElement::new(line, OURS.stroke_width(2))).map_err(broken)?;
    for (n, (label, ticks)) in points.iter().enumerate() {
        let (x, y) = at(n, *ticks);
        sheet.draw(&Circle::new((x, y), 4, OURS.filled())).map_err(broken)?;
        text(sheet, &format!("{ticks:.0}"), (x, y - 22), 15, HPos::Center)?;
        text(sheet, label, (x, ZERO + 8), 15, HPos::Center)?;
    }
    sheet.draw(&PathElement::new(vec![(left, ZERO), (right, ZERO)], INK)).map_err(broken)
}
