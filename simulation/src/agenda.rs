//! What is to happen in a history: by its moment, and at one moment in the order of planning.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tickr::moment::Moment;

/// Things to do. They stay where they are put, and only their places are sorted.
#[derive(Debug)]
pub struct Agenda<D> {
    order: BinaryHeap<Reverse<(Moment, u64, usize)>>,
    places: Vec<Option<D>>,
    free: Vec<usize>,
    planned: u64,
}

impl<D> Default for Agenda<D> {
    fn default() -> Agenda<D> {
        Agenda {
            order: BinaryHeap::new(),
            places: Vec::new(),
            free: Vec::new(),
            planned: 0,
        }
    }
}

impl<D> Agenda<D> {
    pub fn plan(&mut self, at: Moment, due: D) {
        self.planned += 1;
        let place = self.free.pop().unwrap_or(self.places.len());
        match self.places.get_mut(place) {
            Some(free) => *free = Some(due),
            None => self.places.push(Some(due)),
        }
        self.order.push(Reverse((at, self.planned, place)));
    }

    /// How many things were ever planned.
    pub fn planned(&self) -> u64 {
        self.planned
    }

    /// The next thing, if it is due by then.
    pub fn next(&mut self, until: Moment) -> Option<(Moment, D)> {
        let Reverse((at, _, place)) = *self.order.peek()?;
        if at > until {
            return None;
        }
        self.order.pop();
        self.free.push(place);
        let due = self.places[place].take();
        Some((at, due.expect("what is in the order has a place")))
    }

    /// Moves all that is chosen to this moment, if it would come later.
    pub fn hasten(&mut self, until: Moment, chosen: impl Fn(&D) -> bool) {
        let places = &self.places;
        let order = std::mem::take(&mut self.order).into_iter();
        let hastened = order.map(|Reverse((at, planned, place))| {
            let is_chosen = places[place].as_ref().is_some_and(&chosen);
            let at = if is_chosen { at.min(until) } else { at };
            Reverse((at, planned, place))
        });
        self.order = hastened.collect();
    }
}
