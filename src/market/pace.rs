//! How market time goes by once the market is live: at its speed, from where it met the wall's.

use dataflows::model::Millis;
use dataflows::model::time::MINUTE;

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
            // At 1 the market lives by the wall clock, if it began in step with it. Who has just started
            // it sees it begin.
            let begins = reached == start && wall < start + MINUTE;
            if times.to_bits() == 1f64.to_bits() && (start..wall).contains(&reached) && !begins {
                (wall, wall)
            } else {
                (reached, wall)
            }
        });
        Some(market + ((wall - meets) as f64 * times) as Millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_market_catches_up_with_the_wall_clock_unless_it_has_just_begun() {
        let start = 1_795_964_400_000;
        for (reached, wall, clock) in [
            (start, start + 49_000, start),
            (start, start + MINUTE, start + MINUTE),
            (start + 10_000, start + 49_000, start + 49_000),
            (start + 49_000, start + 10_000, start + 49_000),
        ] {
            let mut pace = Pace::new(Speed::Times(1.0));
            let mut clock_at = |wall| pace.clock(Speed::Times(1.0), reached, wall, start);
            assert_eq!(clock_at(wall), Some(clock));
            assert_eq!(clock_at(wall + 3_000), Some(clock + 3_000));
        }
    }
}
