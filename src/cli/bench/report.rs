//! The report of a benchmark.

use super::histogram::Histogram;
use crate::cli::style::{Glyphs, Styler};
use crate::cli::text;
use core::fmt::Write;
use core::time::Duration;
use serde_json::{Value, json};

/// Length of the longest bar.
const BAR: usize = 40;

/// Columns of a line of the histogram without its bar and with a count of up to nine digits.
const BESIDES_BAR: usize = 25;

/// Columns of the percentiles side by side.
const SIDE_BY_SIDE: usize = 64;

/// Columns where there is no terminal.
const USUAL: usize = 80;

/// The percentiles that are shown.
const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// The measurements and their settings.
pub(super) struct Report {
    pub(super) server: String,
    pub(super) took: Duration,
    pub(super) tasks: u32,
    pub(super) connections: u8,
    pub(super) names: u32,
    pub(super) without_record: bool,
    pub(super) pair: Histogram,
    pub(super) round_trip: Histogram,
}

impl Report {
    fn per_second(&self) -> f64 {
        self.pair.total() as f64 / self.took.as_secs_f64()
    }

    pub(super) fn object(&self) -> String {
        let object = json!({
            "server": self.server,
            "seconds": self.took.as_secs_f64(),
            "tasks": self.tasks,
            "connections": self.connections,
            "names": self.names,
            "without_record": self.without_record,
            "pairs": self.pair.total(),
            "pairs_per_second": self.per_second(),
            "pair_micros": micros(&self.pair),
            "round_trips": self.round_trip.total(),
            "round_trip_micros": micros(&self.round_trip),
        });
        text::json_line(&object)
    }

    pub(super) fn text(&self) -> String {
        let (paint, glyphs) = (Styler::for_stdout(), Glyphs::of_the_locale());
        let mut text = String::new();
        let rate = format!("{:.0} pairs per second", self.per_second());
        let locks = match (self.names, self.without_record) {
            (1, false) => "one lock",
            (1, true) => "one lock without a record",
            (_, false) => "locks",
            (_, true) => "locks without a record",
        };
        let count = match self.names {
            1 => String::new(),
            names => format!("{names} "),
        };
        let columns = text::terminal_width().unwrap_or(USUAL);
        let how = format!(
            "{} for {count}{locks} on {}, {} in {:.1} s",
            plural(self.tasks.into(), "task"),
            self.server,
            plural(self.connections.into(), "connection"),
            self.took.as_secs_f64()
        );
        let how = paint.faint(&text::wrapped(&how, columns, 2));
        let first = format!("{rate} of acquiring and giving back");
        let first = text::wrapped(&first, columns, 2).replacen(&rate, &paint.bold(&rate), 1);
        let _ = writeln!(text, "{first}\n{how}\n");
        text.push_str(&self.percentiles(columns, paint));
        let title = "  pairs by how long they took, at least";
        let _ = writeln!(text, "\n{}", text::wrapped(title, columns, 2));
        let longest = columns.saturating_sub(BESIDES_BAR).clamp(1, BAR);
        let doublings = self.pair.doublings();
        let most = doublings.iter().map(|(_, count)| *count).max().unwrap_or(1);
        for (from, count) in doublings {
            // Whatever there is, is seen.
            let bar = (count as f64 / most as f64 * longest as f64).ceil() as usize;
            let bar = format!("{:<longest$}", glyphs.line(bar));
            let _ = writeln!(text, "  {:>10}  {bar} {count}", length(from));
        }
        text
    }
}

impl Report {
    /// The percentiles, side by side or one below the other.
    fn percentiles(&self, columns: usize, paint: Styler) -> String {
        let measured = [("pair", &self.pair), ("round trip", &self.round_trip)];
        let values = |histogram: &Histogram| -> Vec<String> {
            let parts = PERCENTILES
                .iter()
                .map(|(_, part)| histogram.percentile(*part));
            parts.chain([histogram.longest()]).map(length).collect()
        };
        let titles: Vec<&str> = PERCENTILES
            .iter()
            .map(|(title, _)| *title)
            .chain(["max"])
            .collect();
        let mut text = String::new();
        if columns >= SIDE_BY_SIDE {
            let line: String = titles.iter().map(|title| format!("{title:>10}")).collect();
            let _ = writeln!(text, "{}", paint.faint(&format!("  {:<12}{line}", "")));
            for (title, histogram) in measured {
                let line = values(histogram)
                    .into_iter()
                    .map(|value| format!("{value:>10}"));
                let _ = writeln!(text, "  {title:<12}{}", line.collect::<String>());
            }
            return text;
        }
        let line = format!("  {:<6}{:>10}{:>12}", "", measured[0].0, measured[1].0);
        let _ = writeln!(text, "{}", paint.faint(&line));
        let rows = values(measured[0].1).into_iter().zip(values(measured[1].1));
        for (title, (pair, round_trip)) in titles.iter().zip(rows) {
            let _ = writeln!(text, "  {title:<6}{pair:>10}{round_trip:>12}");
        }
        text
    }
}

fn plural(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

fn micros(histogram: &Histogram) -> Value {
    let micros = |length: Duration| length.as_nanos() as f64 / 1000.0;
    let mut all = serde_json::Map::new();
    for (title, part) in PERCENTILES {
        all.insert(title.to_owned(), micros(histogram.percentile(part)).into());
    }
    all.insert("max".to_owned(), micros(histogram.longest()).into());
    Value::Object(all)
}

/// Three digits and a unit.
fn length(length: Duration) -> String {
    let nanos = length.as_nanos() as f64;
    let (number, unit) = match nanos {
        ..1e3 => (nanos, "ns"),
        ..1e6 => (nanos / 1e3, "us"),
        ..1e9 => (nanos / 1e6, "ms"),
        _ => (nanos / 1e9, "s"),
    };
    match number {
        ..10.0 => format!("{number:.2} {unit}"),
        ..100.0 => format!("{number:.1} {unit}"),
        _ => format!("{number:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_print_three_digits_and_unit() {
        for (nanos, shown) in [
            (7, "7.00 ns"),
            (999, "999 ns"),
            (1000, "1.00 us"),
            (12_345, "12.3 us"),
            (123_456, "123 us"),
            (1_500_000, "1.50 ms"),
            (2_000_000_000, "2.00 s"),
        ] {
            assert_eq!(length(Duration::from_nanos(nanos)), shown);
        }
    }
}
