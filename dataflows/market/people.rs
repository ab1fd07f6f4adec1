//! Who the customers are, and how readily each of them buys.

use std::sync::Arc;

use rand::{Rng, RngExt};
use rand_distr::{Beta, Distribution, Exp1, Gamma};
use serde::{Deserialize, Serialize};

use super::{
    calendar::band_of,
    draw::{Purpose, draw},
    profile::{self, Profile},
};
use crate::model::{
    Day, Millis, Sex, Status, User, UserId,
    time::{age_on, day_of},
};
use crate::operators::Grade;

/// What the market knows of a customer that never changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Person {
    pub(super) birth_date: Day,
    pub(super) sex: Sex,
    pub(super) consent: bool,
    /// Orders for many: an office, a big family.
    pub(super) regular: bool,
    /// Has only signed up, and is not about to buy.
    pub(super) visitor: bool,
    /// The lasting personal factor, mean 1.
    pub(super) factor: f32,
    /// The chance to drop out after an order.
    pub(super) drop_out: f32,
    /// Lines beyond the first in an order, on average.
    pub(super) lines: f32,
}

impl Person {
    /// The age band on a day.
    pub(super) fn band(&self, day: Day) -> u8 {
        band_of(age_on(day, self.birth_date))
    }

    /// Orders in 30 days of demand time.
    pub(super) fn orders_a_month(&self, profile: &Profile, day: Day) -> f64 {
        let rhythm = &profile.rhythm;
        let mean = if self.regular {
            rhythm.regulars.orders_a_month
        } else {
            rhythm.orders_a_month * self.readiness(&profile.score, day)
        };
        mean * f64::from(self.factor.max(1e-3))
    }

    /// The score less the time of day, in a mood of 1. The personal factor is held within bounds,
    /// since a member of the working set waits for 1 / score.
    pub(super) fn score(
        &self,
        rules: &profile::Score,
        status: Status,
        grade: Grade,
        never_bought: bool,
        day: Day,
    ) -> Score {
        let (age, sex) = self.age_and_sex(rules, day);
        let (least, most) = rules.factor;
        Score {
            age,
            sex,
            personal: f64::from(self.factor).clamp(least, most),
            status: match status {
                Status::Active => 1.0,
                Status::Dormant => rules.dormant,
                Status::Withdrawn => 0.0,
            },
            consent: rules.consent[usize::from(self.consent)],
            grade: rules.grades[grade as usize],
            visitor: if self.visitor && never_bought { rules.visitor } else { 1.0 },
            mood: 1.0,
        }
    }

    /// What age and sex make of a customer.
    fn readiness(&self, rules: &profile::Score, day: Day) -> f64 {
        let (age, sex) = self.age_and_sex(rules, day);
        age * sex
    }

    fn age_and_sex(&self, rules: &profile::Score, day: Day) -> (f64, f64) {
        let sex = if self.sex == Sex::F { rules.women } else { rules.men };
        (rules.ages[usize::from(self.band(day))], sex)
    }
}

/// A score less the time of day: the factors that it is the product of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Score {
    /// By age band.
    pub age: f64,
    /// By sex.
    pub sex: f64,
    /// The customer's lasting own factor, within bounds.
    pub personal: f64,
    /// By status.
    pub status: f64,
    /// By consent to marketing.
    pub consent: f64,
    /// By grade.
    pub grade: f64,
    /// Of those who have only signed up, and are not about to buy.
    pub visitor: f64,
    /// The boost of a promotion seen, times a life event.
    pub mood: f64,
}

impl Score {
    /// The score. The order of the factors decides its last bit, and so belongs to the rules.
    pub fn product(&self) -> f64 {
        let Score { age, sex, personal, status, consent, grade, visitor, mood } = self;
        age * sex * personal * status * consent * grade * visitor * mood
    }
}

/// A customer's mood at a day or a refresh: the boost of a promotion seen, times the factor of a life
/// event.
pub(super) fn mood(rules: &profile::Score, seed: u64, id: u32, consent: bool, time: u64) -> f64 {
    let [boost, life] = moods(rules, seed, id, consent, time);
    boost * life
}

/// The two of them.
pub(super) fn moods(
    rules: &profile::Score,
    seed: u64,
    id: u32,
    consent: bool,
    time: u64,
) -> [f64; 2] {
    let mut random = draw(seed, Purpose::Mood, u64::from(id), time);
    let (saw, boost) = rules.boost;
    let boost = if random.random::<f64>() < saw && consent { boost } else { 1.0 };
    let [(more, increased), (much, big)] = rules.life;
    let life = match random.random::<f64>() {
        event if event < much => big,
        event if event < much + more => increased,
        _ => 1.0,
    };
    [boost, life]
}

/// In so much demand time a new customer is ready to buy for the first time; a visitor is not.
pub(super) fn ready_in(
    rules: &profile::Customers,
    seed: u64,
    id: u32,
    person: &Person,
    opening: bool,
) -> Option<i64> {
    let random = &mut draw(seed, Purpose::Readiness, u64::from(id), 0);
    let at_once = random.random::<f64>() < rules.ready_at_once;
    let wait: f64 = Exp1.sample(random);
    let mean = match opening {
        true => rules.opening_delay.0,
        false if at_once => 0,
        false => rules.ready_delay.0,
    };
    (!person.visitor).then_some((wait * mean as f64) as i64)
}

/// The customer of that id, and the record that the shop has of them at sign-up.
pub(super) fn person(
    profile: &Profile,
    seed: u64,
    id: u32,
    signed_up_at: Millis,
) -> (Person, User) {
    let rules = &profile.customers;
    let random = &mut draw(seed, Purpose::Person, u64::from(id), 0);
    let sex = if random.random::<f64>() < rules.women { Sex::F } else { Sex::M };
    let (from, to, _) = rules.ages[weighted(random, &rules.ages, |(_, _, weight)| *weight)];
    let days = random.random_range(f64::from(from) * 365.25..f64::from(to + 1) * 365.25);
    let birth_date = day_of(signed_up_at) - days as Day;
    let consent = random.random::<f64>() < rules.consent;
    let visitor = random.random::<f64>() >= rules.ready;
    let regulars = &profile.rhythm.regulars;
    let regular = random.random::<f64>() < regulars.share;
    let (spread, (shape, mean)) = if regular {
        (regulars.spread, regulars.lines)
    } else {
        (profile.rhythm.spread, profile.basket.lines)
    };
    let (a, b) = profile.rhythm.drop_out;
    let gamma =
        |shape: f64, mean: f64| Gamma::new(shape, mean / shape).expect("a profile is checked");
    let drop_out = Beta::new(a, b).expect("a profile is checked");
    let person = Person {
        birth_date,
        sex,
        consent,
        regular,
        visitor,
        // Without spread everybody is alike.
        factor: if spread == 0.0 { 1.0 } else { gamma(1.0 / spread, 1.0).sample(random) as f32 },
        drop_out: drop_out.sample(random) as f32,
        lines: gamma(shape, mean).sample(random) as f32,
    };
    let record = User {
        user_id: UserId(id.into()),
        name: Arc::from(name(random, sex, birth_date)),
        birth_date,
        sex,
        region: Arc::from(REGIONS[weighted(random, REGIONS, |(_, weight)| *weight)].0),
        status: Status::Active,
        marketing_consent: person.consent,
        signed_up_at,
    };
    (person, record)
}

/// What a customer thinks of a category, for life: mean 1, exponential, so that the shares of the
/// categories in a customer's taste are a flat Dirichlet.
pub(super) fn taste(seed: u64, id: u32, category: usize) -> f64 {
    let taste: f64 = Exp1.sample(&mut draw(seed, Purpose::Taste, u64::from(id), category as u64));
    taste.min(TASTE_MAX)
}

/// No category is liked more than this.
const TASTE_MAX: f64 = 4.0;

/// A name that was given in those years.
fn name(random: &mut impl Rng, sex: Sex, birth_date: Day) -> String {
    // Days since 1970 to a generation: before 1975, to 1990, to 2003, later.
    let generation = [1_826, 7_305, 12_053].iter().filter(|day| birth_date >= **day).count();
    let given = GIVEN[usize::from(sex == Sex::M)][generation];
    // Common names are far more common: the square leans to the front of the list.
    let place = (random.random::<f64>().powi(2) * given.len() as f64) as usize;
    let surname = SURNAMES[weighted(random, SURNAMES, |(_, weight)| *weight)].0;
    format!("{surname}{}", given[place])
}

/// A draw from a list with weights: its place.
pub(super) fn weighted<T>(random: &mut impl Rng, list: &[T], weight: impl Fn(&T) -> f64) -> usize {
    let mut point = random.random::<f64>() * list.iter().map(&weight).sum::<f64>();
    let found = list.iter().position(|one| {
        point -= weight(one);
        point < 0.0
    });
    found.unwrap_or(0)
}

/// Where orders go to, as a Korean mall had it from 2008 to 2017.
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

/// Surnames as the census of 2015 counted them.
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
    ("전", 1.1),
    ("고", 0.9),
    ("문", 0.9),
    ("양", 0.9),
    ("손", 0.9),
    ("배", 0.8),
    ("백", 0.8),
    ("허", 0.7),
    ("남", 0.6),
    ("심", 0.5),
    ("노", 0.5),
    ("하", 0.5),
];

/// Given names by sex (F, M) and generation, the common ones first.
#[rustfmt::skip]
const GIVEN: [[&[&str]; 4]; 2] = [
    [
        &["영숙", "미숙", "경숙", "정숙", "순자", "영희", "현숙", "명숙", "은숙", "미경", "혜숙", "정희", "옥순", "춘자", "인숙", "경희", "성희", "선희", "복순", "말순"],
        &["지영", "은정", "미정", "혜진", "은주", "수진", "현정", "지연", "유진", "은영", "미영", "선영", "정은", "소영", "윤정", "경아", "보영", "희정", "주연", "효진"],
        &["지혜", "민지", "수빈", "지은", "유진", "지현", "예진", "은지", "혜원", "소영", "다은", "수연", "아름", "보람", "하나", "슬기", "예지", "가영", "혜린", "주희"],
        &["서연", "민서", "지우", "서현", "예은", "하은", "지민", "수아", "채원", "윤서", "다연", "지유", "소율", "예린", "하윤", "서윤", "유나", "나은", "시은", "가은"],
    ],
    [
        &["영수", "영호", "영철", "정호", "상철", "종수", "성호", "병철", "광수", "재호", "정식", "영식", "동수", "철수", "기호", "용수", "경수", "만수", "창수", "진수"],
        &["성민", "정훈", "성훈", "상훈", "지훈", "진호", "현우", "준호", "동현", "승현", "재훈", "영진", "상우", "태훈", "기현", "성진", "대현", "형준", "민호", "종현"],
        &["지훈", "동현", "민수", "현우", "준영", "성현", "재현", "민재", "상현", "승민", "우진", "태현", "건우", "정우", "준혁", "영준", "승우", "시현", "윤호", "찬호"],
        &["민준", "서준", "예준", "도윤", "시우", "주원", "하준", "지호", "준서", "건우", "우진", "선우", "연우", "유준", "은우", "지후", "승현", "준우", "이준", "윤우"],
    ],
];
