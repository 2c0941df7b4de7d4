//! The kernel behind `Io`, with its faults, and the laws about what a node does to its sockets.

use std::io::{self, ErrorKind};

use tickr::counter::Job;
use tickr::limits;
use tickr::node::{ConnectionId, Interest, Io};

use super::desk::Desk;
use super::{Net, Reaction};
use crate::checker::{Lawful, Violation};
use crate::history::Stage;

const EMFILE: i32 = 24;

/// What a node does to the world, in one turn.
pub struct Kernel<'a, 't> {
    pub net: &'a mut Net,
    pub desk: &'a mut Desk,
    pub stage: &'a mut Stage<'t>,
    pub verdict: Lawful,
}

impl Kernel<'_, '_> {
    fn blame(&mut self, law: &'static str, detail: String) {
        if self.verdict.is_ok() {
            self.verdict = Err(Violation { law, detail });
        }
    }

    fn find(&mut self, id: ConnectionId) -> io::Result<usize> {
        match self.desk.by_id.get(&id) {
            Some(at) => Ok(*at),
            None => {
                self.blame("only open connections are named", format!("{id:?}"));
                Err(ErrorKind::NotConnected.into())
            }
        }
    }

    fn is_cut(&mut self, at: usize) -> bool {
        let steady = self.net.sockets[at].steady;
        self.net.weather > 0 && !steady && self.stage.tape.chance(self.net.weather)
    }

    fn may_interrupt(&mut self, at: usize) -> bool {
        let socket = &mut self.net.sockets[at];
        socket.interrupted = !socket.interrupted;
        socket.interrupted
    }
}

impl Io for Kernel<'_, '_> {
    fn accept(&mut self, listener: usize, id: ConnectionId) -> io::Result<()> {
        if !self.desk.listening {
            self.blame("a closed listener is left alone", format!("{listener}"));
        }
        let error = self.desk.accept_errors.pop_front();
        self.desk.is_short = error == Some(EMFILE);
        if let Some(error) = error {
            self.desk.did += 1;
            self.stage.count(match error {
                EMFILE => "socket: accept finds no file",
                4 => "socket: accept interrupted",
                _ => "socket: accept aborted",
            });
            return Err(io::Error::from_raw_os_error(error));
        }
        let waiting = self.desk.backlogs[listener].pop_front();
        let at = waiting.ok_or(ErrorKind::WouldBlock)?;
        self.desk.did += 1;
        if self.desk.by_id.insert(id, at).is_some() {
            self.blame("an id never recurs", format!("{id:?}"));
        }
        let socket = &mut self.net.sockets[at];
        socket.id = Some(id);
        socket.active_at = self.stage.now;
        socket.flows_since = self.stage.now;
        socket.took_at = self.stage.now;
        socket.spare = self.desk.by_id.len() > self.desk.most;
        self.desk.crowded |= socket.spare;
        Ok(())
    }

    fn read(&mut self, id: ConnectionId, buffer: &mut [u8]) -> io::Result<usize> {
        let at = self.find(id)?;
        let mut most = self.net.sockets[at].unread().min(buffer.len());
        if self.is_cut(at) {
            match self.stage.tape.byte() {
                0..64 if self.may_interrupt(at) => {
                    self.stage.count("socket: read interrupted");
                    return Err(ErrorKind::Interrupted.into());
                }
                choice if most > 1 => {
                    self.stage.count("socket: short read");
                    most = 1 + usize::from(choice) * (most - 1) / 256;
                    let socket = &mut self.net.sockets[at];
                    // The rest is only arriving.
                    let so_far = socket.was_read + most as u64;
                    socket.owed = socket.owed.map(|owed| owed.min(so_far));
                    self.net.touch(at, self.desk);
                }
                _ => {}
            }
        }
        let now = self.stage.now;
        let socket = &mut self.net.sockets[at];
        if socket.reset {
            socket.told_broken = true;
            self.stage.count("socket: read reset");
            return Err(ErrorKind::ConnectionReset.into());
        }
        if most == 0 {
            if !socket.fin {
                self.stage.count("socket: read would block");
                return Err(ErrorKind::WouldBlock.into());
            }
            self.desk.did += u32::from(!std::mem::replace(&mut socket.fin_read, true));
            return Ok(0);
        }
        self.desk.did += 1;
        self.desk.traffic = true;
        buffer[..most].copy_from_slice(&socket.inbox[socket.taken..socket.taken + most]);
        socket.taken += most;
        socket.was_read += most as u64;
        socket.active_at = now;
        let (high, draining) = (self.desk.high, self.desk.draining);
        for pending in &mut socket.pending {
            if pending.start < socket.was_read {
                pending.begun = pending.begun.or(Some(now));
            }
            if pending.end <= socket.was_read && pending.read.is_none() {
                pending.read = Some(now);
                pending.late = draining;
                pending.floor = pending.floor.max(high);
            }
        }
        Ok(most)
    }

    fn write(&mut self, id: ConnectionId, bytes: &[u8]) -> io::Result<usize> {
        let at = self.find(id)?;
        if self.net.sockets[at].finished.is_some() {
            self.blame("nothing follows the last answer", format!("client {at}"));
        }
        let socket = &mut self.net.sockets[at];
        if socket.reset || socket.hung_up {
            socket.told_broken = true;
            self.stage.count("socket: write reset");
            return Err(ErrorKind::BrokenPipe.into());
        }
        let mut most = bytes.len().min(socket.room.unwrap_or(usize::MAX));
        let mut cut = false;
        if most > 0 && self.is_cut(at) {
            match self.stage.tape.byte() {
                0..48 if self.may_interrupt(at) => {
                    self.stage.count("socket: write interrupted");
                    return Err(ErrorKind::Interrupted.into());
                }
                0..96 => (most, cut) = (0, true),
                choice => {
                    most = 1 + usize::from(choice) * (most - 1) / 256;
                    cut = true;
                }
            }
        }
        let now = self.stage.now;
        let socket = &mut self.net.sockets[at];
        let is_whole = most == bytes.len();
        cut &= socket.room != Some(most);
        if most > 0 || !socket.blocked {
            socket.took_at = now;
        }
        let was_blocked = std::mem::replace(&mut socket.blocked, !is_whole && !cut);
        if was_blocked && !socket.blocked {
            socket.flows_since = now;
        }
        if let Some(room) = &mut socket.room {
            *room -= most;
        }
        if socket.gone && most > 0 {
            self.net.reactions.push(Reaction::Reset(at));
        }
        if !is_whole && cut {
            // There is room again at once.
            self.net.touch(at, self.desk);
        }
        if most == 0 {
            self.stage.count("socket: write would block");
            return Err(ErrorKind::WouldBlock.into());
        }
        if !is_whole {
            self.stage.count("socket: partial write");
        }
        self.desk.did += 1;
        self.desk.traffic = true;
        if let Err(Violation { law, detail }) =
            self.net.deliver(at, &bytes[..most], self.desk, self.stage)
        {
            self.blame(law, detail);
        }
        Ok(most)
    }

    fn watch(&mut self, id: ConnectionId, interest: Interest) -> io::Result<()> {
        let at = self.find(id)?;
        if self.net.weather > 0 && !self.net.sockets[at].steady && self.stage.tape.chance(1) {
            self.stage.count("socket: cannot be watched");
            self.net.sockets[at].told_broken = true;
            return Err(ErrorKind::OutOfMemory.into());
        }
        self.net.sockets[at].interest = Some(interest);
        // The kernel looks again whenever it is asked.
        self.net.touch(at, self.desk);
        Ok(())
    }

    fn finish(&mut self, id: ConnectionId) -> io::Result<()> {
        let at = self.find(id)?;
        self.desk.did += 1;
        let now = self.stage.now;
        let socket = &mut self.net.sockets[at];
        if socket.reset || socket.hung_up {
            socket.told_broken = true;
            return Err(ErrorKind::NotConnected.into());
        }
        let is_over = socket.ended && socket.reader.is_between();
        socket.finished = Some(now);
        if !is_over {
            self.blame(
                "a connection is kept",
                format!("client {at} gets no last answer"),
            );
        }
        Ok(())
    }

    fn close(&mut self, id: ConnectionId) {
        let Ok(at) = self.find(id) else { return };
        self.desk.did += 1;
        self.desk.by_id.remove(&id);
        let now = self.stage.now;
        let socket = &mut self.net.sockets[at];
        socket.closed = true;
        let is_over = socket.ended && socket.reader.is_between();
        // Whoever was stopped for so long can't know who was to blame.
        let is_late = self.desk.late_until == now;
        let takes_nothing = socket.took_at + limits::WRITE_TIMEOUT <= now;
        let takes_nothing = takes_nothing && (socket.blocked || is_late);
        if socket.told_broken || is_over {
            return;
        }
        if takes_nothing {
            self.stage.count("client: cut off for not reading");
            return;
        }
        let last_end = socket.last_end();
        let owed = socket.owed.unwrap_or_default();
        let front = socket.pending.front();
        let unanswered =
            front.filter(|front| front.read.is_some() || front.end <= owed.min(last_end));
        if let Some(front) = unanswered {
            let kind = front.request.kind;
            return self.blame(
                "one final answer",
                format!("client {at} gets none to {kind:?}"),
            );
        }
        if !socket.reader.is_between() {
            return self.blame("an answer is written whole", format!("client {at}"));
        }
        if socket.is_inside() {
            return self.blame(
                "one final answer",
                format!("client {at} was inside a request"),
            );
        }
        let idle_timeout = match socket.spare {
            true => limits::HEAD_TIMEOUT,
            false => self.desk.idle_timeout,
        };
        let is_idle = socket.active_at + idle_timeout.min(self.desk.idle_timeout) <= now;
        let may = self.desk.draining || self.desk.crowded || socket.fin_read || is_idle;
        if !may {
            return self.blame("a connection is kept", format!("client {at} is closed"));
        }
        if is_idle && !self.desk.draining {
            self.stage.count("client: idle for too long");
        }
    }

    fn stop_listening(&mut self) {
        self.desk.did += 1;
        self.desk.listening = false;
        let waiting = self.desk.backlogs.iter().zip(&self.desk.outlives);
        let left = waiting
            .filter(|(backlog, outlives)| !backlog.is_empty() && !**outlives)
            .count();
        // Without clients, nobody will give up a file.
        let is_hopeless = self.desk.is_short && self.desk.by_id.is_empty();
        if left > 0 && !is_hopeless {
            self.blame("whoever waited is let in", format!("{left} listeners"));
        }
    }

    fn submit(&mut self, job: Job) {
        self.desk.did += 1;
        self.desk.jobs.push(job);
    }
}
