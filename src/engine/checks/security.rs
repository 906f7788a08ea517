//! Checks of the access to the server by other programs.

use super::super::check::{Check, CheckContext, Severity, TransportSecurity};
use super::{found, not_reported};
use crate::proto::ServerReport;

pub(super) fn encryption(terms: &CheckContext) -> Check {
    const ID: &str = "encryption";
    const ADVICE: &str = "use TLS (memcacheds://), or a network that no other program listens on";
    match (terms.way, terms.password) {
        (TransportSecurity::Local, _) => found(
            ID,
            Severity::Fine,
            "not needed: what is sent stays on this machine",
            "it cannot be read or changed on the network",
        ),
        (TransportSecurity::Encrypted, _) => found(
            ID,
            Severity::Fine,
            "TLS",
            "what is sent cannot be read or changed on the network",
        ),
        (TransportSecurity::Plain, true) => found(
            ID,
            Severity::Warning,
            "none, and a password is sent",
            "a listener on the network learns the password, and can change answers",
        )
        .advise(ADVICE),
        (TransportSecurity::Plain, false) => found(
            ID,
            Severity::Note,
            "none",
            "a host on the way to the server can read names and change answers",
        )
        .advise(ADVICE),
    }
}

/// Returns whether the server listens on this machine only, or requires a password. `None` if it
/// does not report that.
fn is_guarded(survey: &ServerReport) -> Option<bool> {
    let config = survey.settings.as_ref()?;
    Some(config.local_only? || config.auth_enabled?)
}

pub(super) fn authentication(survey: &ServerReport, terms: &CheckContext) -> Check {
    const ID: &str = "authentication";
    let config = survey.settings.as_ref();
    let wanted = config.and_then(|config| config.auth_enabled);
    let local = config.and_then(|config| config.local_only);
    match (wanted, local) {
        (Some(true), _) => found(
            ID,
            Severity::Fine,
            "the server wants a password",
            "a client without it can do nothing there",
        ),
        (Some(false), Some(true)) => found(
            ID,
            Severity::Fine,
            if terms.password {
                "the server wants no password and is sent one, and this machine alone can reach it"
            } else {
                "the server wants no password, and this machine alone can reach it"
            },
            "any user of this machine can drop locks",
        ),
        (Some(false), _) => found(
            ID,
            Severity::Note,
            "the server wants no password, and other machines can reach it",
            "any client that reaches it can drop locks, and read and write everything",
        )
        .advise("let it listen for those who need it only (-l), or want a password (-Y)"),
        (None, _) => not_reported(ID, "whether it wants a password"),
    }
}

pub(super) fn shutdown_command(survey: &ServerReport) -> Check {
    const ID: &str = "shutdown-command";
    let config = survey.settings.as_ref();
    match config.and_then(|config| config.shutdown_command) {
        None => not_reported(ID, "whether clients may end it"),
        Some(false) => found(
            ID,
            Severity::Fine,
            "clients cannot end the server",
            "one word less that drops all locks",
        ),
        Some(true) => found(
            ID,
            Severity::Warning,
            "any client may end the server (-A)",
            "with it, all locks are lost",
        )
        .advise("start the server without -A"),
    }
}

pub(super) fn key_dump(survey: &ServerReport) -> Check {
    const ID: &str = "key-dump";
    let config = survey.settings.as_ref();
    if config.and_then(|config| config.lru_crawler) == Some(false) {
        return found(
            ID,
            Severity::Note,
            "keys cannot be listed: there is no LRU crawler (no_lru_crawler or no_modern)",
            "locks can be looked at by their names only",
        )
        .advise("`lru_crawler enable` starts one, where locks are to be listed");
    }
    match config.and_then(|config| config.dump_enabled) {
        None => not_reported(ID, "whether clients may list all keys"),
        Some(true) if is_guarded(survey) == Some(false) => found(
            ID,
            Severity::Note,
            "clients may list all keys, and other machines can reach the server without a password",
            "the names of all locks that are held can be read there",
        )
        .advise("start the server with -X where locks must not be listed"),
        Some(true) => found(
            ID,
            Severity::Fine,
            "clients may list all keys",
            "locks can be listed",
        ),
        Some(false) => found(
            ID,
            Severity::Fine,
            "clients may not list keys (-X)",
            "locks can be looked at by their names only",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{expect, survey, terms, with_settings};
    use super::*;
    use Severity::{Fine, Note, Warning};

    #[test]
    fn cleartext_over_network_is_reported() {
        let by = |way, password| {
            let mut terms = terms();
            (terms.way, terms.password) = (way, password);
            encryption(&terms)
        };
        for password in [false, true] {
            expect(
                &by(TransportSecurity::Local, password),
                Fine,
                "this machine",
            );
            expect(&by(TransportSecurity::Encrypted, password), Fine, "TLS");
        }
        expect(&by(TransportSecurity::Plain, false), Note, "none");
        expect(&by(TransportSecurity::Plain, true), Warning, "password");
    }

    #[test]
    fn public_server_is_noted() {
        let at = |local, wanted| {
            with_settings(|config| {
                config.local_only = local;
                config.auth_enabled = wanted;
            })
        };
        for (local, wanted, authenticated, dumped) in [
            (Some(true), Some(false), Fine, Fine),
            (Some(false), Some(false), Note, Note),
            (Some(false), Some(true), Fine, Fine),
            (None, Some(false), Note, Fine),
            (Some(true), None, Note, Fine),
        ] {
            let survey = at(local, wanted);
            let check = authentication(&survey, &terms());
            assert_eq!(check.severity, authenticated, "{check:?}");
            let check = key_dump(&survey);
            assert_eq!(check.severity, dumped, "{check:?}");
        }
        let mut terms = terms();
        terms.password = true;
        expect(&authentication(&survey(), &terms), Fine, "is sent one");
    }

    #[test]
    fn open_permissions_are_reported() {
        expect(&shutdown_command(&survey()), Fine, "cannot end");
        let may = with_settings(|config| config.shutdown_command = Some(true));
        expect(&shutdown_command(&may), Warning, "-A");
        expect(&key_dump(&survey()), Fine, "may list");
        let not = with_settings(|config| config.dump_enabled = Some(false));
        expect(&key_dump(&not), Fine, "-X");
        let idle = with_settings(|config| config.lru_crawler = Some(false));
        expect(&key_dump(&idle), Note, "cannot be listed");
        let silent = with_settings(|config| config.dump_enabled = None);
        expect(&key_dump(&silent), Note, "does not report");
    }
}
