//! Letting clients in: each listener's share of a turn, whose connection goes when too many are
//! open, and what an error of `accept` means.

use std::io::ErrorKind;

use super::clients::Client;
use super::{ConnectionId, Draining, Interest, Io, Node};
use crate::limits;
use crate::metrics::ListenerScrape;
use crate::moment::Moment;

/// A socket that accepts clients.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// Where it listens.
    pub address: String,
    /// It stays open when this process ends: whoever waits there is served by the next one.
    pub outlives: bool,
}

/// A listener, and what is counted of it.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) options: ListenerOptions,
    /// Clients may wait.
    pub(super) ready: bool,
    pub(super) accepted: u64,
    pub(super) open: u64,
}

impl Listener {
    pub(super) fn scrape(&self) -> ListenerScrape {
        ListenerScrape {
            address: self.options.address.clone(),
            accepted: self.accepted,
            open: self.open,
        }
    }
}

impl Node {
    pub(super) fn accept(&mut self, io: &mut dyn Io, now: Moment) {
        if self.accept_again_at.is_some_and(|at| at > now) {
            return;
        }
        self.accept_again_at = None;
        for index in 0..self.listeners.len() {
            let mut accepted = 0;
            while self.listeners[index].ready {
                if self.draining.is_none() && accepted == limits::ACCEPTS_PER_TURN_MAX {
                    break;
                }
                accepted += 1;
                let most = self.connections_max + limits::CONNECTIONS_OVER_MAX;
                if self.draining.is_some() && self.clients.len() >= most {
                    self.close_oldest_idle(io, now);
                }
                if self.draining.is_some() && self.clients.len() >= most {
                    // Whoever waits gets an answer once there is room.
                    self.accept_again_at = Some(now + limits::ACCEPT_PAUSE);
                    return;
                }
                let id = self.clients.next_id();
                match io.accept(index, id) {
                    Ok(()) => self.on_accepted(io, index, id, now),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.listeners[index].ready = false;
                        self.journal.on_accepted_all();
                    }
                    Err(error) if is_about_one_client(&error) => {}
                    Err(error) => {
                        self.journal.on_accept_failed(&error);
                        // Without clients, nobody will leave and so give up what is short.
                        let hopeless = |draining: Draining| {
                            self.clients.is_empty() && draining.since + limits::LEAVING_GRACE <= now
                        };
                        if self.draining.is_some_and(hopeless) {
                            self.listeners[index].ready = false;
                            continue;
                        }
                        self.accept_again_at = Some(now + limits::ACCEPT_PAUSE);
                        return;
                    }
                }
            }
        }
        if let Some(draining) = self.draining.as_mut().filter(|draining| draining.accepting) {
            draining.accepting = false;
            io.stop_listening();
            // Whoever reads this may rely on it: from here on, connections are refused.
            log::info!("stopping: {} connections are open", self.clients.len());
        }
    }

    fn on_accepted(&mut self, io: &mut dyn Io, listener: usize, id: ConnectionId, now: Moment) {
        self.clients.insert(Client::new(listener, now));
        self.listeners[listener].accepted += 1;
        self.listeners[listener].open += 1;
        if self.clients.len() > self.connections_max {
            self.close_oldest_idle(io, now);
        }
        if self.clients.len() > self.connections_max + limits::CONNECTIONS_OVER_MAX {
            return self.close(io, id, now);
        }
        if let Err(error) = io.watch(id, Interest::Read) {
            log::error!("cannot register a connection with epoll; closing it: {error}");
            return self.close(io, id, now);
        }
        let spare = self.clients.len() > self.connections_max;
        if let Some(client) = self.clients.get_mut(id) {
            client.spare = spare;
        }
        self.serve(io, id, now);
    }

    /// Makes room for new clients: a share of the idle connections goes, the oldest first.
    fn close_oldest_idle(&mut self, io: &mut dyn Io, now: Moment) {
        let mut idle: Vec<(Moment, ConnectionId)> = self
            .clients
            .iter()
            .filter(|(_, client)| client.connection.is_idle())
            .map(|(id, client)| (client.connection.idle_since(), id))
            // Who came in this turn may not have been read from yet.
            .filter(|(since, _)| *since < now)
            .collect();
        let share = (idle.len() / limits::IDLE_CLOSED_SHARE)
            .max(1)
            .min(idle.len());
        if share == 0 {
            return;
        }
        idle.select_nth_unstable(share - 1);
        for (_, id) in &idle[..share] {
            self.close(io, *id, now);
        }
    }
}

/// Whether an error of `accept` is about the one connection that it would have returned, so that
/// the next one can be tried at once (accept(2)).
fn is_about_one_client(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::Interrupted
            | ErrorKind::PermissionDenied
            | ErrorKind::TimedOut
    )
}
