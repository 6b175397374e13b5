//! The starter of the test's own process.

use super::*;

fn program(line: &str) -> Program {
    let command = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
    Program { command, environment: vec![("A".into(), "b".into())], user: None }
}

fn run(line: &str) -> End {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let starter = Starter::of_this_process().unwrap();
    runtime.block_on(starter.start(program(line)).end())
}

#[test]
fn ends_are_told_as_they_are() {
    assert_eq!(run("exit 7"), End::Code(7));
    assert_eq!(run("kill -TERM $$"), End::Signal(15));
    assert!(matches!(run(""), End::Code(0)));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let starter = Starter::of_this_process().unwrap();
    let missing = Program { command: vec!["/no/such".into()], ..program("") };
    let end = runtime.block_on(starter.start(missing).end());
    assert!(matches!(&end, End::Refused(why, nix::libc::ENOENT) if why.starts_with("/no/such: ")), "{end:?}");
}

#[test]
fn what_is_started_inherits_nothing() {
    let file = std::fs::File::open("/proc/self/status").unwrap();
    // Without close-on-exec, as a library opens it.
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let line = format!(
        "exec >{} 2>&1; env; pwd; umask; ls -l /proc/$$/fd; grep -E '^(Sig(Blk|Ign)|CapInh)' /proc/self/status",
        out.display()
    );
    let end = run(&line);
    let text = std::fs::read_to_string(out).unwrap();
    assert_eq!(end, End::Code(0), "{text}");
    let descriptors: Vec<_> = text.lines().filter(|line| line.contains(" -> ")).collect();
    assert_eq!(descriptors.len(), 3, "{text}");
    let environment =
        text.lines().take_while(|line| !line.starts_with('/')).filter(|line| line.contains('='));
    let own: Vec<_> = environment
        .filter(|line| {
            !line.starts_with("PWD=")
                && !line.starts_with("_=")
                && !line.starts_with("OLDPWD=")
                && !line.starts_with("SHLVL=")
        })
        .collect();
    assert_eq!(own, ["A=b"], "{text}");
    for wanted in ["\n/\n", "\n0022\n", "SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    drop(file);
}

#[test]
fn the_end_of_the_connection_is_the_end_of_all_that_was_started() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("alive");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let starter = Starter::fork().unwrap();
    // One that hangs, one that left its session, one whose parent is gone, one that ended by itself and left another behind.
    let held = format!("exec 3>{}", pipe.display());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let hanging = [
        format!("{held}; sleep 3600; true"),
        format!("{held}; setsid sleep 3600; true"),
        format!("{held}; (setsid sh -c 'trap \"\" TERM INT HUP; sleep 3600; true' &) ; sleep 3600; true"),
    ]
    .map(|line| starter.start(program(&line)));
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::read(pipe).unwrap()
    });
    assert_eq!(
        runtime.block_on(starter.start(program(&format!("{held}; sleep 3600 & echo ready >&3"))).end()),
        End::Code(0)
    );
    // As the kernel ends it when the director is killed.
    starter.connection.shutdown(Shutdown::Both).unwrap();
    // All that held the pipe are gone.
    assert_eq!(reader.join().unwrap(), b"ready\n");
    starter.end();
    for mut process in hanging {
        assert!(matches!(runtime.block_on(process.end()), End::NoStarter | End::Signal(9)));
    }
    let late = runtime.block_on(starter.start(program("exit 0")).end());
    assert_eq!(late, End::NoStarter);
}

#[test]
fn who_is_dropped_is_killed_with_those_that_left_its_group() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("alive");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let starter = Starter::of_this_process().unwrap();
    let line = format!("exec 3>{}; setsid sh -c 'echo ready >&3; sleep 3600; true'; true", pipe.display());
    let process = starter.start(program(&line));
    use std::io::Read as _;
    let mut file = std::fs::File::open(&pipe).unwrap();
    let mut ready = [0; 6];
    file.read_exact(&mut ready).unwrap();
    drop(process);
    assert_eq!(file.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn a_starter_that_is_held_up_holds_nobody_up_and_takes_no_time_from_scripts() {
    /// More than its connection has room for.
    const ORDERS: usize = 200;
    let starter = Starter::fork().unwrap();
    nix::sys::signal::kill(starter.pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let (sender, ordered) = channel();
    let ordering = starter.clone();
    std::thread::spawn(move || {
        for number in 0..ORDERS {
            let environment = vec![("A".to_owned(), "b".repeat(4096))];
            let program = Program { environment, ..program(&format!("exit {}", number % 7)) };
            let _ = sender.send(ordering.start(program));
        }
    });
    let long = Duration::from_secs(20);
    let mut processes: Vec<Process> = (0..ORDERS).map(|_| ordered.recv_timeout(long).unwrap()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let short = Duration::from_millis(50);
        assert!(tokio::time::timeout(short, processes[0].started()).await.is_err(), "it cannot run yet");
        nix::sys::signal::kill(starter.pid, nix::sys::signal::Signal::SIGCONT).unwrap();
        for (number, process) in processes.iter_mut().enumerate() {
            process.started().await;
            assert_eq!(process.end().await, End::Code((number % 7) as i32));
        }
    });
    starter.end();
}
