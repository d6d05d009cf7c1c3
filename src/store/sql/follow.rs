//! A URL that is kept in a file, and changes there: a password that is rotated.

use std::{io, path::PathBuf, time::Duration};

use tracing::{error, info};

use super::{SqlStore, Url};

/// How often the file is read. It is small, and reading it also sees a Secret of Kubernetes change,
/// where a symlink in a folder above is swapped.
const INTERVAL: Duration = Duration::from_secs(1);

impl SqlStore {
    /// Has new connections to the database made with the URL that `file` holds at the time;
    /// connections that exist stay. Never returns. A file that cannot be used changes nothing, and
    /// is logged.
    pub async fn follow_url_file(self, file: PathBuf) {
        // What the store was opened with may be older than the file by now: the first look sets
        // the URL in any case.
        let mut seen = None;
        loop {
            let content = tokio::fs::read_to_string(&file).await.map_err(|error| error.kind());
            if seen.as_ref() != Some(&content) {
                let first = seen.is_none();
                match self.use_url(content.as_deref()) {
                    Ok(()) if first => {}
                    Ok(()) => info!(file = %file.display(), "the changed URL is used"),
                    Err(reason) => error!(file = %file.display(), reason, "the URL is kept"),
                }
                seen = Some(content);
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    fn use_url(&self, content: Result<&str, &io::ErrorKind>) -> Result<(), String> {
        let content = content.map_err(|error| format!("the file cannot be read: {error}"))?;
        match content.trim().parse::<Url>() {
            Ok(url) if self.pools.set_url(&url) => Ok(()),
            Ok(_) => Err("it is that of another database: restart to use it".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}
