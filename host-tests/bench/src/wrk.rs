//! wrk, the client: many connections, one thread, as fast as it is answered.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use xtask::failure::{Failure, Result};
use xtask::{process, tools, workspace};

use crate::placement::Placement;
use crate::policy::HOST;

/// wrk, ready to run.
#[derive(Clone, Debug)]
pub(crate) struct Wrk {
    program: PathBuf,
    script: PathBuf,
    posts: PathBuf,
    placement: Placement,
    workers: u32,
}

/// Whose keys are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) prefix: &'static str,
    pub(crate) count: u32,
    /// Where the walk over them begins.
    pub(crate) first: u64,
}

/// Which bodies are sent, and where to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Posts<'a> {
    pub(crate) path: &'a str,
    pub(crate) key: &'a str,
    pub(crate) bodies: &'a Path,
    /// Where the walk over them begins.
    pub(crate) first: u64,
    pub(crate) connections: &'static str,
    /// Milliseconds before each request of a connection.
    pub(crate) pause: u32,
}

/// What wrk counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Counted {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    pub(crate) latency: Latency,
}

/// How long requests took, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Latency {
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) longest: f64,
}

/// Enough to keep a worker busy without a pause.
pub(crate) const CONNECTIONS: &str = "64";

impl Wrk {
    /// Finds it, and writes its script into `folder`.
    ///
    /// # Errors
    ///
    /// When it is not installed.
    pub(crate) fn find(folder: &Path, placement: Placement, workers: u32) -> Result<Self> {
        let program = tools::on_path("wrk").ok_or_else(|| {
            Failure::new(
                "there is no wrk, the benchmark's client",
                "sudo apt-get install -y wrk",
            )
        })?;
        let script = folder.join("walk.lua");
        workspace::write(&script, include_str!("walk.lua"))?;
        let posts = folder.join("post.lua");
        workspace::write(&posts, include_str!("post.lua"))?;
        Ok(Self {
            program,
            script,
            posts,
            placement,
            workers,
        })
    }

    /// Sends for so many seconds.
    ///
    /// # Errors
    ///
    /// When wrk fails, or a connection does.
    pub(crate) fn run(&self, address: SocketAddr, keys: Keys, seconds: u32) -> Result<Counted> {
        let mut command = self.command(address, CONNECTIONS, seconds, &self.script);
        command
            .args([HOST, keys.prefix])
            .args([keys.count.to_string(), keys.first.to_string()]);
        finish(&mut command, seconds)
    }

    /// Sends the bodies of a file, one a line, in turn.
    ///
    /// # Errors
    ///
    /// When wrk fails, or a connection does.
    pub(crate) fn post(
        &self,
        address: SocketAddr,
        posts: Posts<'_>,
        seconds: u32,
    ) -> Result<Counted> {
        let mut command = self.command(address, posts.connections, seconds, &self.posts);
        command
            .args([HOST, posts.path, posts.key])
            .arg(posts.bodies)
            .args([posts.first.to_string(), posts.pause.to_string()]);
        finish(&mut command, seconds)
    }

    fn command(
        &self,
        address: SocketAddr,
        connections: &str,
        seconds: u32,
        script: &Path,
    ) -> Command {
        let mut command = self.placement.client(&self.program, self.workers);
        command
            .args(["-t1", "-c", connections, "-d", &format!("{seconds}s"), "-s"])
            .arg(script)
            .args([&format!("http://{address}/"), "--"]);
        command
    }
}

fn finish(command: &mut Command, seconds: u32) -> Result<Counted> {
    let limit = Duration::from_secs(u64::from(seconds).saturating_add(60));
    let captured = process::capture(command, limit)?;
    let counted = captured.ok().then(|| parse(&captured.stdout)).flatten();
    counted.ok_or_else(|| {
        Failure::new(
            format!("wrk: {}", captured.last_line()),
            "see whether other programs hold the machine's ports or connections",
        )
    })
}

/// The line that the script prints: requests, microseconds, connections that failed, and latencies.
fn parse(output: &str) -> Option<Counted> {
    let line = output
        .lines()
        .find_map(|line| line.strip_prefix("bench "))?;
    let mut numbers = line.split(' ').map(str::parse::<u32>);
    let (requests, microseconds) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    let failed = numbers.next()?.ok()?;
    let mut next = || Some(f64::from(numbers.next()?.ok()?));
    let counted = Counted {
        requests: requests.into(),
        seconds: f64::from(microseconds) / 1e6,
        latency: Latency {
            p99: next()?,
            p999: next()?,
            longest: next()?,
        },
    };
    (failed == 0 && microseconds > 0).then_some(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_script_prints() {
        let output = "Running 1s test\n\nbench 48000 1000250 0 900 1500 7000\n";
        assert_eq!(
            parse(output),
            Some(Counted {
                requests: 48_000,
                seconds: 1.00025,
                latency: Latency {
                    p99: 900.0,
                    p999: 1500.0,
                    longest: 7000.0
                },
            })
        );
        assert_eq!(parse("bench 48000 1000250 3 900 1500 7000\n"), None);
        assert_eq!(parse("unable to connect\n"), None);
    }
}
