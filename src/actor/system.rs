//! The threads that actors live on: actix's system on one, its arbiters on the others.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use actix::{Arbiter, System};
use actix_rt::ArbiterHandle;
use tokio::sync::oneshot;

use crate::delivery::Transport;

/// A thread that actors live on, with its own connections.
pub(super) struct Worker {
    /// Where actors are started.
    pub(super) arbiter: ArbiterHandle,
    /// What their calls go through.
    pub(super) transport: Arc<dyn Transport>,
}

/// The running threads.
pub(super) struct Threads {
    /// One for each core that was asked for.
    pub(super) workers: Vec<Worker>,
    /// The thread that wakes and supervises; no calls are made on it.
    pub(super) control: ArbiterHandle,
    stop: Mutex<Option<Stop>>,
}

struct Stop {
    ask: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Threads {
    /// Starts `count` workers.
    pub(super) fn start(count: usize, transport: &Arc<dyn Transport>) -> io::Result<Self> {
        let (started, handles) = mpsc::sync_channel(1);
        let (ask, asked) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("hooklog-control".to_owned())
            .spawn(move || {
                run(count, &started, asked);
            })?;
        let (control, arbiters) = handles
            .recv()
            .map_err(|_| io::Error::other("the threads of the runtime did not start"))??;
        let workers = arbiters
            .into_iter()
            .map(|arbiter| Worker {
                arbiter,
                transport: Arc::clone(transport).for_worker(),
            })
            .collect();
        Ok(Self {
            workers,
            control,
            stop: Mutex::new(Some(Stop { ask, thread })),
        })
    }

    /// Ends every thread, with whatever lives on it. Blocks until they are gone; a second call
    /// does nothing.
    pub(super) fn stop(&self) {
        let stop = self
            .stop
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(Stop { ask, thread }) = stop {
            // Who waits for it may be gone already.
            let _ = ask.send(());
            if thread.thread().id() != thread::current().id() {
                // A panic of the control thread has been reported by its own hook.
                let _ = thread.join();
            }
        }
    }
}

type Started = io::Result<(ArbiterHandle, Vec<ArbiterHandle>)>;

fn run(count: usize, started: &mpsc::SyncSender<Started>, asked: oneshot::Receiver<()>) {
    let system = System::new();
    let arbiters: io::Result<Vec<Arbiter>> = (0..count).map(|_| Arbiter::try_new()).collect();
    let arbiters = match arbiters {
        Ok(arbiters) => arbiters,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let control = System::current().arbiter().clone();
    let handles = arbiters.iter().map(Arbiter::handle).collect();
    if started.send(Ok((control, handles))).is_err() {
        return;
    }
    // An error means that the runtime was dropped without a shutdown: the same end.
    let _ = system.block_on(asked);
    for arbiter in &arbiters {
        arbiter.stop();
    }
    for arbiter in arbiters {
        let _ = arbiter.join();
    }
}
