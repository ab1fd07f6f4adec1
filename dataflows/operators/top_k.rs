//! The first hundred of each group.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use differential_dataflow::difference::{IsZero, Semigroup};
use differential_dataflow::{AsCollection, Hashable, VecCollection};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Operator;

use super::{HashMap, Stash, StateSize, Vecs};
use crate::model::ProductId;
use crate::{Collection, Epoch};

/// What was sold of a product: pieces and revenue.
pub type Sold = (isize, isize);

/// A product in the order of ranks: most pieces first, then most revenue, then the lowest id.
pub type Ranked = (Reverse<isize>, Reverse<isize>, ProductId);

/// How many of each group are kept.
pub const TOP_K: usize = 100;

/// The products of one group at one worker.
#[derive(Default)]
struct Group {
    sold: HashMap<ProductId, Sold>,
    /// What the output says: the first of them, in the order of ranks.
    leaders: Vec<Ranked>,
}

impl Group {
    /// The first products of the group now.
    fn lead(&self) -> Vec<Ranked> {
        let ranked = |(product_id, (units, revenue)): (&ProductId, &Sold)| {
            (Reverse(*units), Reverse(*revenue), *product_id)
        };
        let mut leaders: Vec<Ranked> = self.sold.iter().map(ranked).collect();
        if leaders.len() > TOP_K {
            leaders.select_nth_unstable(TOP_K - 1);
            leaders.truncate(TOP_K);
        }
        leaders.sort_unstable();
        leaders
    }
}

/// The first [`TOP_K`] products of each group, by number of the group, with their places 1, 2 ...
///
/// Every worker ranks the products that hash to it and sends its first hundred on; of those a
/// `reduce` takes the first hundred.
///
/// Work: a look-up a change, and in an epoch in which a group changes a look at all its products,
/// some nanoseconds each; a tree kept in order would cost more as soon as a percent of them change.
/// State: one sum a product and group.
pub fn top_k<'s>(
    sold: VecCollection<'s, Epoch, (usize, ProductId), Sold>,
    name: &str,
) -> Collection<'s, (usize, (usize, Ranked))> {
    let scope = sold.inner.scope();
    let by_product =
        Exchange::new(|((_, product_id), _, _): &((usize, ProductId), Epoch, Sold)| {
            product_id.hashed()
        });
    let leaders: Collection<'s, (usize, Ranked)> = sold
        .inner
        .unary_frontier::<Vecs<((usize, Ranked), Epoch, isize)>, _, _, _>(
            by_product,
            name,
            |_capability, info| {
                let mut kept = StateSize::by(scope, &info);
                let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
                let mut held: Stash<Vec<((usize, ProductId), Sold)>> = Stash::new();
                move |(input, frontier), output| {
                    input.for_each_stamp(|capability, batches| {
                        for (key, epoch, sold) in batches.flat_map(|batch| batch.drain(..)) {
                            held.at(epoch, || capability.delayed(&epoch, 0)).push((key, sold));
                        }
                    });
                    while let Some((capability, changes)) =
                        held.pop_closed(|epoch| frontier.less_equal(epoch))
                    {
                        let mut changed = std::collections::BTreeSet::new();
                        for ((group, product_id), diff) in changes {
                            changed.insert(group);
                            let products = &mut groups.entry(group).or_default().sold;
                            let sold = products.entry(product_id).or_default();
                            sold.plus_equals(&diff);
                            if sold.is_zero() {
                                products.remove(&product_id);
                            }
                        }
                        let epoch = *capability.time();
                        let mut session = output.session(&capability);
                        for (number, group) in &mut groups {
                            if !changed.contains(number) {
                                continue;
                            }
                            let leaders = group.lead();
                            for gone in &group.leaders {
                                if leaders.binary_search(gone).is_err() {
                                    session.give(((*number, *gone), epoch, -1));
                                }
                            }
                            for come in &leaders {
                                if group.leaders.binary_search(come).is_err() {
                                    session.give(((*number, *come), epoch, 1));
                                }
                            }
                            group.leaders = leaders;
                        }
                    }
                    kept.tell(|| groups.values().map(|group| group.sold.len()).sum());
                }
            },
        )
        .as_collection();
    leaders.reduce_named(name, |_group, ranked, places| {
        let firsts = ranked.iter().take(TOP_K).zip(1..);
        places.extend(firsts.map(|((ranked, _), place)| ((place, **ranked), 1)));
    })
}
