//! How does a gateway stand with very many subscriptions, with callbacks that are down or never
//! answer, and with a long log? The real binary, in a process of its own, in scenes:
//!
//! - `idle`, `long`: how long it takes to start, and how fast its events are read and folded;
//! - `backlog, …`: what memory it takes when nothing can be delivered;
//! - `hanging`: whether others wait longer when callbacks never answer;
//! - `soak`: whether it takes more and more as it runs, with a third of the callbacks broken;
//! - `growth`: whether deliveries and questions to the webhook log cost more as it grows.
//!
//! `cargo bench --bench scale`, optionally followed by `-- [rounds] [--only <part of a name>]` and
//! by sizes, which each scene names. The data goes to `TMPDIR`, which must be on the disk that is
//! asked about. A round in which something was lost or came twice is void and ends the program
//! with 3.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that fails has nothing to say"
)]

#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod arguments;
#[path = "scale/backlog.rs"]
mod backlog;
mod body;
mod gateway;
#[path = "scale/growth.rs"]
mod growth;
#[path = "scale/hanging.rs"]
mod hanging;
mod load;
mod measure;
mod sink;
#[path = "scale/soak.rs"]
mod soak;
#[path = "scale/starts.rs"]
mod starts;

use std::{net::Ipv4Addr, process::ExitCode};

use tokio::{net::TcpSocket, runtime::Builder};

use arguments::Arguments;

/// As the command has it: what is read and folded here is as it would be there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Says that a round was void.
const VOID: u8 = 3;

/// A socket that is bound and does not listen, and the URL of its port: calls there are refused, and
/// nobody else gets the port while the socket is there.
fn refusing() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let url = format!("http://{}/", socket.local_addr().unwrap());
    (socket, url)
}

/// Bytes as they are told.
fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

async fn measure_all(arguments: &Arguments) -> Result<(), String> {
    starts::measure(arguments).await;
    backlog::measure(arguments).await?;
    hanging::measure(arguments).await?;
    soak::measure(arguments).await?;
    growth::measure(arguments).await
}

/// Is one of the processes that a scene starts; `false` where it is the benchmark itself.
async fn is_part(arguments: &Arguments) -> bool {
    match *arguments.all() {
        [sink::ARGUMENT, bodies] => sink::serve(bodies).await,
        [load::ARGUMENT, load, first, end] => load::serve(load, first, end).await,
        _ => return false,
    }
    true
}

fn main() -> ExitCode {
    let arguments = Arguments::read();
    rustls::crypto::ring::default_provider()
        .install_default()
        .unwrap();
    // Callbacks and publishers take one of the cores that they share with the gateway, not both.
    let one_thread = Builder::new_current_thread().enable_all().build().unwrap();
    if one_thread.block_on(is_part(&arguments)) {
        return ExitCode::SUCCESS;
    }
    let threads = Builder::new_multi_thread().enable_all().build().unwrap();
    match threads.block_on(measure_all(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(void) => {
            eprintln!("{void}");
            ExitCode::from(VOID)
        }
    }
}
