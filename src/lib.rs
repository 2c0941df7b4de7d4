//! Tickr gives out unique 64-bit IDs ("tickets") over plain HTTP, backed by MySQL: many nodes,
//! each with its own MySQL and node number, and no coordination between them.
//!
//! One process, one event loop, a few database threads:
//!
//! ```text
//!  clients --TCP / Unix--> +---------------- event loop (main thread, mio) -----------------+
//!                          | socket > node: http > api > allocator > api > http > socket    |
//!                          +------------------------+-----------------------------^---------+
//!                                         next job  |  bounded queues             | outcome,
//!                                                   v                             | mio Waker
//!                               tickr-mysql-0 .. tickr-mysql-N  (blocking connections)
//! ```
//!
//! A request for tickets is never a database job. It waits in one FIFO, in the [`allocator`], which
//! asks MySQL for one block of base ids that serves everybody who waits: 200 requests cost one
//! `UPDATE` and one commit. No ticket leaves before its block is committed.
//!
//! The modules, lowest first; each imports only from those above it:
//!
//! | module | about |
//! |---|---|
//! | [`limits`] | every bound of the program |
//! | [`foreign`] | text from elsewhere, made safe to show |
//! | [`file`] | files that an operator names, read without waiting |
//! | [`ticket`] | base ids to tickets, checked |
//! | [`secret`] | passwords, and where they are read from |
//! | [`moment`] | time as a number |
//! | [`fault`], [`counter`] | what can go wrong with the database; the counter row, and jobs |
//! | [`socket`] | TCP and Unix sockets behind one type |
//! | [`timer`] | waits shorter than a millisecond |
//! | [`http`] | bytes to requests, answers to bytes, one client's state |
//! | [`allocator`] | the FIFO, the blocks, and every decision about the database |
//! | [`database`] | sessions, schema, worker threads, a private MySQL |
//! | [`api`] | what can be asked, and what each answer says |
//! | [`metrics`] | counters and histograms, and their text for Prometheus |
//! | [`notify`] | what systemd is told |
//! | [`node`] | the whole server behind one seam: plain state on a given clock |
//! | [`server`] | the event loop around it |
//! | [`client`], [`cluster`] | taking tickets in Rust; asking every node how it is |
//! | [`settings`], [`config`], [`logging`], [`patient`] | `TICKR_*` to what a command works with |
//!
//! The feature `client` holds the client alone, with [`cluster`]; `server` holds everything, and is
//! on by default.

// The client alone has few of the modules above.
#![cfg_attr(not(feature = "server"), allow(rustdoc::broken_intra_doc_links))]

#[cfg(feature = "server")]
pub mod allocator;
#[cfg(feature = "server")]
pub mod api;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "client")]
pub mod cluster;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod counter;
#[cfg(feature = "server")]
pub mod database;
#[cfg(feature = "server")]
pub mod fault;
#[cfg(feature = "server")]
pub mod file;
pub mod foreign;
#[cfg(feature = "server")]
pub mod http;
pub mod limits;
#[cfg(feature = "server")]
pub mod logging;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
pub mod moment;
#[cfg(feature = "server")]
pub mod node;
#[cfg(feature = "server")]
pub mod notify;
#[cfg(feature = "server")]
pub mod patient;
#[cfg(feature = "server")]
pub mod rotation;
#[cfg(feature = "server")]
pub mod secret;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod settings;
#[cfg(feature = "server")]
pub mod socket;
#[cfg(feature = "server")]
pub mod state;
pub mod ticket;
#[cfg(feature = "server")]
pub mod timer;

#[cfg(feature = "client")]
pub use self::client::Client;
