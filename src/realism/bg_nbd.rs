//! The BG/NBD model of how customers buy, and leave, fitted by maximum likelihood.
//!
//! Each customer buys at a rate of their own (Gamma: r, alpha) and leaves for good after a purchase
//! with a probability of their own (Beta: a, b). P. Fader, B. Hardie, K. Lee, "Counting Your Customers"
//! the Easy Way, Marketing Science 24 (2005). Time is in weeks.
//!
//! The optimiser is forty lines of our own: the crate with a Nelder-Mead would bring a dozen others.

use libm::lgamma;

use super::reading::Buyers;

/// Steps after which the search ends wherever it is: at the edge of what is possible (nobody ever
/// leaves) there is no best place.
const STEPS_MAX: usize = 5000;

/// The search ends when its corners lie as near as this: parts of the parameters.
const NEAR: f64 = 1e-7;

const WEEK: f64 = 7.0;

#[derive(Clone, Copy, Debug)]
pub(super) struct Model {
    pub(super) r: f64,
    pub(super) alpha: f64,
    pub(super) a: f64,
    pub(super) b: f64,
}

/// The model under which these purchases are most likely.
pub(super) fn fit(cohort: &[Buyers]) -> Model {
    let at = |logs: &[f64; 4]| {
        let [r, alpha, a, b] = logs.map(f64::exp);
        Model { r, alpha, a, b }
    };
    // By their logarithms: so they stay above zero.
    let best = minimum([0.0; 4], |logs| -at(logs).log_likelihood(cohort));
    // Once more from there, as the search may have come to rest on its way.
    at(&minimum(best, |logs| -at(logs).log_likelihood(cohort)))
}

impl Model {
    fn log_likelihood(&self, cohort: &[Buyers]) -> f64 {
        // What depends on the number of purchases alone is worked out once for each number.
        let most = cohort.iter().map(|of| of.repeats).max().unwrap_or(0);
        let of_repeats: Vec<f64> = (0..=most).map(|repeats| self.of_repeats(repeats)).collect();
        cohort
            .iter()
            .map(|of| of.customers as f64 * (of_repeats[of.repeats as usize] + self.of_times(of)))
            .sum()
    }

    fn of_repeats(&self, repeats: i64) -> f64 {
        let Model { r, alpha, a, b } = *self;
        let x = repeats as f64;
        lgamma(b + x) - lgamma(a + b + x) - lgamma(b) + lgamma(a + b) + lgamma(r + x) - lgamma(r)
            + r * alpha.ln()
    }

    fn of_times(&self, of: &Buyers) -> f64 {
        let Model { r, alpha, a, b } = *self;
        let (x, last, observed) = weeks(of);
        let still_here = -(r + x) * (alpha + observed).ln();
        if of.repeats == 0 {
            return still_here;
        }
        let gone = (a / (b + x - 1.0)).ln() - (r + x) * (alpha + last).ln();
        let more = still_here.max(gone);
        more + ((still_here - more).exp() + (gone - more).exp()).ln()
    }

    /// The probability that such a customer comes back within so many weeks after the observation.
    pub(super) fn comes_back(&self, of: &Buyers, within: f64) -> f64 {
        let Model { r, alpha, a, b } = *self;
        let (x, last, observed) = weeks(of);
        let gone = if of.repeats == 0 {
            0.0
        } else {
            a / (b + x - 1.0) * ((alpha + observed) / (alpha + last)).powf(r + x)
        };
        let buys = 1.0 - ((alpha + observed) / (alpha + observed + within)).powf(r + x);
        buys / (1.0 + gone)
    }
}

fn weeks(of: &Buyers) -> (f64, f64, f64) {
    (of.repeats as f64, of.last as f64 / WEEK, of.observed as f64 / WEEK)
}

/// Where a function is least, by the method of Nelder and Mead: five corners in four dimensions, of
/// which the worst is moved through the middle of the others, or all towards the best.
fn minimum(start: [f64; 4], f: impl Fn(&[f64; 4]) -> f64) -> [f64; 4] {
    let corner = |place: [f64; 4]| (f(&place), place);
    let mut corners = vec![corner(start)];
    for dimension in 0..4 {
        let mut place = start;
        place[dimension] += 0.5;
        corners.push(corner(place));
    }
    for _ in 0..STEPS_MAX {
        corners.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (best, worst) = (corners[0], corners[4]);
        let near = |place: [f64; 4]| place.iter().zip(best.1).all(|(x, y)| (x - y).abs() < NEAR);
        if corners.iter().all(|corner| near(corner.1)) {
            break;
        }
        let middle: [f64; 4] =
            std::array::from_fn(|i| corners[..4].iter().map(|it| it.1[i]).sum::<f64>() / 4.0);
        // How far beyond the middle the worst corner goes.
        let beyond = |times: f64| {
            corner(std::array::from_fn(|i| middle[i] + times * (middle[i] - worst.1[i])))
        };
        let mirrored = beyond(1.0);
        let moved = if mirrored.0 < best.0 {
            let further = beyond(2.0);
            Some(if further.0 < mirrored.0 { further } else { mirrored })
        } else if mirrored.0 < corners[3].0 {
            Some(mirrored)
        } else if mirrored.0 < worst.0 {
            Some(beyond(0.5)).filter(|nearer| nearer.0 <= mirrored.0)
        } else {
            Some(beyond(-0.5)).filter(|nearer| nearer.0 < worst.0)
        };
        if let Some(moved) = moved {
            corners[4] = moved;
        } else {
            for it in &mut corners[1..] {
                *it = corner(std::array::from_fn(|i| f64::midpoint(it.1[i], best.1[i])));
            }
        }
    }
    corners[0].1
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVEN: Model = Model { r: 1.0, alpha: 1.0, a: 1.0, b: 1.0 };

    fn buyers(repeats: i64, last: i64, observed: i64, customers: i64) -> Buyers {
        Buyers { repeats, last: 7 * last, observed: 7 * observed, customers, came_back: 0 }
    }

    /// With all parameters 1, once: 1 / (1 + T). Twice: B(1, 2) (1 / (1 + T)^2 + 1 / (1 + t)^2).
    #[test]
    fn likelihood_by_hand() {
        let once = EVEN.log_likelihood(&[buyers(0, 0, 3, 1)]);
        assert!((once - (1.0_f64 / 4.0).ln()).abs() < 1e-12, "{once}");
        let twice = EVEN.log_likelihood(&[buyers(1, 1, 3, 1)]);
        assert!((twice - (0.5_f64 * (1.0 / 16.0 + 1.0 / 4.0)).ln()).abs() < 1e-12, "{twice}");
        // B(1, 3) Gamma(3): 2 / 3, then 1 / (1 + T)^3 and half of 1 / (1 + t)^3.
        let thrice = EVEN.log_likelihood(&[buyers(2, 1, 3, 1)]);
        let by_hand = (2.0 / 3.0 * (1.0 / 64.0 + 1.0 / 16.0_f64)).ln();
        assert!((thrice - by_hand).abs() < 1e-12, "{thrice}");
        let all = [buyers(0, 0, 3, 2), buyers(1, 1, 3, 1), buyers(2, 1, 3, 3)];
        let sum = 2.0 * once + twice + 3.0 * thrice;
        assert!((EVEN.log_likelihood(&all) - sum).abs() < 1e-12);
    }

    /// Who bought once is certainly still here, and buys within t with 1 - (1 + T) / (1 + T + t). Who
    /// bought twice, a week apart, is with 1 / (1 + (4 / 2)^2).
    #[test]
    fn coming_back_by_hand() {
        let once = EVEN.comes_back(&buyers(0, 0, 3, 1), 4.0);
        assert!((once - 0.5).abs() < 1e-12, "{once}");
        let twice = EVEN.comes_back(&buyers(1, 1, 3, 1), 4.0);
        assert!((twice - (1.0 - 0.25) / 5.0).abs() < 1e-12, "{twice}");
    }

    #[test]
    fn the_search_finds_the_bottom_of_a_bent_valley() {
        // Rosenbrock's, in four dimensions: least where all are 1.
        let valley = |x: &[f64; 4]| -> f64 {
            x.windows(2).map(|x| 100.0 * (x[1] - x[0] * x[0]).powi(2) + (1.0 - x[0]).powi(2)).sum()
        };
        let found = minimum([0.3, 0.5, 0.2, 0.4], valley);
        assert!(found.iter().all(|x| (x - 1.0).abs() < 1e-4), "{found:?}");
    }
}
