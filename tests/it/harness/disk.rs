//! A small file system of the test's own, to fill up or to make read-only.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// A file system in memory that only programs see which are started in it. It needs no rights: the
/// user is root in a namespace of its own.
pub struct Disk {
    /// Keeps the namespaces, and with them the file system, until its standard input is closed.
    holder: Child,
    mount_point: TempDir,
}

impl Disk {
    /// With a size as `mount` writes it, such as `2m`.
    pub fn new(size: &str) -> Self {
        const HOLD: &str =
            r#"mount -t tmpfs -o "size=$2,mode=700" tmpfs "$1" && echo mounted && exec cat"#;
        let mount_point = tempfile::tempdir().unwrap();
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", HOLD, "sh"])
            .arg(mount_point.path())
            .arg(size)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line != "mounted\n" {
            let mut reason = String::new();
            holder.stderr.take().unwrap().read_to_string(&mut reason).unwrap();
            panic!(
                "this test needs user and mount namespaces (`unshare --user --mount`): {reason}"
            );
        }
        Self { holder, mount_point }
    }

    /// Where a file is for the programs in it.
    pub fn inside(&self, file: &str) -> PathBuf {
        self.mount_point.path().join(file)
    }

    /// Where the same file is for the test.
    pub fn outside(&self, file: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.inside(file).strip_prefix("/").unwrap())
    }

    /// The command, in it.
    pub fn command(&self, program: &Command) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.holder.id().to_string(), "--user", "--mount"])
            .args(["--preserve-credentials", "--"])
            .arg(program.get_program())
            .args(program.get_args())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Has no file in it created or changed from now on; none may be open for that.
    pub fn make_read_only(&self) {
        let mut mount = Command::new("mount");
        mount.args(["-o", "remount,bind,ro"]).arg(self.mount_point.path());
        let output = self.command(&mount).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let mut file = fs::File::create(self.outside("filler")).unwrap();
        let error = loop {
            if let Err(error) = file.write_all(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }

    /// Gives back what [`Self::fill`] has taken.
    pub fn make_room(&self) {
        fs::remove_file(self.outside("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
