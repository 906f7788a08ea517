//! Locks in columns: numbers first, names and holders in what is left of the line.

use super::format_holder;
use super::style::Glyphs;
use super::text::{Cut, fitted, padded, width};
use memlatch::{Holder, LockEntry};

/// Width of the bar that shows what is left of a lease.
const BAR: usize = 12;

/// Between two columns.
const GAP: usize = 2;

/// Names are shown with so many columns at least, unless they need less.
const LEAST_NAME: usize = 16;

/// The same for holders.
const LEAST_HOLDER: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Held,
    Left,
    Bar,
    Token,
    Pid,
    Name,
    Holder,
}

impl Column {
    const fn title(self) -> &'static str {
        match self {
            Self::Held => "HELD",
            Self::Left => "LEFT",
            Self::Bar => "",
            Self::Token => "LAST_TOKEN",
            Self::Pid => "PID",
            Self::Name => "NAME",
            Self::Holder => "HOLDER",
        }
    }

    fn cell(self, lock: &LockEntry, glyphs: Glyphs) -> String {
        let holder = &lock.holder;
        match self {
            Self::Held => format_holder::held_for(holder),
            Self::Left => {
                let left = holder.expires_in.map(format_holder::approximate);
                left.unwrap_or_else(|| "-".to_owned())
            }
            Self::Bar => bar(holder, glyphs),
            Self::Token => format_holder::token(holder),
            Self::Pid => format_holder::pid(holder),
            Self::Name => format_holder::entry_name(lock),
            Self::Holder => format_holder::where_held(holder),
        }
    }

    /// Returns `true` if it may be shortened.
    const fn is_text(self) -> bool {
        matches!(self, Self::Name | Self::Holder)
    }

    /// The least columns that it can do with, where it needs `natural` ones to be shown whole.
    fn least(self, natural: usize) -> usize {
        match self {
            Self::Name => natural.min(LEAST_NAME),
            Self::Holder => natural.min(LEAST_HOLDER),
            _ => natural,
        }
    }
}

/// A bar that shows the rest of the lease.
fn bar(holder: &Holder, glyphs: Glyphs) -> String {
    match holder.expires_in {
        Some(left) if !holder.lease.is_zero() => {
            let part = left.as_secs_f64() / holder.lease.as_secs_f64();
            glyphs.bar(part.min(1.0), BAR)
        }
        _ => String::new(),
    }
}

/// A line for each lock below one with titles, in at most so many columns if a number is given.
/// If there is no room, columns are left out: the bar, the token, the process id, for how long it
/// is held, the holder, in this order.
pub(super) fn lines(
    locks: &[LockEntry],
    with_bar: bool,
    columns: Option<usize>,
    glyphs: Glyphs,
) -> Vec<String> {
    let mut shown = vec![Column::Held, Column::Left];
    if with_bar {
        shown.push(Column::Bar);
    }
    shown.extend([Column::Token, Column::Pid, Column::Name, Column::Holder]);
    let mut cells: Vec<(Column, Vec<String>)> = shown
        .into_iter()
        .map(|column| {
            let titles = core::iter::once(column.title().to_owned());
            let cells = locks.iter().map(|lock| column.cell(lock, glyphs));
            (column, titles.chain(cells).collect())
        })
        .collect();
    let natural = |cells: &[(Column, Vec<String>)]| -> Vec<usize> {
        let widest = |cells: &Vec<String>| cells.iter().map(|cell| width(cell)).max();
        cells
            .iter()
            .map(|(_, cells)| widest(cells).unwrap_or(0))
            .collect()
    };
    let mut widths = natural(&cells);
    if let Some(columns) = columns {
        for dropped in [
            Column::Bar,
            Column::Token,
            Column::Pid,
            Column::Held,
            Column::Holder,
        ] {
            let needed: usize = cells
                .iter()
                .zip(&widths)
                .map(|((column, _), width)| GAP + column.least(*width))
                .sum();
            if needed <= columns + GAP {
                break;
            }
            cells.retain(|(column, _)| *column != dropped);
            widths = natural(&cells);
        }
        share(&cells, &mut widths, columns);
    }
    let mark = glyphs.mark();
    (0..=locks.len())
        .map(|row| {
            let mut line = String::new();
            for ((column, cells), width) in cells.iter().zip(&widths) {
                let cut = match column {
                    Column::Name => Cut::Middle,
                    _ => Cut::End,
                };
                let cell = if column.is_text() {
                    fitted(&cells[row], *width, cut, mark)
                } else {
                    cells[row].as_str().into()
                };
                line.push_str(&padded(&cell, width + GAP));
            }
            line.truncate(line.trim_end().len());
            line
        })
        .collect()
}

/// Gives names and holders what the numbers leave: to holders two fifths, if they need as much.
fn share(cells: &[(Column, Vec<String>)], widths: &mut [usize], columns: usize) {
    let numbers = cells.iter().zip(&*widths).map(|((column, _), width)| {
        let own = if column.is_text() { 0 } else { *width };
        GAP + own
    });
    let room = (columns + GAP).saturating_sub(numbers.sum());
    let mut texts = cells
        .iter()
        .zip(widths)
        .filter_map(|((column, _), width)| column.is_text().then_some(width));
    match (texts.next(), texts.next()) {
        (Some(name), Some(holder)) if *name + *holder > room => {
            let most = (room * 2 / 5).max(LEAST_HOLDER);
            *holder = (*holder).min(most.max(room.saturating_sub(*name)));
            *name = (*name).min(room.saturating_sub(*holder));
        }
        (Some(name), None) => *name = (*name).min(room.max(1)),
        _ => {}
    }
}
