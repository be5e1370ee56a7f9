//! The SDK's logger panics when a line is refused, and its panic hook prints messages. The filter has
//! its own of both.

use portcullis_host::{Fault, HostCall, LogLevel, Plugin, Settings, Status};

use crate::{POLICY, get, send, world};

#[test]
fn a_refused_line_is_a_lost_line() {
    let (mut world, root) = world(Settings::default());
    world.clear_logs();
    let worker = world.worker(0).unwrap();
    for status in (0..=20).chain([255, u32::MAX]).map(Status) {
        worker.fault(Fault::new(HostCall::Log, status));
        assert_eq!(send(worker, root, &get()).status(), 200);
        let wrong = get().header("authorization", "Bearer wrong");
        assert_eq!(send(worker, root, &wrong).status(), 401);
        worker.configure(&Plugin::new("other", POLICY)).unwrap();
        worker.configure(&Plugin::new("third", "")).unwrap_err();
        worker.clear_faults();
    }
    assert!(worker.calls().of(HostCall::Log) > 80);
    assert_eq!(world.logs(), []);
}

#[test]
fn lines_below_the_hosts_level_are_not_written() {
    for (level, lines) in [
        (LogLevel::Trace, 2),
        (LogLevel::Debug, 2),
        (LogLevel::Info, 1),
        (LogLevel::Warn, 0),
        (LogLevel::Critical, 0),
    ] {
        let settings = Settings {
            log_level: level,
            ..Settings::default()
        };
        let (mut world, root) = world(settings);
        let worker = world.worker(0).unwrap();
        send(worker, root, &get());
        // The policy in force is at info, a decision at debug.
        let logs = world.logs();
        let ours = logs.iter().filter(|line| line.worker == 0).count();
        assert_eq!(ours, lines, "{level:?}: {logs:?}");
    }
}
