//! Jobs of the processes, as their witnesses see them: asked, and answered.

use tickr::counter::{Found, Job};

use super::{Answer, World};
use crate::checker::Lawful;
use crate::history::Cause;

impl World<'_> {
    pub(super) fn issue(&mut self, process: usize, job: Job) -> Lawful {
        let own = &mut self.processes[process];
        let known = own.allocator.memory();
        own.witness.on_job(&job, known, self.stage.now)?;
        self.backend.issue(&mut self.stage, process, job)
    }

    pub(super) fn on_answer(&mut self, answer: Answer) -> Lawful {
        let Answer {
            process,
            ref outcome,
            doubled,
            ..
        } = answer;
        self.stage
            .note(|| format!("process {process} learns {outcome:?}"));
        let now = self.stage.now;
        let own = &mut self.processes[process];
        let memory = own.allocator.memory();
        let hung = own.allocator.status().hung;
        own.allocator.on_outcome(outcome.clone(), now);
        // What a thread says that was given up is not heard.
        let is_heard = own.allocator.status().hung == hung;
        if !doubled && is_heard {
            match &outcome.found {
                Ok(Found::Connected { view, .. })
                | Ok(Found::Read { view, .. })
                | Ok(Found::Refused { view })
                | Ok(Found::Closed { view }) => own.witness.on_view(outcome.id, view, memory),
                Ok(Found::Reserved { .. }) => own.witness.on_reserved(outcome.id),
                Err(_) => {}
            }
        }
        self.backend.heard(&answer, now);
        self.turn(process, Cause::Stimulus)
    }
}
