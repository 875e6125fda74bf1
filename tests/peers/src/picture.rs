//! The picture: ours beside the peers, and where the ticks of a fault go.

use anyhow::Context;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde_json::Value;
use std::path::Path;

/// Which rows are drawn beside their peers.
const BESIDE: [(&str, &str); 4] = [
    ("K1", "IPC call + reply"),
    ("K2", "VM exit to another process and back"),
    ("K3", "EPT violation: the page mapped, the guest entered again"),
    ("K9", "port exit to user space and back"),
];
const WIDTH: i32 = 960;
/// Where bars begin; their names are left of it.
const LEFT: i32 = 320;
const RIGHT: i32 = WIDTH - 90;
const BAR: i32 = 16;
const STEP: i32 = 22;
/// The colour of what is ours.
pub const OURS: RGBColor = RGBColor(0x1f, 0x6f, 0xb4);
/// The colour of everybody else.
pub const THEIRS: RGBColor = RGBColor(0xb8, 0xbe, 0xc6);
/// The colour of text.
pub const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
/// Exit, message, pager, decode, install, entry: told apart by everybody's eyes.
const STAGES: [(&str, RGBColor); 6] = [
    ("exit", RGBColor(0x33, 0x22, 0x88)),
    ("message", RGBColor(0x88, 0xcc, 0xee)),
    ("pager", RGBColor(0xdd, 0xcc, 0x77)),
    ("decode", RGBColor(0xcc, 0x66, 0x77)),
    ("install", RGBColor(0x11, 0x77, 0x33)),
    ("entry", RGBColor(0x44, 0xaa, 0x99)),
];

/// What is drawn on.
pub type Sheet<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Draws the rows of the file `rows` to `out`.
///
/// # Errors
/// Files that cannot be read or written.
pub fn draw(rows: &Path, out: &Path) -> anyhow::Result<()> {
    let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(rows)?)?;
    let row = |id: &str| rows.iter().find(|row| row["id"] == id).with_context(|| format!("there is no row {id}"));
    let groups = BESIDE
        .iter()
        .map(|(id, title)| Ok(Group { title, bars: bars(row(id)?) }))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let height: i32 = groups.iter().map(|group| 34 + STEP * group.bars.len() as i32).sum::<i32>() + 230;
    let sheet = SVGBackend::new(out, (WIDTH as u32, height as u32)).into_drawing_area();
    sheet.fill(&WHITE).map_err(broken)?;
    text(&sheet, "Ticks on Bochs 2.7: one is one executed instruction (logarithmic)", (20, 12), 22, HPos::Left)?;
    let mut y = 44;
    for group in &groups {
        y = beside(&sheet, group, y)?;
    }
    stacked(&sheet, row("K3")?, y + 6)?;
    sheet.present().map_err(broken)
}

/// A row and its peers.
struct Group {
    title: &'static str,
    bars: Vec<(String, f64, RGBColor)>,
}

fn bars(row: &Value) -> Vec<(String, f64, RGBColor)> {
    let ours = row["value"].as_f64().map(|value| ("Faultline".to_owned(), value, OURS));
    let peers = row["peers"].as_object().into_iter().flatten();
    let mut peers: Vec<_> = peers.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?, THEIRS))).collect();
    peers.sort_by(|a, b| a.1.total_cmp(&b.1));
    ours.into_iter().chain(peers).collect()
}

/// The place of so many ticks, from 50 to 30,000.
fn place(ticks: f64) -> i32 {
    let (least, most) = (50f64.ln(), 30_000f64.ln());
    let share = (ticks.max(50.0).ln() - least) / (most - least);
    LEFT + (share.min(1.0) * f64::from(RIGHT - LEFT)) as i32
}

fn beside(sheet: &Sheet<'_>, group: &Group, mut y: i32) -> anyhow::Result<i32> {
    text(sheet, group.title, (20, y), 19, HPos::Left)?;
    y += 22;
    for (name, value, colour) in &group.bars {
        bar(sheet, (LEFT, place(*value)), y, *colour)?;
        text(sheet, name, (LEFT - 8, y + 1), 16, HPos::Right)?;
        text(sheet, &grouped(*value), (place(*value) + 6, y + 1), 16, HPos::Left)?;
        y += STEP;
    }
    Ok(y + 12)
}

/// Where the ticks of one fault go, to scale.
fn stacked(sheet: &Sheet<'_>, row: &Value, y: i32) -> anyhow::Result<()> {
    let ticks = |stage: &str| row["stages"][stage].as_f64().unwrap_or_default();
    let total: f64 = STAGES.iter().map(|(stage, _)| ticks(stage)).sum();
    anyhow::ensure!(total > 0.0, "row K3 has no stages");
    let title = format!("Where the {total:.0} ticks of one fault go, from the trace of it");
    text(sheet, &title, (20, y), 19, HPos::Left)?;
    let (left, width) = (20, f64::from(WIDTH - 40));
    let mut at = 0.0;
    for (n, (stage, colour)) in STAGES.iter().enumerate() {
        let from = left + (at / total * width) as i32;
        at += ticks(stage);
        let to = left + (at / total * width) as i32;
        for line in 0..3 {
            bar(sheet, (from, to), y + 26 + line * BAR, *colour)?;
        }
        let key = (20 + n as i32 * 155, y + 92);
        bar(sheet, (key.0, key.0 + 14), key.1, *colour)?;
        text(sheet, &format!("{stage} {:.0}", ticks(stage)), (key.0 + 20, key.1 + 1), 17, HPos::Left)?;
    }
    let events = row["events"].as_object().into_iter().flatten();
    let events: Vec<String> = events
        .filter(|(_, count)| count.as_u64() != Some(0))
        .map(|(name, count)| format!("{count} {}", name.replace('_', " ")))
        .collect();
    text(sheet, &format!("behind it: {}", events.join(", ")), (20, y + 122), 17, HPos::Left)
}

fn bar(sheet: &Sheet<'_>, (from, to): (i32, i32), y: i32, colour: RGBColor) -> anyhow::Result<()> {
    sheet.draw(&Rectangle::new([(from, y), (to, y + BAR)], colour.filled())).map_err(broken)
}

/// Writes `text` so that it begins, ends or has its middle at a place.
///
/// # Errors
/// The drawing's.
pub fn text(sheet: &Sheet<'_>, text: &str, at: (i32, i32), size: i32, side: HPos) -> anyhow::Result<()> {
    let style = ("sans-serif", size).into_font().color(&INK).pos(Pos::new(side, VPos::Top));
    sheet.draw_text(text, &style, at).map_err(broken)
}

/// A number with its thousands apart.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// An error of the drawing.
pub fn broken(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("the picture cannot be drawn: {error}")
}
