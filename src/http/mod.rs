//! HTTP/1.1 as Tickr speaks it: from bytes to requests, and from answers to bytes.

pub mod array;
pub mod body;
pub mod connection;
pub mod request;
pub mod response;
