//! Certificates for tests, made when they are needed.

use core::sync::atomic::{AtomicU32, Ordering};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::fs;
use std::path::{Path, PathBuf};

/// A folder that goes with its last user.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("memlatch-certificates-{}-{number}", std::process::id());
        let folder = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(&folder.0).expect("a folder can be made");
        folder
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file can be written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A certificate and its key, as files in PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Pair {
    /// For a server that shows it.
    pub fn options(&self) -> String {
        format!(
            "ssl_chain_cert={},ssl_key={}",
            self.certificate.display(),
            self.key.display()
        )
    }
}

/// The signer of certificates.
pub struct Authority<'f> {
    folder: &'f Folder,
    name: String,
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, as a file in PEM.
    pub file: PathBuf,
}

impl<'f> Authority<'f> {
    pub fn new(folder: &'f Folder, name: &str) -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self {
            folder,
            name: name.to_owned(),
            file: folder.write(&format!("{name}.pem"), certificate.pem()),
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for these DNS names and IP addresses.
    pub fn certificate(&self, names: &[&str]) -> Pair {
        self.special(names, |_| {})
    }

    /// One that was good until the year 2001.
    pub fn expired(&self, names: &[&str]) -> Pair {
        self.special(names, |params| {
            params.not_before = date_time_ymd(2000, 1, 1);
            params.not_after = date_time_ymd(2001, 1, 1);
        })
    }

    fn special(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Pair {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("plain names");
        let called = format!("{} {number}", self.name);
        params.distinguished_name.push(DnType::CommonName, called);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer);
        let certificate = certificate.expect("a certificate").pem();
        let stem = format!("{}-{number}", self.name);
        Pair {
            certificate: self.folder.write(&format!("{stem}.crt"), certificate),
            key: self
                .folder
                .write(&format!("{stem}.key"), key.serialize_pem()),
        }
    }
}
