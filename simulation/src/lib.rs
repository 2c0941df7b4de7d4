//! A world on virtual time that tries to make the allocator lie: see `docs/simulation.md`.

pub mod assumptions;
pub mod checker;
pub mod counts;
pub mod database;
pub mod explorer;
pub mod tape;
pub mod world;
