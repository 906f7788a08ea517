//! The processes that want locks, as their driver sees them.

use super::history::event::{Fate, What};
use super::history::recorder::{Recorder, now};
use super::plan::Post;
use super::rng::Rng;
use core::time::Duration;
use rustix::process::{Pid, Signal, kill_process};
use std::env;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Instant;

/// One of them. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    post: Post,
    stopped: bool,
}

impl Worker {
    /// This test binary once more, as one of its functions alone.
    pub(crate) fn start(post: Post) -> Self {
        let mut command = Command::new(env::current_exe().expect("this binary"));
        command
            .args(["--ignored", "--exact", "worker", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        post.tell(&mut command);
        Self {
            child: command.spawn().expect("this binary can be run"),
            post,
            stopped: false,
        }
    }

    pub(crate) fn post(&self) -> &Post {
        &self.post
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    fn signal(&self, signal: Signal) {
        // Not reaped yet, so no other process has this pid.
        kill_process(Pid::from_child(&self.child), signal).expect("our child");
    }

    fn write(&self, recorder: &Recorder, at: u64, fate: Fate) {
        recorder.write_about(self.post.process, at, 0, 0, What::Process(fate));
    }

    pub(crate) fn stop(&mut self, recorder: &Recorder) {
        self.write(recorder, now(), Fate::Stopped);
        self.signal(Signal::STOP);
        self.stopped = true;
    }

    pub(crate) fn go_on(&mut self, recorder: &Recorder) {
        self.signal(Signal::CONT);
        self.write(recorder, now(), Fate::Continued);
        self.stopped = false;
    }

    pub(crate) fn kill(&mut self, recorder: &Recorder) {
        self.write(recorder, now(), Fate::Killed);
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
    }

    /// The exit status, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our child")
    }

    /// Tells it to leave.
    fn dismiss(&mut self) {
        drop(self.child.stdin.take());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets all go on and leave. Returns what was wrong with that.
pub(crate) fn dismiss(crew: &mut [Worker], recorder: &Recorder, limit: Duration) -> Vec<String> {
    let mut wrong = Vec::new();
    for worker in crew.iter_mut() {
        if worker.stopped {
            worker.go_on(recorder);
        }
        worker.dismiss();
    }
    let began = Instant::now();
    for worker in crew {
        let process = worker.post.process;
        loop {
            match worker.ended() {
                Some(status) if status.success() => break,
                Some(status) => {
                    wrong.push(format!("process {process} ended with {status}"));
                    break;
                }
                None if began.elapsed() > limit => {
                    wrong.push(format!("process {process} does not leave"));
                    worker.kill(recorder);
                    break;
                }
                None => sleep(Duration::from_millis(10)),
            }
        }
    }
    wrong
}

/// Which of them to do something to.
pub(crate) fn choose(crew: &[Worker], dice: &mut Rng) -> usize {
    dice.below(crew.len() as u64) as usize
}
