//! The SQLite file: readable by its owner alone, and still the one that its path names.
//!
//! A file that is removed or replaced lives on for whoever has it open: SQLite goes on reading and
//! writing there, in WAL mode without a word, and all of that is gone with the last connection.

use std::{
    fmt,
    fs::{self, Metadata, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// The file that was opened.
#[derive(Debug, Clone)]
pub(super) struct File {
    path: PathBuf,
    id: Id,
}

/// What tells a file from all others as long as a connection has it open: device and inode.
type Id = (u64, u64);

fn id(metadata: &Metadata) -> Id {
    (metadata.dev(), metadata.ino())
}

impl File {
    /// Creates the file if it is missing, for its owner alone; SQLite gives its companions the mode
    /// of the file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(path)?;
        Ok(Self { path: path.to_owned(), id: id(&file.metadata()?) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still names it. One system call, which finds its answer in memory.
    pub(super) fn check(&self) -> Result<(), Displaced> {
        let path = || self.path.clone();
        match fs::metadata(&self.path) {
            Ok(metadata) if id(&metadata) == self.id => Ok(()),
            Ok(_) => Err(Displaced::Replaced(path())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Displaced::Gone(path())),
            Err(error) => Err(Displaced::Hidden(path(), error.kind())),
        }
    }
}

/// The path does not lead to the file any more.
#[derive(Debug)]
pub(super) enum Displaced {
    Gone(PathBuf),
    Replaced(PathBuf),
    Hidden(PathBuf, io::ErrorKind),
}

impl fmt::Display for Displaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(path) => write!(
                f,
                "the SQLite file {} is gone: put it back, or restart to begin with an empty one",
                path.display()
            ),
            Self::Replaced(path) => write!(
                f,
                "{} is not the SQLite file that was opened: put that back, or restart to use this one",
                path.display()
            ),
            Self::Hidden(path, error) => {
                write!(f, "the SQLite file {} cannot be found: {error}", path.display())
            }
        }
    }
}
