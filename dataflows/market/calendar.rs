//! When people buy: the hours of each age band, weekdays, months and the day's own luck.

use std::f64::consts::TAU;

use chrono::Datelike;
use rand_distr::{Distribution, Gamma};

use super::draw::{Purpose, draw};
use crate::model::{Day, time::date_of};

/// Age bands: under 20, the 20s, 30s, 40s, 50s, and from 60.
pub(super) const BANDS: usize = 6;

/// Two waves of a band's day, as (hour of the peak, spread in hours, share); the rest is even.
const WAVES: [[(f64, f64, f64); 2]; BANDS] = [
    [(20.5, 1.9, 0.44), (16.5, 2.4, 0.40)],
    [(21.5, 2.0, 0.40), (13.5, 3.5, 0.44)],
    [(11.5, 2.4, 0.44), (22.0, 1.8, 0.38)],
    [(11.0, 2.4, 0.48), (21.5, 2.0, 0.36)],
    [(10.5, 2.1, 0.46), (15.5, 2.6, 0.38)],
    [(10.2, 2.2, 0.50), (15.0, 2.6, 0.36)],
];

/// Orders by weekday from Monday: a Korean shop lives on working days.
const WEEKDAYS: [f64; 7] = [1.22, 1.13, 1.10, 1.08, 0.98, 0.71, 0.78];

/// Orders a day by month, as Korean online shopping had them in 2024.
const MONTHS: [f64; 12] =
    [0.987, 0.994, 0.996, 0.998, 1.017, 1.010, 0.971, 0.955, 0.988, 0.985, 1.065, 1.035];

/// The 24 hours of each band, each with mean 1.
pub(super) fn hours() -> [[f64; 24]; BANDS] {
    WAVES.map(|waves| {
        let mut hours = [0.0; 24];
        for (hour, value) in hours.iter_mut().enumerate() {
            let even = 1.0 - waves.iter().map(|wave| wave.2).sum::<f64>();
            *value = even + waves.iter().map(|wave| wave_at(hour as f64 + 0.5, *wave)).sum::<f64>();
        }
        let mean = hours.iter().sum::<f64>() / 24.0;
        hours.map(|value| value / mean)
    })
}

/// A normal wave round the clock, times 24.
fn wave_at(hour: f64, (peak, spread, share): (f64, f64, f64)) -> f64 {
    [-24.0, 0.0, 24.0]
        .map(|turn| (hour + turn - peak) / spread)
        .map(|z| (-z * z / 2.0).exp())
        .iter()
        .sum::<f64>()
        * 24.0
        * share
        / (spread * TAU.sqrt())
}

/// The factor of a day on all orders: weekday, month and luck (mean 1, spread 8 %).
pub(super) fn day_factor(seed: u64, day: Day) -> f64 {
    let date = date_of(day);
    let luck = Gamma::new(150.0, 1.0 / 150.0).expect("a positive shape");
    WEEKDAYS[date.weekday().num_days_from_monday() as usize]
        * MONTHS[date.month0() as usize]
        * luck.sample(&mut draw(seed, Purpose::Day, day as u64, 0))
}

/// The age band of an age.
pub(super) fn band_of(age: u32) -> u8 {
    (age / 10).clamp(1, BANDS as u32) as u8 - 1
}
