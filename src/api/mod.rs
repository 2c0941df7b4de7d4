//! The product: what can be asked, and what each answer says.

pub mod pages;
pub mod problems;
pub mod routes;
