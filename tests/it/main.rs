//! Behaviours of hooklog, one module each.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop where it stands"
)]

mod cli;
mod cli_jobs;
mod cli_repair;
mod cli_server;
mod cli_transfer;
mod console;
mod crash;
mod delivery_bounds;
mod delivery_calls;
mod delivery_egress;
mod delivery_faults;
mod delivery_tls;
mod delivery_tokens;
mod demo;
mod directory_golden;
mod gravitee_import;
mod hostile_gateway;
mod http_access;
mod http_consumer;
mod http_disk;
mod http_explain;
mod http_jobs;
mod http_limits;
mod http_management;
mod http_metrics;
mod http_pages;
mod http_retention;
mod http_secrets;
mod log_conformance;
mod log_crash;
mod log_damage;
mod log_directory;
mod log_golden;
mod log_history;
mod log_reading;
mod machine_faults;
mod overload;
mod power;
mod power_gateway;
mod projection_deliveries;
mod projection_engine;
mod projection_figures;
mod readme;
mod runtime_clock;
mod runtime_damage;
mod runtime_deliveries;
mod runtime_disk;
mod runtime_filters;
mod runtime_jobs;
mod runtime_privacy;
mod runtime_retention;
mod runtime_settings;
mod runtime_snapshots;
mod runtime_tokens;
mod runtime_views;
mod serve;
mod simulation;
mod small_disk;
mod subscription_driver;
mod subscription_flight;
mod subscription_lives;
mod subscription_rules;
mod support;
mod telemetry;
mod walls;
