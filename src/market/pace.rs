//! How market time goes by once the market is live: at its speed, from where it met the wall's.

use dataflows::model::Millis;

use super::handle::Speed;

/// The clock of a live market.
pub(super) struct Pace {
    /// Where market time and wall time meet.
    anchor: Option<(Millis, Millis)>,
    /// The speed of the anchor.
    speed: Speed,
    paused_at: Option<Millis>,
}

impl Pace {
    pub(super) fn new(speed: Speed) -> Pace {
        Pace { anchor: None, speed, paused_at: None }
    }

    /// Holds the clock from a wall time on.
    pub(super) fn pause(&mut self, wall: Millis) {
        self.paused_at.get_or_insert(wall);
    }

    /// Lets it go on, if it was held.
    pub(super) fn resume(&mut self, wall: Millis) {
        if let (Some(paused_at), Some((_, meets))) = (self.paused_at.take(), &mut self.anchor) {
            *meets += wall - paused_at;
        }
    }

    /// The market time at a wall time, for a market that has come to `reached` and was live from
    /// `start` on; none where it may go as fast as it can.
    pub(super) fn clock(
        &mut self,
        speed: Speed,
        reached: Millis,
        wall: Millis,
        start: Millis,
    ) -> Option<Millis> {
        if std::mem::replace(&mut self.speed, speed) != speed {
            self.anchor = Some((reached, wall));
        }
        let Speed::Times(times) = speed else { return None };
        let (market, meets) = *self.anchor.get_or_insert_with(|| {
            // At 1 the market lives by the wall clock, if it began in step with it.
            if times.to_bits() == 1f64.to_bits() && (start..wall).contains(&reached) {
                (wall, wall)
            } else {
                (reached, wall)
            }
        });
        Some(market + ((wall - meets) as f64 * times) as Millis)
    }
}
