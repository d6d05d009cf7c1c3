//! A URL that is kept in a file, and changes there: a password that is rotated.

use std::{path::PathBuf, time::Duration};

use tracing::{error, info};

use super::SqlStore;
use crate::store::Url;

/// How often the file is read. It is small, and reading it also sees a Secret of Kubernetes change,
/// where a symlink in a folder above is swapped.
const INTERVAL: Duration = Duration::from_secs(1);

impl SqlStore {
    /// Has new connections to the database made with the URL that `file` holds at the time;
    /// connections that exist stay. Never returns. A file that cannot be used changes nothing, and
    /// is logged.
    pub async fn follow_url_file(self, file: PathBuf) {
        let mut seen = tokio::fs::read_to_string(&file).await.ok();
        loop {
            tokio::time::sleep(INTERVAL).await;
            let Ok(content) = tokio::fs::read_to_string(&file).await else { continue };
            if seen.as_deref() == Some(content.as_str()) {
                continue;
            }
            let file = file.display();
            match content.trim().parse() {
                Ok(Url::Sql(url)) if self.pools.set_url(&url) => {
                    info!(%file, "new connections to the database use the changed URL");
                }
                Ok(_) => {
                    error!(%file, "the changed URL is of another kind of store: restart to use it");
                }
                Err(error) => error!(%file, %error, "the changed URL cannot be used"),
            }
            seen = Some(content);
        }
    }
}
