//! How does a gateway stand with very many subscriptions, and with a long log? The real binary, in a process of its own, in scenes:
//!
//! - `idle`, `long`: how long it takes to start, and how fast its events are read and folded.
//!
//! `cargo bench --bench scale`, optionally followed by `-- [rounds] [--only <part of a name>]` and
//! by sizes, which each scene names. The data goes to `TMPDIR`, which must be on the disk that is
//! asked about.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that fails has nothing to say"
)]

#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod arguments;
#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod gateway;
#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod measure;
#[path = "scale/starts.rs"]
mod starts;

use arguments::Arguments;

/// Bytes as they are told.
fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

#[tokio::main]
async fn main() {
    rustls::crypto::ring::default_provider()
        .install_default()
        .unwrap();
    starts::measure(&Arguments::read()).await;
}
