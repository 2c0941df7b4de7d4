//! A world on virtual time that tries to make the allocator, and the node around it, lie: see
//! `docs/simulation.md`.

pub mod agenda;
pub mod answers;
pub mod assumptions;
pub mod backend;
pub mod checker;
pub mod clients;
pub mod counts;
pub mod database;
pub mod explorer;
pub mod history;
pub mod node_world;
pub mod sockets;
pub mod tape;
pub mod world;
