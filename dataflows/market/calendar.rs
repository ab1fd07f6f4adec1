//! When people buy: the hours of each age band, weekdays, months and the day's own luck.

use std::f64::consts::TAU;

use chrono::Datelike;
use rand_distr::{Distribution, Gamma};

use super::{
    draw::{Purpose, draw},
    profile::{BANDS, Demand},
    scenarios::is_holiday,
};
use crate::model::{Day, time::date_of};

/// The 24 hours of each band, each with mean 1.
pub(super) fn hours(demand: &Demand) -> [[f64; 24]; BANDS] {
    demand.hours.each_ref().map(|waves| {
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

/// No day has a factor above this.
const DAY_MAX: f64 = 100.0;

/// The factor of a day on all orders: weekday, month, holiday and luck (Gamma with mean 1).
pub(super) fn day_factor(demand: &Demand, seed: u64, day: Day) -> f64 {
    let date = date_of(day);
    let variance = demand.noise.powi(2);
    let luck = Gamma::new(1.0 / variance, variance)
        .map_or(1.0, |luck| luck.sample(&mut draw(seed, Purpose::Day, day as u64, 0)));
    let weekday = demand.weekdays[date.weekday().num_days_from_monday() as usize];
    let holiday = if is_holiday(date) { demand.holidays } else { 1.0 };
    (weekday * demand.months[date.month0() as usize] * holiday * luck).min(DAY_MAX)
}

/// The age band of an age.
pub(super) fn band_of(age: u32) -> u8 {
    (age / 10).clamp(1, BANDS as u32) as u8 - 1
}
