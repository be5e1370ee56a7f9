//! Children that end with us: each in a process group of its own, ended by its id.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use crate::clock::Start;
use crate::failure::{Failure, Result};

/// How often a wait looks whether it is over.
const POLL: Duration = Duration::from_millis(15);
/// How long a child may take to end by itself before it is killed.
const GRACE: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 5000 });

/// Makes Ctrl-C, TERM and hang-up end the current wait, and so the task, instead of the process.
pub fn watch_signals() {
    system::watch_signals();
}

/// Whether such a signal came.
#[must_use]
pub fn stopped() -> bool {
    system::stopped()
}

/// A child and whatever it starts. Dropping it ends them all.
#[derive(Debug)]
pub struct Running {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Running {
    /// Starts `command` in a process group of its own and without standard input. On Linux it also
    /// ends when the thread that started it does, so that even KILL leaves nothing behind.
    ///
    /// # Errors
    ///
    /// When the program can't be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        system::die_with_parent(command);
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| {
                Failure::new(
                    format!("{program} does not start: {error}"),
                    "install it, or put it on PATH",
                )
            })?;
        Ok(Self { child, ended: None })
    }

    /// Its process id, which is also its group's.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Waits until it ends, a signal comes, or `limit` is over (then `None`).
    ///
    /// # Errors
    ///
    /// [`Failure::Stopped`] on a signal.
    pub fn wait(&mut self, limit: Option<Duration>) -> Result<Option<ExitStatus>> {
        let start = Start::now();
        loop {
            if stopped() {
                return Err(Failure::Stopped);
            }
            if let Some(status) = self.ended() {
                return Ok(Some(status));
            }
            if limit.is_some_and(|limit| start.elapsed() >= limit) {
                return Ok(None);
            }
            thread::sleep(POLL);
        }
    }

    /// Ends it and whatever it started: asks first, and kills what does not obey.
    pub fn end(&mut self) {
        if self.ended().is_some() {
            return;
        }
        let start = Start::now();
        system::signal_group(self.child.id(), system::TERM);
        while self.ended().is_none() && start.elapsed() < GRACE {
            thread::sleep(POLL);
        }
        // The rest of the group: what did not obey, and children that outlived their parent.
        system::signal_group(self.child.id(), system::KILL);
        self.ended = self.child.wait().ok();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs `command` to its end, its output going where ours goes.
///
/// # Errors
///
/// When it can't be started or a signal comes. How it ended is for the caller to judge.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    let mut running = Running::start(command)?;
    loop {
        // Without a limit there is always a status in the end.
        if let Some(status) = running.wait(None)? {
            return Ok(status);
        }
    }
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Captured {
    /// `None` when the time was over before it ended.
    pub status: Option<ExitStatus>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Captured {
    /// Whether it ended in time with success.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// The last line that it printed, which is mostly the reason.
    #[must_use]
    pub fn last_line(&self) -> &str {
        if self.status.is_none() {
            return "no answer in time";
        }
        let mut lines = self
            .stderr
            .lines()
            .rev()
            .chain(self.stdout.lines().rev())
            .map(str::trim);
        lines.find(|line| !line.is_empty()).unwrap_or("no output")
    }
}

/// Runs `command` for at most `limit` and keeps what it prints.
///
/// # Errors
///
/// When it can't be started or a signal comes.
pub fn capture(command: &mut Command, limit: Duration) -> Result<Captured> {
    let mut running = Running::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let stdout = reader(running.child.stdout.take());
    let stderr = reader(running.child.stderr.take());
    let status = running.wait(Some(limit))?;
    // Ends whatever holds the pipes open, so that the readers end too.
    drop(running);
    let text = |reader: thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
    };
    Ok(Captured {
        status,
        stdout: text(stdout),
        stderr: text(stderr),
    })
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _: io::Result<usize> = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// The calls that std has no safe form of. POSIX has had them unchanged for decades, so the C library
/// that std links anyway is declared here instead of depending on a crate that declares it.
#[expect(
    unsafe_code,
    reason = "signal dispositions and process groups are not in std"
)]
mod system {
    use std::ffi::c_int;
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};

    const HANGUP: c_int = 1;
    const INTERRUPT: c_int = 2;
    pub(super) const KILL: c_int = 9;
    pub(super) const TERM: c_int = 15;
    /// `SIG_IGN` as `signal` returns it.
    const IGNORED: usize = 1;

    static STOPPED: AtomicBool = AtomicBool::new(false);

    unsafe extern "C" {
        fn signal(number: c_int, handler: usize) -> usize;
        fn kill(id: c_int, number: c_int) -> c_int;
    }

    extern "C" fn on_signal(_: c_int) {
        STOPPED.store(true, Ordering::SeqCst);
    }

    pub(super) fn watch_signals() {
        let handler = on_signal as extern "C" fn(c_int) as usize;
        for number in [INTERRUPT, TERM, HANGUP] {
            // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
            let before = unsafe { signal(number, handler) };
            if number == HANGUP && before == IGNORED {
                // Started by nohup: a hang-up is not to end it.
                // SAFETY: as above; this puts back what was there.
                unsafe { signal(number, IGNORED) };
            }
        }
    }

    pub(super) fn stopped() -> bool {
        STOPPED.load(Ordering::SeqCst)
    }

    /// Signals every process of the group `id`. A group that is gone is no error.
    pub(super) fn signal_group(id: u32, number: c_int) {
        // 0 and 1 would mean our own group and every process there is.
        if let Some(group) = c_int::try_from(id)
            .ok()
            .filter(|id| *id > 1)
            .and_then(c_int::checked_neg)
        {
            // SAFETY: takes two integers and touches no memory of ours.
            unsafe { kill(group, number) };
        }
    }

    #[cfg(target_os = "linux")]
    pub(super) fn die_with_parent(command: &mut Command) {
        use std::ffi::c_ulong;
        use std::os::unix::process::CommandExt;

        const PR_SET_PDEATHSIG: c_int = 1;
        unsafe extern "C" {
            fn prctl(option: c_int, ...) -> c_int;
        }
        // SAFETY: between fork and exec only prctl(2) is called, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                prctl(PR_SET_PDEATHSIG, c_ulong::from(TERM.unsigned_abs()));
                Ok(())
            });
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn die_with_parent(_: &mut Command) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn captures_both_streams_and_the_status() {
        let captured = capture(&mut shell("echo out; echo err >&2; exit 3"), LONG).unwrap();
        assert_eq!(
            (captured.stdout.as_str(), captured.stderr.as_str()),
            ("out\n", "err\n")
        );
        assert_eq!(captured.status.unwrap().code(), Some(3));
        assert!(!captured.ok());
        assert_eq!(captured.last_line(), "err");
    }

    #[test]
    fn a_time_limit_ends_the_command() {
        let start = Start::now();
        let captured = capture(&mut shell("sleep 1000"), Duration::from_millis(50)).unwrap();
        assert!(captured.status.is_none() && !captured.ok());
        assert!(start.elapsed() < LONG);
    }

    /// What the child started ends too, and what ignores TERM is killed.
    #[test]
    fn dropping_ends_the_whole_group() {
        let mut running = Running::start(
            shell("trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000").stdout(Stdio::piped()),
        )
        .unwrap();
        let mut line = String::new();
        io::BufRead::read_line(
            &mut io::BufReader::new(running.child.stdout.take().unwrap()),
            &mut line,
        )
        .unwrap();
        assert!(alive(line.trim()) && alive(&running.id().to_string()));
        let id = running.id().to_string();
        drop(running);
        assert!(!alive(&id));
        // A grandchild is reaped by init, some moments later.
        let start = Start::now();
        while alive(line.trim()) {
            assert!(start.elapsed() < LONG, "the grandchild {line} lives");
            thread::sleep(POLL);
        }
    }

    /// Whether a process runs; one that is dead and not yet reaped does not.
    fn alive(id: &str) -> bool {
        let state = if cfg!(target_os = "linux") {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned())
        } else {
            let ps = capture(Command::new("ps").args(["-o", "stat=", "-p", id]), LONG).unwrap();
            ps.ok().then(|| ps.stdout.trim().to_owned())
        };
        state.is_some_and(|state| !state.starts_with('Z'))
    }

    #[test]
    fn a_missing_program_is_a_failure_with_a_remedy() {
        let failure = Running::start(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(
            failure
                .to_string()
                .contains("no-such-program-here does not start"),
            "{failure}"
        );
    }
}
