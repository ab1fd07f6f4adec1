//! The race: who of the working set orders, and when.
//!
//! Each customer has keys that fall at times of their own: in the plane of time and demand they are a
//! Poisson process whose intensity is the customer's liking of the hour, drawn by customer and hour.
//! A member whose key lies below the demand of its time orders then. So a moment's orders are drawn
//! without replacement in proportion to score x liking, more demand only adds orders, and the keys of
//! one customer are the same whatever the others do.
//!
//! Only keys below a bound are drawn, lowest first; the bound is raised when demand comes near it,
//! which changes no key.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::RngExt;
use rand_distr::{Distribution, Exp1};

use super::draw::{Purpose, draw};
use crate::model::{Millis, time::HOUR};

/// Keys beyond so many times the demand of now are not drawn yet.
const ROOM: f64 = 1.5;

/// More keys than so many an hour nobody has: who orders is out of the set until the next refresh.
const KEYS_MAX: usize = 1_000;

/// One who takes part in the race of an hour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Runner {
    pub(super) id: u32,
    /// 0 for past buyers, 1 for those who never bought: they have demands of their own.
    pub(super) group: usize,
    /// Score x liking of the hour: the keys below a demand, a unit of demand and a millisecond.
    pub(super) intensity: f64,
}

/// A key: when it falls, whose it is, and the least demand under which it counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Key {
    pub(super) at: Millis,
    pub(super) runner: Runner,
    pub(super) demand: f64,
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let order = (self.at, self.runner.id).cmp(&(other.at, other.runner.id));
        order.then(self.demand.total_cmp(&other.demand))
    }
}

/// The keys of an hour that are still to fall.
#[derive(Default)]
pub(super) struct Race {
    keys: BinaryHeap<Reverse<Key>>,
    /// By group: all keys below it are there.
    bound: [f64; 2],
}

impl Race {
    /// Whether the keys that are there are all that this demand needs.
    pub(super) fn reaches(&self, demand: [f64; 2]) -> bool {
        demand.iter().zip(&self.bound).all(|(demand, bound)| demand <= bound)
    }

    /// Draws the keys of an hour anew that fall after `now`, with room above the demand of now.
    pub(super) fn start(
        &mut self,
        seed: u64,
        now: Millis,
        demand: [f64; 2],
        runners: impl Iterator<Item = Runner>,
    ) {
        self.keys.clear();
        self.bound = demand.map(|demand| demand * ROOM);
        for runner in runners {
            self.enter(seed, now, runner);
        }
    }

    /// Adds the keys of one who has entered.
    pub(super) fn enter(&mut self, seed: u64, now: Millis, runner: Runner) {
        let Runner { id, group, intensity } = runner;
        let hour = now.div_euclid(HOUR);
        let random = &mut draw(seed, Purpose::Race, u64::from(id), hour as u64);
        let mut demand = 0.0;
        for _ in 0..KEYS_MAX {
            let step: f64 = Exp1.sample(random);
            demand += step / (intensity * HOUR as f64);
            if demand > self.bound[group] {
                return;
            }
            let at = hour * HOUR + 1 + (random.random::<f64>() * HOUR as f64) as Millis;
            if at > now {
                self.keys.push(Reverse(Key { at, runner, demand }));
            }
        }
    }

    /// The next key up to `until`.
    pub(super) fn pop(&mut self, until: Millis) -> Option<Key> {
        let Reverse(next) = self.keys.peek()?;
        (next.at <= until).then(|| self.keys.pop())?.map(|Reverse(key)| key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::market::people::weighted;

    const RUNNERS: u32 = 40;

    /// Intensities that differ by a factor of 16, as keys an hour at a demand of 1.
    fn runners() -> Vec<Runner> {
        let intensity = |id| 0.25 * 16_f64.powf(f64::from(id % 10) / 9.0) / HOUR as f64;
        (1..=RUNNERS).map(|id| Runner { id, group: 0, intensity: intensity(id) }).collect()
    }

    /// All keys of an hour below a demand, in order of time.
    fn keys(hour: Millis, demand: f64, runners: &[Runner]) -> Vec<Key> {
        let mut race = Race::default();
        race.start(3, hour * HOUR, [demand; 2], runners.iter().copied());
        assert!(race.reaches([demand; 2]) && !race.reaches([demand * 2.0; 2]));
        let all = std::iter::from_fn(|| race.pop((hour + 1) * HOUR));
        all.filter(|key| key.demand <= demand).collect()
    }

    /// How far counts of two samples are apart, in standard errors: the greatest, and their RMS.
    fn z_scores(here: &[u32], there: &[u32], trials: u32) -> (f64, f64) {
        let z = here.iter().zip(there).map(|(a, b)| {
            let share = f64::from(a + b) / f64::from(2 * trials);
            (f64::from(*a) - f64::from(*b))
                / (2.0 * f64::from(trials) * share * (1.0 - share)).sqrt()
        });
        let most = z.clone().fold(0.0, |most: f64, z| most.max(z.abs()));
        (most, (z.clone().map(|z| z * z).sum::<f64>() / z.count() as f64).sqrt())
    }

    /// The eight lowest keys are eight customers drawn one by one, each in proportion to the
    /// intensity among those who are left.
    #[test]
    fn the_lowest_keys_are_a_weighted_sample_without_replacement() {
        const TRIALS: u32 = 40_000;
        let runners = runners();
        let (mut here, mut there) = ([0; RUNNERS as usize], [0; RUNNERS as usize]);
        let (mut pairs, mut first) = ([0; 2], [[0; RUNNERS as usize]; 2]);
        let random = &mut draw(4, Purpose::Demand, 0, 0);
        for hour in 0..TRIALS {
            let mut lowest: BTreeMap<u32, f64> = BTreeMap::new();
            for key in keys(hour.into(), 1.0, &runners) {
                let known = lowest.entry(key.runner.id).or_insert(f64::MAX);
                *known = known.min(key.demand);
            }
            let mut lowest: Vec<(f64, u32)> =
                lowest.into_iter().map(|(id, key)| (key, id)).collect();
            lowest.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(lowest.len() >= 8);
            first[0][lowest[0].1 as usize - 1] += 1;
            let raced: Vec<u32> = lowest[..8].iter().map(|(_, id)| *id).collect();

            let mut left = runners.clone();
            let drawn: Vec<u32> = (0..8)
                .map(|_| left.swap_remove(weighted(random, &left, |runner| runner.intensity)).id)
                .collect();
            first[1][drawn[0] as usize - 1] += 1;
            for (counts, pair, chosen) in [(&mut here, 0, &raced), (&mut there, 1, &drawn)] {
                for id in chosen {
                    counts[*id as usize - 1] += 1;
                }
                pairs[pair] += u32::from([10, 20].iter().all(|id| chosen.contains(id)));
            }
        }
        let [raced, drawn] = &first;
        for (one, other) in [(&here[..], &there[..]), (&raced[..], &drawn[..])] {
            let (most, rms) = z_scores(one, other, TRIALS);
            assert!(most < 5.0 && (0.6..1.5).contains(&rms), "z-scores up to {most}, RMS {rms}");
        }
        let (most, _) = z_scores(&pairs[..1], &pairs[1..], TRIALS);
        assert!(most < 5.0, "both of a pair: {pairs:?}");
    }

    /// At a demand a runner has a Poisson number of keys of that mean, at even times.
    #[test]
    fn keys_are_a_poisson_process() {
        const TRIALS: u32 = 20_000;
        let runner = [Runner { id: 5, group: 0, intensity: 0.5 / HOUR as f64 }];
        let (mut none, mut all, mut by_quarter) = (0, 0, [0_u32; 4]);
        for hour in 0..TRIALS {
            let keys = keys(hour.into(), 1.0, &runner);
            none += u32::from(keys.is_empty());
            all += keys.len() as u32;
            for key in keys {
                by_quarter[((key.at - 1) % HOUR * 4 / HOUR) as usize] += 1;
            }
        }
        let (trials, mean) = (f64::from(TRIALS), f64::from(all) / f64::from(TRIALS));
        assert!((mean - 0.5).abs() < 5.0 * (0.5 / trials).sqrt(), "{mean} keys");
        let empty = (-0.5_f64).exp();
        let error = (empty * (1.0 - empty) / trials).sqrt();
        assert!((f64::from(none) / trials - empty).abs() < 5.0 * error, "{none} without keys");
        let even = f64::from(all) / 4.0;
        assert!(by_quarter.iter().all(|it| (f64::from(*it) - even).abs() < 5.0 * even.sqrt()));
    }

    /// More demand adds keys and takes none away, whatever the bound they were drawn with.
    #[test]
    fn more_demand_only_adds() {
        let runners = runners();
        for hour in 0..200 {
            let least = keys(hour, 0.4, &runners);
            for more in [0.4001, 0.7, 3.0, 50.0] {
                let keys = keys(hour, more, &runners);
                let those: Vec<Key> = keys.iter().copied().filter(|it| it.demand <= 0.4).collect();
                assert_eq!(those, least, "hour {hour}, demand {more}");
                assert!(keys.len() > least.len() || more < 1.0);
            }
        }
    }

    /// One runner more, or one with another intensity, and the others' keys are as they were.
    #[test]
    fn a_runner_changes_nobody_elses_keys() {
        let all = runners();
        for hour in 0..100 {
            let whole = keys(hour, 2.0, &all);
            let others = |keys: &[Key]| -> Vec<Key> {
                keys.iter().copied().filter(|key| key.runner.id != 17).collect()
            };
            let mut without = all.clone();
            let mut own = without.remove(16);
            assert_eq!(own.id, 17);
            assert_eq!(keys(hour, 2.0, &without), others(&whole));
            // The order in which they start is no matter, and who doubles has keys half as high.
            own.intensity *= 2.0;
            without.insert(3, own);
            let doubled = keys(hour, 2.0, &without);
            assert_eq!(others(&doubled), others(&whole));
            let of_17 = |keys: &[Key]| -> Vec<(Millis, f64)> {
                let own = keys.iter().filter(|key| key.runner.id == 17);
                own.map(|key| (key.at, key.demand)).collect()
            };
            for (at, demand) in of_17(&whole) {
                assert!(of_17(&doubled).contains(&(at, demand / 2.0)));
            }
        }
    }

    /// Who enters within an hour has the keys that are left of it.
    #[test]
    fn who_enters_late_has_the_keys_that_are_left() {
        let all = runners();
        for hour in 0..100 {
            let now = hour * HOUR + HOUR / 3;
            let mut race = Race::default();
            race.start(3, hour * HOUR, [2.0; 2], all[1..].iter().copied());
            while race.pop(now).is_some() {}
            race.enter(3, now, all[0]);
            let entered = std::iter::from_fn(|| race.pop((hour + 1) * HOUR));
            let entered: Vec<Key> = entered.filter(|key| key.demand <= 2.0).collect();
            let whole: Vec<Key> =
                keys(hour, 2.0, &all).into_iter().filter(|key| key.at > now).collect();
            assert_eq!(entered, whole);
        }
    }

    /// Nobody runs for ever: not without a liking, nor with one beyond all bounds.
    #[test]
    fn a_race_ends() {
        for (intensity, most) in [(0.0, 0), (1e300, KEYS_MAX), (f64::MIN_POSITIVE, KEYS_MAX)] {
            for demand in [0.0, 1.0, 1e300] {
                let mut race = Race::default();
                let runner = Runner { id: 1, group: 1, intensity };
                race.start(1, 0, [demand; 2], std::iter::once(runner));
                assert!(std::iter::from_fn(|| race.pop(HOUR)).count() <= most);
            }
        }
    }
}
