//! The same from both APIs: connect, take a lock, give it back.

use core::fmt::{Debug, Write as _};
use core::time::Duration;
use memlatch::{ClientBuilder, ErrorKind, LockError, ReleaseOutcome};

/// The settings of both APIs besides the address.
#[derive(Clone, Default)]
pub struct Options {
    pub auth: Option<(String, String)>,
    pub protocol: Option<memlatch::Protocol>,
    #[cfg(feature = "tls")]
    pub ca_file: Option<std::path::PathBuf>,
    #[cfg(feature = "tls")]
    pub certificate: Option<(std::path::PathBuf, std::path::PathBuf)>,
    #[cfg(feature = "tls")]
    pub name: Option<String>,
    pub operation_timeout: Option<Duration>,
}

impl Options {
    pub fn auth(user: &str, password: &str) -> Self {
        Self {
            auth: Some((user.to_owned(), password.to_owned())),
            ..Self::default()
        }
    }

    pub fn apply<F>(&self, mut builder: ClientBuilder<F>) -> ClientBuilder<F> {
        builder = builder.restart_guard(false);
        if let Some((user, password)) = &self.auth {
            builder = builder.auth(user, password);
        }
        if let Some(protocol) = self.protocol {
            builder = builder.protocol(protocol);
        }
        if let Some(limit) = self.operation_timeout {
            builder = builder.operation_timeout(limit);
        }
        #[cfg(feature = "tls")]
        {
            if let Some(file) = &self.ca_file {
                builder = builder.tls_ca_file(file);
            }
            if let Some((certificate, key)) = &self.certificate {
                builder = builder.tls_client_certificate(certificate, key);
            }
            if let Some(name) = &self.name {
                builder = builder.tls_server_name(name);
            }
        }
        builder
    }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

/// Takes a lock and gives it back, by the async API.
pub fn by_async(url: &str, options: &Options) -> Result<(), LockError> {
    block_on(async {
        let builder = options.apply(memlatch::Client::builder().server(url));
        let client = builder.build().await?;
        let guard = client.lock("a").acquire().await?;
        assert!(guard.is_valid());
        assert_eq!(guard.release().await?, ReleaseOutcome::Released);
        Ok(())
    })
}

/// Takes a lock and gives it back, by the blocking API.
pub fn by_blocking(url: &str, options: &Options) -> Result<(), LockError> {
    let builder = options.apply(memlatch::blocking::Client::builder().server(url));
    let client = builder.build()?;
    let guard = client.lock("a").acquire()?;
    assert!(guard.is_valid());
    assert_eq!(guard.release()?, ReleaseOutcome::Released);
    // Another flight, on a connection that has been idle.
    assert_eq!(client.holder("a")?, None);
    Ok(())
}

/// Both APIs can lock there.
#[track_caller]
pub fn both_work(url: &str, options: &Options) {
    by_async(url, options).expect("the async api can lock there");
    by_blocking(url, options).expect("the blocking api can lock there");
    both_list(url, options);
}

/// Both APIs find a lock that is held there.
#[track_caller]
fn both_list(url: &str, options: &Options) {
    let builder = options.apply(memlatch::blocking::Client::builder().server(url));
    let client = builder.build().expect("a server");
    let guard = client.lock("listed").acquire().expect("a lock");
    let by_async = block_on(async {
        let builder = options.apply(memlatch::Client::builder().server(url));
        builder.build().await.expect("a server").list("l").await
    });
    for listing in [client.list("l"), by_async] {
        let listing = listing.expect("a list");
        assert!(listing.is_complete);
        assert_eq!(listing.locks.len(), 1);
        assert_eq!(listing.locks[0].name, "listed");
    }
    assert_eq!(
        guard.release().expect("an answer"),
        ReleaseOutcome::Released
    );
}

/// Both APIs refuse, with this kind of error, and all of `parts` in what it says.
#[track_caller]
pub fn both_fail(url: &str, options: &Options, kind: ErrorKind, parts: &[&str]) {
    for result in [by_async(url, options), by_blocking(url, options)] {
        let error = result.expect_err("nothing can be locked there");
        let text = everything(&error);
        assert_eq!(error.kind(), kind, "{text}");
        for part in parts {
            assert!(text.contains(part), "no `{part}` in {text}");
        }
        if let Some((_, password)) = &options.auth {
            assert!(!text.contains(password.as_str()), "{text}");
        }
    }
}

/// All that can be learnt from an error.
pub fn everything<E: core::error::Error + Debug>(error: &E) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = core::error::Error::source(error);
    while let Some(error) = source {
        let _ = write!(text, " {error} {error:?} {error:#?}");
        source = error.source();
    }
    text
}
