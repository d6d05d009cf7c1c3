//! `faroe-sidecar dev`: certificates for one machine, and the `curl` lines that use them.
//!
//! The authority's key is thrown away as soon as it has signed both certificates, so that the
//! folder holds nothing that could make more of them; what is near its end is made anew as a
//! whole.

use std::{
    fs,
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::{
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::aws_lc_rs,
    pki_types::{ServerName, UnixTime},
    server::WebPkiClientVerifier,
};
use time::OffsetDateTime;

use crate::tls::{self, ClientFiles, IdentityFiles, ServerFiles};

/// The name of the client certificate, as `--allow-client` writes it.
pub const CLIENT: &str = "dns:faroe";

const LIFETIME: Duration = Duration::from_secs(90 * DAY);
/// With less left than this, a start makes new certificates.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * DAY);
const DAY: u64 = 24 * 60 * 60;

/// The files of the folder.
#[derive(Debug, Clone)]
pub struct Files {
    ca: PathBuf,
    server: IdentityFiles,
    client: IdentityFiles,
    /// The SQLite file.
    pub users: PathBuf,
}

impl Files {
    /// The files in `folder`, whether they are there or not.
    pub fn of(folder: &Path) -> Self {
        let identity = |name: &str| IdentityFiles {
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        };
        Self {
            ca: folder.join("ca.pem"),
            server: identity("server"),
            client: identity("client"),
            users: folder.join("users.sqlite"),
        }
    }

    /// What the endpoint needs of them.
    pub fn server_files(&self) -> ServerFiles {
        let (identity, client_ca) = (self.server.clone(), self.ca.clone());
        ServerFiles { identity, client_ca, client_crl: None }
    }

    /// Whether the certificates can be used, now and for a while.
    fn are_usable(&self) -> bool {
        let now = SystemTime::now();
        let lasts = |file: &Path| {
            tls::validity(file)
                .is_ok_and(|validity| validity.contains(now) && validity.left(now) >= RENEW_BEFORE)
        };
        let client = ClientFiles { ca: Some(self.ca.clone()), identity: Some(self.client.clone()) };
        [&self.ca, &self.server.certificate, &self.client.certificate].into_iter().all(|f| lasts(f))
            && tls::server_config(&self.server_files()).is_ok()
            && tls::client_config(&client).is_ok()
            && self.chain_to_ca().is_ok()
    }
}

/// The names under which the server is called.
const SERVER_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

impl Files {
    /// Whether both certificates are of the authority, and the server's of its names.
    fn chain_to_ca(&self) -> anyhow::Result<()> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = Arc::new(tls::authorities(&self.ca)?);
        let now = UnixTime::now();
        let server = tls::certificates(&self.server.certificate)?;
        let client = tls::certificates(&self.client.certificate)?;
        let (Some(server), Some(client)) = (server.first(), client.first()) else {
            bail!("a file has no certificate")
        };
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()?;
        for name in SERVER_NAMES {
            verifier.verify_server_cert(server, &[], &ServerName::try_from(name)?, &[], now)?;
        }
        WebPkiClientVerifier::builder_with_provider(roots, provider).build()?.verify_client_cert(
            client,
            &[],
            now,
        )?;
        Ok(())
    }
}

/// Renames what is replaced to `NAME.old`: the folder may be somebody's who has files of these names.
fn keep_old(path: &Path) -> io::Result<()> {
    let mut old = path.as_os_str().to_owned();
    old.push(".old");
    match fs::rename(path, old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes the folder and the certificates, or keeps those that are there and last. Whether they were
/// made.
///
/// # Errors
///
/// If a file cannot be written.
pub fn prepare(folder: &Path) -> anyhow::Result<bool> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let files = Files::of(folder);
    if files.are_usable() {
        return Ok(false);
    }
    let made = Material::make().context("cannot make certificates")?;
    for (path, content) in [
        (&files.ca, &made.ca),
        (&files.server.key, &made.server.1),
        (&files.server.certificate, &made.server.0),
        (&files.client.key, &made.client.1),
        (&files.client.certificate, &made.client.0),
    ] {
        keep_old(path).with_context(|| format!("cannot rename {}", path.display()))?;
        write_private(path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(true)
}

/// Written whole or not at all, and readable by its owner alone from the first byte.
fn write_private(path: &Path, content: &str) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// PEM: the authority, and certificate and key of each side.
struct Material {
    ca: String,
    server: (String, String),
    client: (String, String),
}

impl Material {
    fn make() -> Result<Self, rcgen::Error> {
        // Every certificate has a subject of its own: with one for all, OpenSSL, Node and Go take
        // an end certificate for self-signed.
        let mut ca = params(&[], "faroe-sidecar development CA")?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;

        let mut server = params(&SERVER_NAMES, "faroe-sidecar development server")?;
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let mut client = params(&["faroe"], "faroe-sidecar development client")?;
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];

        let sign = |mut params: CertificateParams| {
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.use_authority_key_identifier_extension = true;
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &ca)?;
            Ok::<_, rcgen::Error>((certificate.pem(), key.serialize_pem()))
        };
        Ok(Self { ca: ca.pem(), server: sign(server)?, client: sign(client)? })
    }
}

fn params(names: &[&str], common_name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params =
        CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = OffsetDateTime::now_utc();
    // For clocks that are a little behind.
    params.not_before = now - Duration::from_secs(60 * 60);
    params.not_after = now + LIFETIME;
    Ok(params)
}

/// What to paste: one line that creates a user and one that looks it up.
pub fn curl_lines(files: &Files, endpoint: SocketAddr, path: &str) -> String {
    let ip = match endpoint.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let address = SocketAddr::new(ip, endpoint.port());
    let (host, connect_to) = if SERVER_NAMES.contains(&ip.to_string().as_str()) {
        (address.to_string(), String::new())
    } else {
        // The certificate is not for this address, so the name of the URL is one that it is for.
        (format!("localhost:{}", address.port()), format!(" --connect-to ::{address}"))
    };
    let curl = format!(
        "curl -sS --cacert {} --cert {} --key {}{connect_to} {}",
        quoted(&files.ca.to_string_lossy()),
        quoted(&files.client.certificate.to_string_lossy()),
        quoted(&files.client.key.to_string_lossy()),
        quoted(&format!("https://{host}{path}")),
    );
    // The time makes the email address a new one, however often the line is pasted.
    let create = r#"{"action":"create_user","arguments":{"email_address":"alice-'"$(date +%s%N)"'@example.com","password_hash":"aGFzaA==","password_hash_algorithm_id":"argon2id.65536.3.1.32","password_salt":"c2FsdA=="}}"#;
    let get = r#"{"action":"get_user","arguments":{"user_id":"'"$id"'"}}"#;
    let keep_id = r#"id=$(printf '%s' "$answer" | sed -n 's/.*"id":"\([^"]*\)".*/\1/p')"#;
    format!(
        "Create a user (its ID is kept in $id):\n\n\
         answer=$({curl} -d '{create}'); printf '%s\\n' \"$answer\"; {keep_id}\n\n\
         Look the user up:\n\n\
         {curl} -d '{get}'; echo\n"
    )
}

/// A word for a shell, in quotes only if it needs them.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_there_and_lasts_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("new/folder");
        assert!(prepare(&folder).unwrap());
        let before = fs::read(folder.join("server.pem")).unwrap();
        assert!(!prepare(&folder).unwrap());
        assert_eq!(fs::read(folder.join("server.pem")).unwrap(), before);
    }

    #[test]
    fn what_is_broken_or_missing_or_does_not_fit_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        prepare(folder).unwrap();
        for name in ["ca.pem", "server.pem", "server.key", "client.pem", "client.key"] {
            fs::write(folder.join(name), "broken").unwrap();
            assert!(prepare(folder).unwrap(), "{name} broken");
            fs::remove_file(folder.join(name)).unwrap();
            assert!(prepare(folder).unwrap(), "{name} missing");
        }
        fs::copy(folder.join("client.key"), folder.join("server.key")).unwrap();
        assert!(prepare(folder).unwrap(), "a key that is not the certificate's");
        let other = tempfile::tempdir().unwrap();
        prepare(other.path()).unwrap();
        for side in ["server", "client"] {
            for end in ["pem", "key"] {
                let name = format!("{side}.{end}");
                fs::copy(other.path().join(&name), folder.join(&name)).unwrap();
            }
            assert!(prepare(folder).unwrap(), "a {side} of another authority");
        }
        assert!(Files::of(folder).are_usable());
    }

    #[test]
    fn a_certificate_near_its_end_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut ending = params(&["localhost"], "ending").unwrap();
        ending.not_after = OffsetDateTime::now_utc() + RENEW_BEFORE - Duration::from_secs(60);
        let files = Files::of(folder.path());
        fs::write(&files.server.certificate, ending.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(&files.server.key, key.serialize_pem()).unwrap();
        assert!(prepare(folder.path()).unwrap());
        let old = fs::read_to_string(folder.path().join("server.key.old")).unwrap();
        assert_eq!(old, key.serialize_pem(), "what was there is kept beside");
    }

    #[test]
    fn files_are_their_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("dev");
        prepare(&folder).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        for file in fs::read_dir(&folder).unwrap() {
            assert_eq!(mode(&file.unwrap().path()), 0o600);
        }
        assert!(!folder.join("ca.key").exists());
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted(".faroe-sidecar/ca.pem"), ".faroe-sidecar/ca.pem");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("https://[::1]:1/"), "'https://[::1]:1/'");
    }
}
