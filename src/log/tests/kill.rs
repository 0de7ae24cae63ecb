//! A process that is killed while it appends, on a real disk: what it said to be appended is there.

use super::*;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

const DIR: &str = "WEIR_LOG_KILL_TEST_DIR";

/// Not a test: the process that [`acknowledged_records_survive_kill_9`] starts and kills.
#[test]
#[ignore = "is started by another test"]
fn child() {
    let dir = std::env::var(DIR).expect("only acknowledged_records_survive_kill_9 runs this");
    let options = LogOptions {
        segment_bytes: 1 << 16,
        group_bytes_max: 1 << 14,
        append_bytes_max: 1 << 14,
        queue_bytes_max: 1 << 20,
        ..options()
    };
    let (log, _) = Log::open(dir.as_ref(), options, Clock::system()).unwrap();
    let append = |thread: u16| {
        for n in 0u64.. {
            let body = format!("{thread} {n} of {}", std::process::id());
            let partition = (u64::from(thread) + n) % 3;
            let offset = log.append_blocking(vec![record(partition as u16, body.as_bytes())]).unwrap()[0];
            let line = format!("acknowledged {partition} {offset} {body}\n");
            if std::io::stdout().lock().write_all(line.as_bytes()).is_err() {
                return;
            }
        }
    };
    std::thread::scope(|scope| (0..8).for_each(|thread| _ = scope.spawn(move || append(thread))));
}

#[test]
fn acknowledged_records_survive_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = vec![];
    for round in 0..20 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "log::tests::kill::child", "--ignored", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        acknowledged.extend(lines.by_ref().map_while(Result::ok).filter(|line| line.starts_with("ack")).take(50 + round * 37));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(lines.map_while(Result::ok).filter(|line| line.starts_with("ack")));
    }
    assert!(acknowledged.len() > 20 * 50);
    let options = LogOptions {
        segment_bytes: 1 << 16,
        group_bytes_max: 1 << 14,
        append_bytes_max: 1 << 14,
        queue_bytes_max: 1 << 20,
        ..options()
    };
    let (log, _) = Log::open(dir.path(), options, Clock::system()).unwrap();
    let held: Vec<Vec<RawRecord>> = (0..3).map(|p| read_all(&log, p).0).collect();
    let mut checked = 0;
    for line in &acknowledged {
        let mut words = line.splitn(4, ' ').skip(1);
        let mut number = || words.next().and_then(|word| word.parse::<usize>().ok());
        // The last line of a killed process may be cut.
        let (Some(partition), Some(offset)) = (number(), number()) else { continue };
        let Some(body) = words.next().filter(|body| body.split(' ').count() == 4) else { continue };
        let record = held[partition].get(offset).unwrap_or_else(|| panic!("{line} is not in the log"));
        assert_eq!(record.offset, Offset(offset as u64));
        assert!(record.body.starts_with(body.as_bytes()), "{line}: {}", String::from_utf8_lossy(&record.body));
        checked += 1;
    }
    assert!(checked + 20 >= acknowledged.len());
}
