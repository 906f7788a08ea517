//! The output of the demo.

use super::Demo;
use crate::cli::style::Styler;
use core::fmt::Write;
use core::time::Duration;

/// Width of the bar of the worker that held the lock most often.
const BAR: u64 = 30;

/// The result of a phase.
#[derive(Debug, Clone)]
pub(super) struct Phase {
    /// Increments that the workers count as made.
    pub(super) attempted: u64,
    /// The value of the counter.
    pub(super) counter: u64,
    pub(super) length: Duration,
}

impl Phase {
    fn lost(&self) -> u64 {
        // A counter that is too high would be as wrong as one that is too low.
        self.attempted.abs_diff(self.counter)
    }

    fn rate(&self) -> f64 {
        self.attempted as f64 / self.length.as_secs_f64()
    }
}

/// Heading and column titles.
pub(super) fn opening(options: &Demo, server: &str, paint: Styler) -> String {
    let title = paint.bold(&format!(
        "{} processes raise one counter in a file, {:?} per phase",
        options.workers, options.seconds
    ));
    let how = paint.faint(&format!(
        "each reads it, pauses 1 ms, writes it plus 1; locks on {server}"
    ));
    format!(
        "{title}\n{how}\n\n{}\n",
        paint.faint(&columns(
            "",
            "increments",
            "counter",
            "lost updates",
            "per second"
        ))
    )
}

/// One phase as a line of the table.
pub(super) fn row(title: &str, phase: &Phase, paint: Styler) -> String {
    let lost = phase.lost();
    let share = 100.0 * lost as f64 / phase.attempted.max(1) as f64;
    let shown = match lost {
        0 => "0".to_owned(),
        _ => format!("{lost} ({share:.0} %)"),
    };
    let line = columns(
        title,
        &phase.attempted.to_string(),
        &phase.counter.to_string(),
        &shown,
        &format!("{:.0}", phase.rate()),
    );
    // Coloured as a whole: within a line, colours would count as width.
    let line = if lost == 0 {
        paint.good(&line)
    } else {
        paint.bad(&line)
    };
    format!("{line}\n")
}

fn columns(title: &str, attempted: &str, counter: &str, lost: &str, rate: &str) -> String {
    format!("  {title:<14}{attempted:>12}{counter:>12}{lost:>18}{rate:>14}")
}

/// The report after both phases.
#[derive(Debug)]
pub(super) struct Report {
    lost_without: u64,
    lost_with: u64,
    attempted: u64,
    tokens: Vec<u64>,
    /// Holdings of each worker.
    turns: Vec<u64>,
}

impl Report {
    pub(super) fn new(free: &Phase, locked: &Phase, log: &[(u64, u32)], workers: u32) -> Self {
        let turns = (1..=workers)
            .map(|worker| log.iter().filter(|(_, by)| *by == worker).count() as u64)
            .collect();
        Self {
            lost_without: free.lost(),
            lost_with: locked.lost(),
            attempted: locked.attempted,
            tokens: log.iter().map(|(token, _)| *token).collect(),
            turns,
        }
    }

    /// Returns `true` if every token is higher than the one before it.
    fn rises(&self) -> bool {
        self.tokens.windows(2).all(|pair| pair[0] < pair[1])
    }

    /// Returns `true` if the lock has done what it is for.
    pub(super) fn is_good(&self) -> bool {
        self.lost_with == 0 && self.rises() && self.tokens.first() > Some(&0) && self.attempted > 0
    }

    pub(super) fn text(&self, paint: Styler) -> String {
        let mut text = String::from("\n");
        let mut line = |line: &str| {
            let _ = writeln!(text, "{line}");
        };
        if let (Some(first), Some(last)) = (self.tokens.first(), self.tokens.last()) {
            let count = self.tokens.len();
            let verdict = if self.rises() {
                paint.good("each higher than the one before")
            } else {
                paint.bad("NOT EACH HIGHER THAN THE ONE BEFORE")
            };
            line(&format!("  fencing tokens  {count}, {verdict}"));
            line(&format!("                  {first} .. {last}"));
        }
        let most = self.turns.iter().copied().max().unwrap_or(0).max(1);
        for (index, turns) in self.turns.iter().enumerate() {
            let title = if index == 0 { "lock held by" } else { "" };
            // A worker that had the lock at all has a visible bar.
            let bar = (turns * BAR).div_ceil(most) as usize;
            let bar = "█".repeat(bar);
            line(&format!(
                "  {title:<14}  worker {:<3} {bar} {turns}",
                index + 1
            ));
        }
        line("");
        line(&format!("  {}", self.verdict(paint)));
        text
    }

    fn verdict(&self, paint: Styler) -> String {
        if !self.rises() {
            return paint.bad("FAILED: a fencing token did not rise");
        }
        if self.lost_with > 0 {
            return paint.bad(&format!(
                "FAILED: {} updates lost although the lock was held",
                self.lost_with
            ));
        }
        if !self.is_good() {
            return paint.bad("FAILED: no worker got the lock");
        }
        let told = match self.lost_without {
            0 => "no update lost with the lock (nor, this time, without)".to_owned(),
            lost => format!("{lost} updates lost without the lock, 0 with it"),
        };
        paint.good(&told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(attempted: u64, counter: u64) -> Phase {
        Phase {
            attempted,
            counter,
            length: Duration::from_secs(1),
        }
    }

    #[test]
    fn only_unbroken_exclusion_passes() {
        let free = phase(9, 3);
        let log = [(5, 1), (6, 2), (9, 1)];
        let good = Report::new(&free, &phase(3, 3), &log, 2);
        assert!(good.is_good());
        assert_eq!(good.turns, [2, 1]);
        for (locked, log) in [
            (phase(3, 2), &log[..]),
            (phase(3, 4), &log),
            (phase(3, 3), &[(5, 1), (5, 2)]),
            (phase(2, 2), &[(6, 1), (5, 1)]),
            (phase(1, 1), &[(0, 1)]),
            (phase(0, 0), &[]),
        ] {
            assert!(!Report::new(&free, &locked, log, 2).is_good(), "{locked:?}");
        }
    }
}
