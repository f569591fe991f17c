//! How a load without a caller gets to the source, and the line that it may have to stand in.

use super::{Caller, Carried, Entrance, Guards, Pass, Refusal};
use crate::engine::away::{Away, AwayStep};
use crate::parts::flight::Flight;
use crate::parts::slots::{LoadSlot, Rank};
use crate::parts::turn::{NoSlot, Turn};
use crate::words::clock::Clock;
use std::convert::Infallible;
use std::sync::Arc;

/// The line before the source for a load without a caller, which does not keep the cache alive while it
/// waits. The load stands behind all misses, unless somebody waits for it.
pub(crate) struct Line<K, V> {
    guards: Arc<Guards>,
    clock: Clock,
    flight: Arc<Flight<K, V>>,
    /// For how many ticks it stays in line on behalf of callers that may have gone.
    patience: u64,
}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> Line<K, V> {
    /// Blocks this thread until it has a slot.
    pub(crate) fn block(&self) -> Result<LoadSlot, NoSlot> {
        loop {
            let slot = self.turn().block();
            if !self.goes_on(&slot) {
                return slot;
            }
        }
    }

    /// The async form of [`block`](Self::block).
    pub(crate) async fn slot(&self) -> Result<LoadSlot, NoSlot> {
        loop {
            let slot = self.turn().await;
            if !self.goes_on(&slot) {
                return slot;
            }
        }
    }

    /// Whether its time in line is over but somebody still waits for it, or it is a refresh that has its key:
    /// then it stays for as long again, in its old place. (A caller that is only about to wait then finds the
    /// load abandoned, and looks again.)
    fn goes_on(&self, slot: &Result<LoadSlot, NoSlot>) -> bool {
        let is_refresh = || self.flight.gives_way() && !self.flight.is_grounded();
        matches!(slot, Err(NoSlot::Late)) && (self.flight.waiters() > 0 || is_refresh())
    }

    fn turn(&self) -> Turn<'_> {
        let Some(slots) = &self.guards.slots else {
            unreachable!("it was a slot that was not free")
        };
        // a load that somebody waits for by now ranks as a miss
        let rank = if self.flight.gives_way() { Rank::Refresh } else { Rank::Miss };
        // Callers that do not wait for their slot leave loads in the line, and so does whoever takes a
        // refresh's key. Without a deadline the line would grow for as long as misses wait.
        let deadline = Some(self.clock.after(self.patience));
        let (load, before) = (self.flight.clone(), self.flight.place());
        let turn = Turn::new(slots, &self.clock, load, rank, before, deadline);
        if let Some(place) = turn.place() {
            if self.flight.wait_at(place) {
                slots.let_through(place);
            }
        }
        turn
    }

    /// Gives a slot back for which there is no load any more.
    fn give_back(&self, slot: LoadSlot) {
        drop(Pass::new(&self.guards, Some(slot)));
    }
}

impl<K, V, S> Away<K, V, S>
where
    K: Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Asks for permission to call the source.
    pub(in crate::engine) fn begin(self) -> AwayStep<K, V, S> {
        let Some(mut lead) = self.back() else { return AwayStep::End };
        if !lead.resume() {
            return AwayStep::End;
        }
        match lead.enter(Caller::Loads, &mut Carried::default()) {
            Ok(Entrance::Open) => {
                let cx = lead.cx();
                AwayStep::Load(lead.away(), cx)
            }
            Ok(Entrance::Busy) => {
                let Some(guards) = lead.store.guards.clone() else { return AwayStep::End };
                let (clock, flight) = (lead.store.clock.clone(), Arc::clone(&lead.flight));
                let patience = lead.store.timeouts.load;
                lead.give_way();
                AwayStep::Queue(lead.away(), Line { guards, clock, flight, patience })
            }
            Err(refusal) => {
                lead.refuse::<Infallible>(refusal);
                AwayStep::End
            }
        }
    }

    /// The wait in line is over.
    pub(crate) fn turned(
        self,
        line: &Line<K, V>,
        slot: Result<LoadSlot, NoSlot>,
    ) -> AwayStep<K, V, S> {
        let Some(mut lead) = self.back() else {
            if let Ok(slot) = slot {
                line.give_back(slot);
            }
            return AwayStep::End;
        };
        lead.keep_way();
        let entered = match slot {
            Ok(slot) => lead.enter_with(slot, Caller::Loads, &mut Carried::default()),
            Err(_) if lead.is_outdated() => Err(Refusal::Outdated),
            Err(none) => Err(none.into()),
        };
        if let Err(refusal) = entered {
            lead.refuse::<Infallible>(refusal);
            return AwayStep::End;
        }
        let cx = lead.cx();
        AwayStep::Load(lead.away(), cx)
    }
}
