//! Credentials for the server: a user and a password from a file, certificates from files.

use super::failure::Failure;
use super::files;
use super::headings::CONNECTION;
use memlatch::ClientBuilder;
use std::ffi::OsString;
use std::path::Path;

/// Options about TLS and passwords. Paths are plain strings: those may be empty, as variables are
/// that some tools can unset in no other way.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct ConnectionSecrets {
    /// File with the user and the password for the server: a line each, or user:password
    #[arg(long, global = true, help_heading = CONNECTION, value_name = "FILE", env = "MEMLATCH_AUTH_FILE")]
    auth_file: Option<OsString>,

    /// File with the authorities (PEM) that the server's certificate may come from, for
    /// memcacheds:// [default: those of the system]
    #[arg(long, global = true, help_heading = CONNECTION, value_name = "FILE", env = "MEMLATCH_TLS_CA")]
    tls_ca: Option<OsString>,

    /// File with the certificate (PEM) that the server wants to see
    #[arg(long, global = true, help_heading = CONNECTION, value_name = "FILE", env = "MEMLATCH_TLS_CERT")]
    tls_cert: Option<OsString>,

    /// File with the private key (PEM) of --tls-cert
    #[arg(long, global = true, help_heading = CONNECTION, value_name = "FILE", env = "MEMLATCH_TLS_KEY")]
    tls_key: Option<OsString>,

    /// Name that the server's certificate must be for [default: the host of --server]
    #[arg(long, global = true, help_heading = CONNECTION, value_name = "NAME", env = "MEMLATCH_TLS_NAME")]
    tls_name: Option<String>,
}

/// No file with a user and a password is longer: each has at most 256 bytes.
const LONGEST_FILE: u64 = 1024;

/// The variables that say the same as the options.
const VARIABLES: [&str; 5] = [
    "MEMLATCH_AUTH_FILE",
    "MEMLATCH_TLS_CA",
    "MEMLATCH_TLS_CERT",
    "MEMLATCH_TLS_KEY",
    "MEMLATCH_TLS_NAME",
];

/// An empty variable is one that is not set.
fn given(path: Option<&OsString>) -> Option<&Path> {
    path.filter(|path| !path.is_empty()).map(Path::new)
}

impl ConnectionSecrets {
    /// The same for another process of ours, and the variables that it must not see.
    pub(super) fn words(&self) -> (Vec<OsString>, [&'static str; 5]) {
        let mut words = Vec::new();
        for (option, value) in [
            ("--auth-file", given(self.auth_file.as_ref())),
            ("--tls-ca", given(self.tls_ca.as_ref())),
            ("--tls-cert", given(self.tls_cert.as_ref())),
            ("--tls-key", given(self.tls_key.as_ref())),
            ("--tls-name", self.name().map(Path::new)),
        ] {
            if let Some(value) = value {
                words.extend([option.into(), value.as_os_str().to_owned()]);
            }
        }
        (words, VARIABLES)
    }

    fn name(&self) -> Option<&str> {
        self.tls_name.as_deref().filter(|name| !name.is_empty())
    }

    fn certificate(&self) -> Result<Option<(&Path, &Path)>, Failure> {
        match (given(self.tls_cert.as_ref()), given(self.tls_key.as_ref())) {
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(Failure::usage("--tls-cert needs --tls-key as well")),
            (None, Some(_)) => Err(Failure::usage("--tls-key needs --tls-cert as well")),
        }
    }

    #[cfg(feature = "tls")]
    fn tls<F>(&self, mut builder: ClientBuilder<F>) -> Result<ClientBuilder<F>, Failure> {
        if let Some(file) = given(self.tls_ca.as_ref()) {
            builder = builder.tls_ca_file(file);
        }
        if let Some((certificate, key)) = self.certificate()? {
            builder = builder.tls_client_certificate(certificate, key);
        }
        if let Some(name) = self.name() {
            builder = builder.tls_server_name(name);
        }
        Ok(builder)
    }

    #[cfg(not(feature = "tls"))]
    fn tls<F>(&self, builder: ClientBuilder<F>) -> Result<ClientBuilder<F>, Failure> {
        let certificate = self.certificate()?.is_some();
        if certificate || self.name().is_some() || given(self.tls_ca.as_ref()).is_some() {
            return Err(Failure::usage(
                "this memlatch was built without TLS; cargo install memlatch --features cli,tls \
                 builds one that has it",
            ));
        }
        Ok(builder)
    }
}

/// Sets the options of a client.
pub(super) fn apply<F>(
    secrets: &ConnectionSecrets,
    mut builder: ClientBuilder<F>,
) -> Result<ClientBuilder<F>, Failure> {
    if let Some(path) = given(secrets.auth_file.as_ref()) {
        let (user, password) = account(path)?;
        builder = builder.auth(user, password);
    }
    secrets.tls(builder)
}

/// The user and the password in a file. Nothing that it holds is part of an error.
fn account(path: &Path) -> Result<(String, String), Failure> {
    let fail = |why: &str| Failure::usage(format!("--auth-file {}: {why}", path.display()));
    let text = files::read_text(path, LONGEST_FILE).map_err(|why| fail(&why))?;
    parse(&text).ok_or_else(|| {
        fail("it must hold the user and the password, a line each, or one line user:password")
    })
}

fn parse(text: &str) -> Option<(String, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let (user, password) = match lines[..] {
        [line] => line.split_once(':')?,
        [user, password] => (user, password),
        _ => return None,
    };
    (!user.is_empty() && !password.is_empty()).then(|| (user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_account_notations_parse() {
        let found = Some(("user".to_owned(), "pass:word".to_owned()));
        for text in [
            "user:pass:word",
            "user:pass:word\n",
            "user\npass:word",
            "user\r\npass:word\r\n",
        ] {
            assert_eq!(parse(text), found, "{text:?}");
        }
        for text in ["", "\n", "user", "user:", ":word", "user\n\n", "a\nb\nc\n"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
