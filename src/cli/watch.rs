//! `memlatch watch`: shows the held locks until it is ended.

use super::failure::{Failure, code};
use super::headings::OUTPUT;
use super::list;
use super::options::GlobalOptions;
use super::output;
use super::select::{Either, race};
use super::signals::{ENDING, Signals};
use super::stderr::{self, Verbosity};
use super::style::{self, Glyphs, Styler};
use super::text::{self, Cut};
use super::{duration, format_holder, server, table, time_format};
use core::fmt::Write;
use core::future::poll_fn;
use core::time::Duration;
use memlatch::{Client, LockEntry, LockError, LockList};
use nix::sys::signal::{Signal, raise};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::{Instant, SystemTime};
use tokio::time::sleep;

/// Of its time a server spends at most one part in so many on listing its items for us.
const SHARE: u32 = 10;

/// The number of lines if the height of the terminal is unknown.
const USUAL_HEIGHT: usize = 24;

/// Watch the locks that are held
///
/// On a terminal: a table that is drawn anew all the time, until Ctrl-C. Elsewhere, or with
/// --json: a line for each change, as far as it is seen: held (in the first round), acquired,
/// changed (hands) and freed. Each round, the server is asked for all its items; where that takes
/// long, rounds come less often, so that it takes at most a tenth of the time.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  memlatch watch
  memlatch watch --json invoices/ >> changes.jsonl")]
pub(super) struct Watch {
    /// Prefix of the names [default: all]
    #[arg(
        value_name = "NAME_PREFIX",
        default_value = "",
        hide_default_value = true
    )]
    start: String,

    /// Time between two rounds, at least 100ms
    #[arg(short = 'n', long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,

    /// End after so many rounds [default: never]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// A JSON object for each change, a line each
    #[arg(long, help_heading = OUTPUT)]
    json: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration::parse(text)?;
    if interval < Duration::from_millis(100) {
        return Err("it must be at least 100ms".to_owned());
    }
    Ok(interval)
}

pub(super) async fn watch(
    global: &GlobalOptions,
    options: Watch,
    voice: Verbosity,
) -> Result<u8, Failure> {
    server::check_address(global)?;
    let drawable = io::stdout().is_terminal() && !style::is_dumb();
    let on_terminal = drawable && !options.json;
    let mut signals = Signals::listen(&ENDING)
        .map_err(|error| Failure::system("cannot receive signals", &error))?;
    if on_terminal {
        let added = signals.add(Signal::SIGTSTP);
        added.map_err(|error| Failure::system("cannot receive signals", &error))?;
    }
    let client = match race(server::builder(global)?.build(), signals.ending()).await {
        Either::A(client) => client?,
        Either::B(signal) => return Ok(ended_by(signal)),
    };
    let mut view = if on_terminal {
        Renderer::Table(TableRenderer::new(&client.server(), &options.start))
    } else {
        Renderer::Lines(LineRenderer::new(client.server(), options.json))
    };
    voice.detail(&format!("watching the locks on {}", client.server()));
    let watched = rounds(&client, &options, voice, &mut view, &mut signals).await;
    view.leave();
    watched
}

/// Ctrl-C is how people end it, and no failure.
fn ended_by(signal: Signal) -> u8 {
    match signal {
        Signal::SIGINT => code::SUCCESS,
        other => code::of_signal(other as i32),
    }
}

async fn rounds(
    client: &Client,
    options: &Watch,
    voice: Verbosity,
    view: &mut Renderer,
    signals: &mut Signals,
) -> Result<u8, Failure> {
    let mut failing = false;
    let mut round = 0;
    loop {
        let began = Instant::now();
        let listed = match attend(client.list(&options.start), view, signals).await {
            Ok(listed) => listed,
            Err(signal) => return Ok(ended_by(signal)),
        };
        // Waiting in vain is no burden.
        let took = match &listed {
            Ok(_) => began.elapsed(),
            Err(_) => Duration::ZERO,
        };
        round += 1;
        let is_last = options.count.is_some_and(|count| round >= count);
        match listed {
            Ok(listing) => {
                if round == 1 {
                    list::note_missing(&listing, voice);
                }
                if core::mem::take(&mut failing) && !matches!(view, Renderer::Table(_)) {
                    voice.note("the server answers again");
                }
                view.show(&listing)?;
            }
            // A watch that fails in its first or last round fails as a whole.
            Err(error) if round == 1 || is_last => return Err(error.into()),
            Err(error) => {
                view.fail(&error, failing)?;
                failing = true;
            }
        }
        if is_last {
            return Ok(code::SUCCESS);
        }
        let pause = options.interval.max(took * (SHARE - 1));
        if let Err(signal) = attend(sleep(pause), view, signals).await {
            return Ok(ended_by(signal));
        }
    }
}

/// Does something until it is done or a signal asks to end.
async fn attend<T>(
    work: impl Future<Output = T>,
    view: &mut Renderer,
    signals: &mut Signals,
) -> Result<T, Signal> {
    let mut work = core::pin::pin!(work);
    loop {
        let signal = poll_fn(|cx| signals.poll_next(cx));
        match race(work.as_mut(), signal).await {
            Either::A(done) => return Ok(done),
            Either::B(Signal::SIGTSTP) => {
                // The process that gets the terminal meanwhile needs its cursor.
                view.leave();
                // Returns when this process is continued.
                let _ = raise(Signal::SIGSTOP);
            }
            Either::B(signal) => return Err(signal),
        }
    }
}

/// The way in which the list is shown.
enum Renderer {
    Table(TableRenderer),
    Lines(LineRenderer),
}

impl Renderer {
    fn show(&mut self, listing: &LockList) -> Result<(), Failure> {
        match self {
            Self::Table(table) => table.draw(&table.rows(listing)),
            Self::Lines(lines) => lines.tell(listing),
        }
    }

    /// The server did not answer; `again` says that it did not the last time either.
    fn fail(&mut self, error: &LockError, again: bool) -> Result<(), Failure> {
        match self {
            Self::Table(table) => {
                let why = text::one_line(&error.to_string());
                let why = text::wrapped(&why, text::terminal_width().unwrap_or(usize::MAX), 2);
                let lines: Vec<String> = why.lines().map(|line| table.paint.bad(line)).collect();
                table.draw(&lines)
            }
            Self::Lines(_) => {
                if !again {
                    stderr::print_error(&format!("{error}; going on"));
                }
                Ok(())
            }
        }
    }

    fn leave(&mut self) {
        if let Self::Table(table) = self {
            table.leave();
        }
    }
}

/// A table on a terminal, drawn over itself.
struct TableRenderer {
    title: String,
    paint: Styler,
    glyphs: Glyphs,
    /// Number of lines above the cursor that are ours. The cursor is hidden if there are any.
    drawn: usize,
}

impl TableRenderer {
    fn new(server: &str, start: &str) -> Self {
        let start = text::one_line(start);
        Self {
            title: match &*start {
                "" => format!("locks on {server}"),
                start => format!("locks on {server} that start with {start}"),
            },
            paint: Styler::for_stdout(),
            glyphs: Glyphs::of_the_locale(),
            drawn: 0,
        }
    }

    fn rows(&self, listing: &LockList) -> Vec<String> {
        if listing.locks.is_empty() {
            return vec![self.paint.faint("no locks")];
        }
        let columns = text::terminal_width();
        let mut lines = table::lines(&listing.locks, true, columns, self.glyphs);
        lines[0] = self.paint.bold(&lines[0]);
        lines
    }

    fn draw(&mut self, lines: &[String]) -> Result<(), Failure> {
        let now = unix_now();
        // The time first, so that shortening takes the end of the address.
        let title = format!("{}  {}", time_format::text(now), self.title);
        let columns = text::terminal_width().unwrap_or(usize::MAX);
        let title = text::fitted(&title, columns, Cut::End, self.glyphs.mark());
        let size = rustix::termios::tcgetwinsize(io::stdout());
        let height = match size.map_or(0, |size| usize::from(size.ws_row)) {
            // Some terminals do not know.
            0 => USUAL_HEIGHT,
            rows => rows,
        };
        // The title, and the line on which the cursor stands.
        let room = height.saturating_sub(2).max(2);
        let shown = if lines.len() > room {
            room - 1
        } else {
            lines.len()
        };
        let mut text = String::new();
        // Hidden while we are here; lines too long are cut, so that each takes one line.
        text.push_str("\x1b[?25l\x1b[?7l");
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}F", self.drawn);
        }
        // Cleared before it is written: behind a line as long as the terminal is wide, its last
        // character would be.
        let _ = writeln!(text, "\x1b[K{}", self.paint.faint(&title));
        for line in &lines[..shown] {
            let _ = writeln!(text, "\x1b[K{line}");
        }
        self.drawn = 1 + shown;
        if shown < lines.len() {
            let more = format!("and {} more", lines.len() - shown);
            let _ = writeln!(text, "\x1b[K{}", self.paint.faint(&more));
            self.drawn += 1;
        }
        text.push_str("\x1b[J\x1b[?7h");
        output::print(&text)
    }

    /// Leaves the terminal as it was; what was drawn stays.
    fn leave(&mut self) {
        if core::mem::take(&mut self.drawn) > 0 {
            // A failure here could not be reported.
            let _ = output::print("\x1b[?25h\x1b[?7h");
        }
    }
}

/// A line for each change.
struct LineRenderer {
    server: String,
    json: bool,
    /// The list of the last round, if there was one.
    known: Option<BTreeMap<String, LockEntry>>,
}

impl LineRenderer {
    const fn new(server: String, json: bool) -> Self {
        Self {
            server,
            json,
            known: None,
        }
    }

    fn tell(&mut self, listing: &LockList) -> Result<(), Failure> {
        let now = unix_now();
        let mut text = String::new();
        let mut current = BTreeMap::new();
        let is_first = self.known.is_none();
        let mut known = self.known.take().unwrap_or_default();
        for lock in &listing.locks {
            let event = match known.remove(&lock.name) {
                None if is_first => Some("held"),
                None => Some("acquired"),
                Some(before) if before.holder.is_same_session(&lock.holder) => None,
                Some(_) => Some("changed"),
            };
            if let Some(event) = event {
                self.put(event, lock, now, &mut text);
            }
            current.insert(lock.name.clone(), lock.clone());
        }
        for lock in known.values() {
            // If not all locks are listed, a missing one may nevertheless be held.
            if listing.is_complete {
                self.put("freed", lock, now, &mut text);
            }
        }
        self.known = Some(current);
        if text.is_empty() {
            Ok(())
        } else {
            output::print(&text)
        }
    }

    fn put(&self, event: &str, lock: &LockEntry, now: u64, text: &mut String) {
        if self.json {
            let mut fields = format_holder::entry_object(lock, &self.server);
            fields.insert("event".to_owned(), event.into());
            fields.insert("at_unix".to_owned(), now.into());
            if event == "freed" {
                fields.insert("held".to_owned(), false.into());
            }
            text.push_str(&format_holder::line(fields));
            return;
        }
        let (when, name) = (time_format::text(now), format_holder::entry_name(lock));
        let (whose, token) = (
            format_holder::describe_holder(&lock.holder),
            format_holder::token(&lock.holder),
        );
        let by = match event {
            "freed" => "was held by",
            _ => "by",
        };
        let _ = writeln!(
            text,
            "{when}  {event:<8}  {name}  {by} {whose}, token {token}"
        );
    }
}

/// The present second of this machine's clock.
fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
