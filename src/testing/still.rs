//! A view that falls behind its log, for as long as a test wants it to.

use std::sync::mpsc;

use tokio::{
    sync::oneshot,
    task::{JoinHandle, spawn_blocking},
};

use crate::projection::{Projection, View, ViewError};

/// A view that stands still: whoever reads rows holds up those who write them.
#[derive(Debug)]
pub struct Still {
    held: mpsc::Sender<()>,
    reader: JoinHandle<Result<(), ViewError>>,
}

impl Still {
    /// Holds this view where it is, until [`release`](Self::release).
    pub async fn of<P: Projection>(view: View<P>) -> Self {
        let (held, until) = mpsc::channel::<()>();
        let (reading, read) = oneshot::channel();
        let reader = spawn_blocking(move || {
            view.read(|_| {
                let _ = reading.send(());
                let _ = until.recv();
                Ok(())
            })
        });
        read.await.expect("the view answers");
        Self { held, reader }
    }

    /// Lets it go on.
    pub async fn release(self) {
        drop(self.held);
        let read = self.reader.await.expect("its reader does not panic");
        read.expect("the view answers");
    }
}
