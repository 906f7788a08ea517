//! Events of the library, on stderr.

use super::stderr::{self, Verbosity};
use core::fmt::{Debug, Write};
use std::time::Instant;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// The field of the one kind of event that is always shown: those that say why nothing happens
/// for a while.
const WAIT: &str = "retry_after";

/// Shows events from now on: all of them if details are wanted, otherwise why one has to wait.
pub(super) fn install(voice: Verbosity, verbose: u8) {
    if voice.quiet {
        return;
    }
    let most = match verbose {
        0 => Level::WARN,
        1 => Level::DEBUG,
        _ => Level::TRACE,
    };
    // It fails only where there is one already.
    let _ = tracing::subscriber::set_global_default(StderrSubscriber {
        most,
        detailed: voice.detailed,
        began: Instant::now(),
    });
}

struct StderrSubscriber {
    most: Level,
    detailed: bool,
    began: Instant,
}

impl Subscriber for StderrSubscriber {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target().split("::").next() == Some("memlatch");
        ours && *metadata.level() <= self.most
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut told = EventVisitor::default();
        event.record(&mut told);
        if self.detailed {
            let level = event.metadata().level().as_str().to_ascii_lowercase();
            let since = self.began.elapsed().as_secs_f64();
            let EventVisitor {
                message, fields, ..
            } = told;
            stderr::print_error(&format!("[{since:.3} {level}] {message}{fields}"));
        } else if let Some(wait) = told.wait {
            stderr::print_error(&format!("{} ({wait})", told.message));
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// An event as text.
#[derive(Default)]
struct EventVisitor {
    message: String,
    fields: String,
    wait: Option<String>,
}

impl Visit for EventVisitor {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing into a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
        if field.name() == WAIT {
            self.wait = Some(format!("{value:.1?}"));
        }
    }
}
