//! Who the customers are, and how readily each of them buys.

use std::sync::Arc;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution, Gamma};
use serde::{Deserialize, Serialize};

use super::{
    calendar::band_of,
    draw::{Purpose, draw},
};
use crate::model::{
    Day, Millis, Sex, Status, User,
    time::{DAY, age_on, day_of},
};
use crate::operators::Grade;

/// Orders a month of demand time of a customer with all factors at 1.
const ORDERS_A_MONTH: f64 = 27.0;
/// Shape of the lasting personal factor: real shops are more unequal than Poisson by this much.
const PERSONAL_SHAPE: f64 = 0.6;
/// Chance to drop out after an order, Beta(a, b) over customers.
const DROP_OUT: (f64, f64) = (0.7, 2.6);

/// What the market knows of a customer that never changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Person {
    pub(super) birth_date: Day,
    pub(super) sex: Sex,
    pub(super) status: Status,
    pub(super) consent: bool,
    /// The lasting personal factor, mean 1.
    factor: f32,
    /// The chance to drop out after an order.
    pub(super) drop_out: f32,
}

impl Person {
    /// The age band on a day.
    pub(super) fn band(&self, day: Day) -> u8 {
        band_of(age_on(day, self.birth_date))
    }

    /// Mean time between orders, in milliseconds of demand time.
    pub(super) fn rhythm(&self, day: Day) -> f64 {
        let a_month = ORDERS_A_MONTH * self.segment(day) * f64::from(self.factor.max(1e-3));
        30.0 * DAY as f64 / a_month
    }

    /// The score less the time of day: base x personal factor x marketing boost x life event.
    pub(super) fn score(&self, seed: u64, id: u32, grade: Grade, day: Day) -> f64 {
        let status = match self.status {
            Status::Active => 1.0,
            Status::Dormant => 0.02,
            Status::Withdrawn => 0.0,
        };
        let consent = if self.consent { 1.05 } else { 0.95 };
        let grade = [1.0, 1.15, 1.3, 1.5][grade as usize];
        let (boost, life) = mood(seed, id, self.consent, day);
        status
            * consent
            * grade
            * self.segment(day)
            * f64::from(self.factor.max(1e-3))
            * boost
            * life
    }

    /// The factor of age and sex: a woman in her thirties buys most.
    fn segment(&self, day: Day) -> f64 {
        let age = [0.6, 1.05, 1.25, 1.1, 0.85, 0.6][usize::from(self.band(day))];
        age * if self.sex == Sex::F { 1.15 } else { 0.83 }
    }
}

/// A customer's day: the boost of a promotion seen, and the factor of a life event.
pub(super) fn mood(seed: u64, id: u32, consent: bool, day: Day) -> (f64, f64) {
    let mut random = draw(seed, Purpose::Mood, u64::from(id), day as u64);
    let boost = if random.random::<f64>() < 0.2 && consent { 1.3 } else { 1.0 };
    let life = match random.random::<f64>() {
        event if event < 0.85 => 1.0,
        event if event < 0.97 => 1.5,
        _ => 3.0,
    };
    (boost, life)
}

/// The customer of that id, and the record that the shop has of them.
pub(super) fn person(seed: u64, id: u32, signed_up_at: Millis) -> (Person, User) {
    let random = &mut draw(seed, Purpose::Person, u64::from(id), 0);
    let sex = if random.random::<f64>() < 0.54 { Sex::F } else { Sex::M };
    let (from, to) = *weighted(random, AGES);
    let days = random.random_range(f64::from(from) * 365.25..f64::from(to + 1) * 365.25);
    let birth_date = day_of(signed_up_at) - days as Day;
    let status = match random.random::<f64>() {
        status if status < 0.93 => Status::Active,
        status if status < 0.985 => Status::Dormant,
        _ => Status::Withdrawn,
    };
    let factor = Gamma::new(PERSONAL_SHAPE, 1.0 / PERSONAL_SHAPE).expect("a positive shape");
    let drop_out = Beta::new(DROP_OUT.0, DROP_OUT.1).expect("positive shapes");
    let person = Person {
        birth_date,
        sex,
        status,
        consent: random.random::<f64>() < 0.58,
        factor: factor.sample(random) as f32,
        drop_out: drop_out.sample(random) as f32,
    };
    let record = User {
        user_id: i64::from(id),
        name: Arc::from(name(random, sex, birth_date)),
        birth_date,
        sex,
        region: Arc::from(*weighted(random, REGIONS)),
        status,
        marketing_consent: person.consent,
        signed_up_at,
    };
    (person, record)
}

/// A name that was given in those years.
fn name(random: &mut ChaCha8Rng, sex: Sex, birth_date: Day) -> String {
    // Days since 1970 to a generation: before 1975, to 1990, to 2003, later.
    let generation = [1_826, 7_305, 12_053].iter().filter(|day| birth_date >= **day).count();
    let given = GIVEN[usize::from(sex == Sex::M)][generation];
    // Common names are far more common: the square leans to the front of the list.
    let place = (random.random::<f64>().powi(2) * given.len() as f64) as usize;
    format!("{}{}", weighted(random, SURNAMES), given[place])
}

/// A draw from a list with weights.
pub(super) fn weighted<'a, T>(random: &mut ChaCha8Rng, list: &'a [(T, f64)]) -> &'a T {
    let mut point = random.random::<f64>() * list.iter().map(|(_, weight)| weight).sum::<f64>();
    let found = list.iter().find(|(_, weight)| {
        point -= weight;
        point < 0.0
    });
    &found.unwrap_or(&list[0]).0
}

/// Ages, from and to, as customers of Korean shops have them.
const AGES: &[((i32, i32), f64)] = &[
    ((15, 19), 4.0),
    ((20, 29), 22.0),
    ((30, 39), 20.0),
    ((40, 49), 28.0),
    ((50, 59), 18.0),
    ((60, 78), 8.0),
];

const REGIONS: &[(&str, f64)] = &[
    ("경기", 25.2),
    ("서울", 23.9),
    ("부산", 6.2),
    ("경남", 5.9),
    ("인천", 5.5),
    ("경북", 4.4),
    ("대구", 4.4),
    ("충남", 4.0),
    ("대전", 3.1),
    ("전북", 3.0),
    ("광주", 2.9),
    ("전남", 2.9),
    ("충북", 2.8),
    ("강원", 2.7),
    ("울산", 2.0),
    ("제주", 0.9),
    ("세종", 0.2),
];

const SURNAMES: &[(&str, f64)] = &[
    ("김", 21.5),
    ("이", 14.7),
    ("박", 8.4),
    ("최", 4.7),
    ("정", 4.3),
    ("강", 2.4),
    ("조", 2.1),
    ("윤", 2.1),
    ("장", 2.0),
    ("임", 1.7),
    ("오", 1.5),
    ("한", 1.5),
    ("신", 1.5),
    ("서", 1.5),
    ("권", 1.4),
    ("황", 1.4),
    ("안", 1.4),
    ("송", 1.4),
    ("유", 1.3),
    ("홍", 1.1),
];

/// Given names by sex (F, M) and generation, the common ones first.
const GIVEN: [[&[&str]; 4]; 2] = [
    [
        &["영숙", "미숙", "경숙", "정숙", "순자", "영희", "현숙", "명숙", "은숙", "미경"],
        &["지영", "은정", "미정", "혜진", "은주", "수진", "현정", "지연", "유진", "은영"],
        &["지혜", "민지", "수빈", "지은", "유진", "지현", "예진", "은지", "혜원", "소영"],
        &["서연", "민서", "지우", "서현", "예은", "하은", "지민", "수아", "채원", "윤서"],
    ],
    [
        &["영수", "영호", "영철", "정호", "상철", "종수", "성호", "병철", "광수", "재호"],
        &["성민", "정훈", "성훈", "상훈", "지훈", "진호", "현우", "준호", "동현", "승현"],
        &["지훈", "동현", "민수", "현우", "준영", "성현", "재현", "민재", "상현", "승민"],
        &["민준", "서준", "예준", "도윤", "시우", "주원", "하준", "지호", "준서", "건우"],
    ],
];
