//! `cargo xtask up`: the gate on this machine, with a demo upstream behind it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use portcullis_upstream::Upstream;

use crate::certificate::Certificate;
use crate::clock::Start;
use crate::demo::{self, Subject};
use crate::edge::Edge;
use crate::envoy::{self, Envoy};
use crate::failure::{Failure, Result};
use crate::options::{Host, Options};
use crate::process::{self, Running};
use crate::template::{self, Policy, Settings};
use crate::tools;
use crate::wasm;
use crate::workspace::{self, Workspace};

pub use crate::options::USAGE;

/// Runs the command: returns when a signal ends it.
///
/// # Errors
///
/// When something can't be had, built or started, or ends by itself.
pub fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments)?;
    let policy = Document::read(workspace, options.policy.as_deref())?;
    require_free(options.port, "--port")?;
    if options.host != Some(Host::Wasmtime) {
        require_free(options.admin_port, "--admin-port")?;
        require_free(options.tls_port, "--tls-port")?;
    }
    // The two take turns at the network and the processor: side by side is faster.
    let (module, envoy) = thread::scope(|scope| {
        let envoy = scope.spawn(|| match options.host {
            Some(Host::Wasmtime) => None,
            _ => Some(envoy::obtain(workspace)),
        });
        (wasm::build(workspace), envoy.join().unwrap_or(None))
    });
    let module = module?;
    let folder = logs(workspace);
    let served = match envoy {
        Some(Ok(envoy)) => serve_by_envoy(workspace, &options, &policy, &module, &envoy, &folder),
        Some(Err(Failure::Stopped)) => Err(Failure::Stopped),
        // One that was asked for is not replaced by something else.
        Some(Err(failure)) if options.host.is_some() || envoy::asked().is_some() => Err(failure),
        Some(Err(failure)) => {
            eprintln!("no Envoy here, so our own host serves: {failure}");
            serve_by_wasmtime(workspace, &options, &policy, &module, &folder)
        }
        None => serve_by_wasmtime(workspace, &options, &policy, &module, &folder),
    };
    match served {
        // What was asked for: nothing is left to look at.
        Err(Failure::Stopped) => {
            let _ = fs::remove_dir_all(&folder);
            Ok(())
        }
        other => other,
    }
}

/// A folder for this run. Those of runs that failed are kept until the next one.
fn logs(workspace: &Workspace) -> PathBuf {
    let all = workspace.target().join("up");
    for old in fs::read_dir(&all).into_iter().flatten().flatten() {
        // Where there is no /proc, nobody can say whose folder it is.
        let ended =
            Path::new("/proc/self").exists() && !Path::new("/proc").join(old.file_name()).exists();
        if ended {
            let _ = fs::remove_dir_all(old.path());
        }
    }
    all.join(std::process::id().to_string())
}

/// The policy that is served.
struct Document {
    /// Absolute: the hosts run in the repository, wherever we were called.
    path: PathBuf,
    text: String,
    subject: Subject,
}

impl Document {
    fn read(workspace: &Workspace, path: Option<&Path>) -> Result<Self> {
        let demo = workspace.policy();
        let path = path.unwrap_or(&demo);
        let path = path
            .canonicalize()
            .map_err(|error| Failure::file(path, &error))?;
        let subject = if path == demo {
            Subject::Demo
        } else {
            Subject::Other
        };
        Ok(Self {
            text: workspace::read(&path)?,
            path,
            subject,
        })
    }

    fn syntax(&self) -> Policy<'_> {
        let json = self
            .path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        if json {
            Policy::Json(&self.text)
        } else {
            Policy::Yaml(&self.text)
        }
    }
}

/// Two Envoys on one port do not fail: the kernel deals the connections out to both. So a port that
/// somebody listens on is refused here.
fn require_free(port: u16, flag: &str) -> Result<()> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(Failure::new(
            format!("port {port} on 127.0.0.1 is taken"),
            format!("end what listens there, or choose another with {flag} N (0 = any free one)"),
        )),
        Err(error) => Err(Failure::new(
            format!("port {port} on 127.0.0.1: {error}"),
            format!("choose another with {flag} N (0 = any free one)"),
        )),
    }
}

fn serve_by_envoy(
    workspace: &Workspace,
    options: &Options,
    policy: &Document,
    module: &Path,
    envoy: &Envoy,
    folder: &Path,
) -> Result<()> {
    let upstream = Upstream::start((Ipv4Addr::LOCALHOST, 0).into())
        .map_err(|error| Failure::new(format!("the demo upstream: {error}"), "free some ports"))?;
    let template = workspace::read(&workspace.envoy_yaml())?;
    let certificate = Certificate::obtain(workspace)?;
    let settings = Settings {
        port: Some(options.port),
        admin_port: Some(options.admin_port),
        upstream_port: Some(upstream.address().port()),
        tls: Some(certificate.on(options.tls_port)),
        wasm: Some(utf8(module)?),
        policy: Some(policy.syntax()),
    };
    let config = template::render(&template, &settings)?;
    let mut edge = Edge::start(&envoy.path, &config, folder, None)?;
    announce(
        &[
            &format!(
                "Envoy {} ({}), admin http://{}",
                envoy.version,
                envoy.source,
                edge.admin()
            ),
            &format!(
                "logs: {}, {}",
                workspace.short(&folder.join("envoy.log")),
                workspace.short(&folder.join("access.log")),
            ),
        ],
        edge.address(),
        Some(edge.tls()),
        policy.subject,
    )?;
    loop {
        if process::stopped() {
            return Err(Failure::Stopped);
        }
        if let Some(status) = edge.ended() {
            return Err(Failure::new(
                format!("Envoy ended by itself ({status})"),
                format!("read {}", folder.join("envoy.log").display()),
            ));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn serve_by_wasmtime(
    workspace: &Workspace,
    options: &Options,
    policy: &Document,
    module: &Path,
    folder: &Path,
) -> Result<()> {
    const HOST: [&str; 4] = ["--package", "portcullis-host", "--bin", "portcullis-host"];
    eprintln!("building the wasmtime host (the first time takes minutes)");
    let mut build = tools::cargo();
    build
        .arg("build")
        .args(HOST)
        .current_dir(workspace.root())
        .stdout(io::stderr());
    if !process::status(&mut build)?.success() {
        return Err(Failure::new(
            "the wasmtime host does not build",
            "read the compiler's messages above",
        ));
    }
    let log = folder.join("host.log");
    workspace::write(&log, "")?;
    let output = File::options().append(true).open(&log);
    let output = output.and_then(|file| Ok((Stdio::from(file.try_clone()?), Stdio::from(file))));
    let (stdout, stderr) = output.map_err(|error| Failure::file(&log, &error))?;
    let mut serve = tools::cargo();
    serve
        .args(["run", "--quiet"])
        .args(HOST)
        .args(["--", "serve", "--wasm"])
        .arg(module);
    serve
        .arg("--policy")
        .arg(&policy.path)
        .args(["--port", &options.port.to_string()]);
    let mut host = Running::start(
        serve
            .current_dir(workspace.root())
            .stdout(stdout)
            .stderr(stderr),
    )?;

    let start = Start::now();
    let address = loop {
        let answers = |address: &SocketAddr| {
            TcpStream::connect_timeout(address, Duration::from_millis(200)).is_ok()
        };
        if let Some(address) = announced(&log).filter(answers) {
            break address;
        }
        if process::stopped() {
            return Err(Failure::Stopped);
        }
        if host.ended().is_some() || start.elapsed() > Duration::from_secs(60) {
            return Err(Failure::new(
                format!("the wasmtime host does not serve\n{}", tail(&log)),
                format!(
                    "change what it names; its whole output is {}",
                    log.display()
                ),
            ));
        }
        thread::sleep(Duration::from_millis(50));
    };
    announce(
        &[
            "the wasmtime host",
            &format!("log: {}", workspace.short(&log)),
        ],
        address,
        None,
        policy.subject,
    )?;
    match host.wait(None)? {
        None => Ok(()),
        Some(status) => Err(Failure::new(
            format!(
                "the wasmtime host ended by itself ({status})\n{}",
                tail(&log)
            ),
            format!("read {}", log.display()),
        )),
    }
}

/// The address that the host says it listens on.
fn announced(log: &Path) -> Option<SocketAddr> {
    let text = fs::read_to_string(log).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("listening on http://")?.parse().ok())
}

/// The last lines of a log, indented.
fn tail(log: &Path) -> String {
    let text = workspace::read(log).unwrap_or_default();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let first = lines.len().saturating_sub(12);
    let last = lines.get(first..).unwrap_or_default();
    last.iter().map(|line| format!("  {line}\n")).collect()
}

/// Says where to go and what to try. What machines read comes last: the addresses and the commands.
fn announce(
    about: &[&str],
    address: SocketAddr,
    tls: Option<SocketAddr>,
    subject: Subject,
) -> Result<()> {
    let address = format!("http://{address}");
    let mut text = String::new();
    for line in about {
        text.push_str(line);
        text.push('\n');
    }
    text.push_str(&format!("listening on {address}\n"));
    let tls = tls.map(|tls| format!("https://{tls}"));
    if let Some(tls) = &tls {
        text.push_str(&format!("listening on {tls}\n"));
    }
    let over_tls = tls.map(|tls| demo::trial_over_tls(subject, &tls));
    let trials = demo::trials(subject, &address);
    for demo::Trial { about, command } in trials.into_iter().chain(over_tls) {
        text.push_str(&format!("# {about}\n{command}\n"));
    }
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::new(format!("standard output: {error}"), "give it a place to go"))
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Failure::new(
            format!("{} is no UTF-8", path.display()),
            "move the repository to a path that is",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_the_way_out() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let failure = require_free(port, "--port").unwrap_err().to_string();
        assert!(
            failure.contains(&format!("port {port} on 127.0.0.1 is taken")),
            "{failure}"
        );
        assert!(failure.contains("--port N"), "{failure}");
        drop(taken);
        require_free(port, "--port").unwrap();
        require_free(0, "--port").unwrap();
    }
}
