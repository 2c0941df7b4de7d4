//! Tests of Tickr as a whole: one program, one captioned module for each capability.

mod bounds;
#[path = "../../fuzz/laws/connection.rs"]
mod caller;
mod client;
mod cluster;
mod commands;
mod database;
mod database_local;
mod database_owner;
mod database_tls;
mod deadlines;
mod dialect;
mod docs;
mod errno;
mod framing;
mod fuzz_laws;
mod harness;
mod imposter;
mod logs;
mod metrics;
mod node;
mod openapi;
mod outages;
mod readme;
mod request_laws;
mod runbooks;
mod serving;
mod settings;
mod shutdown;
mod support;
mod systemd;
mod taste;
mod tickets;
