//! Draws by their owner: what one customer does leaves the others as they were, but for what they
//! share: the working set, the stock and the best sellers.

use super::*;
use crate::model::Line;

/// Customers who buy several times a day.
pub(super) const BUSY: &str = "base = \"year\"\nhistory = \"0\"\n\
    [customers]\ninitial = 4_000\nreach = 40_000\nopening_delay = \"6h\"\nready_delay = \"2h\"\n\
    [rhythm]\norders_a_month = 90.0\nrest = \"0s\"\nsoon = [0.5, \"1h\"]\ndrop_out = [0.1, 2.0]\n\
    [demand]\narrivals = [2_000, 4_000]\nsmooth = \"6h\"\nhorizon = \"1d\"\n\
    [products]\nlisted_a_day = 1_000\nstock = [5, 60]\ndelivery = [\"1h\", \"4h\"]\n\
    [working_set]\nbest_sellers_days = 1\n";

/// When each customer ordered, and what.
type Orders = HashMap<i64, Vec<(Millis, Arc<[Line]>)>>;

/// Lives through refreshes in a market that goes on from another; in the first of them some customer
/// of the working set places one order more.
fn orders(from: &Market, refreshes: u64, one_more: Option<u32>) -> Orders {
    let mut market = fork(from, &from.settings, &[]);
    let mut orders = Orders::new();
    let mut emit = |event| {
        if let Event::Order(OrderEvent { order, .. }) = event
            && order.event == OrderKind::Placed
        {
            orders.entry(order.user_id.0).or_default().push((order.at, order.lines));
        }
    };
    if let Some(id) = one_more {
        let at = market.settings.border(market.common.refresh);
        let proposal = Arc::new(market.propose());
        market.begin(&[proposal], &mut emit);
        assert!(market.take(id), "{id} is no member");
        market.place(id, at + 1, day_of(at), &mut emit);
        while market.next_tick().is_some() {
            market.run_tick(&mut emit);
        }
    }
    live_through(&mut market, refreshes - u64::from(one_more.is_some()), &mut emit);
    orders
}

/// Members of the next refresh's working set: some who bought, some who never did.
fn some_members(from: &Market, each: usize) -> Vec<u32> {
    let mut market = fork(from, &from.settings, &[]);
    let proposal = Arc::new(market.propose());
    market.begin(&[proposal], &mut |_| {});
    let members = sorted(&market.working_set.members);
    let of = |group: u8| {
        let ids: Vec<u32> =
            members.iter().filter(|(_, it)| it.group == group).map(|(id, _)| *id).collect();
        (0..each).map(move |place| ids[ids.len() * place / each]).collect::<Vec<_>>()
    };
    [of(0), of(1)].concat()
}

/// Of two worlds: customers who order at other times, and those whose orders have other contents or
/// times; the one who ordered more is not counted.
fn differing(one: &Orders, other: &Orders, but: u32) -> (usize, usize) {
    let ids: BTreeSet<i64> = one.keys().chain(other.keys()).copied().collect();
    let empty = Vec::new();
    let (mut times, mut contents) = (0, 0);
    for id in ids.into_iter().filter(|id| *id != i64::from(but)) {
        let [one, other] = [one, other].map(|orders| orders.get(&id).unwrap_or(&empty));
        let at =
            |orders: &Vec<(Millis, Arc<[Line]>)>| orders.iter().map(|it| it.0).collect::<Vec<_>>();
        times += usize::from(at(one) != at(other));
        contents += usize::from(one != other);
    }
    (times, contents)
}

/// One order more changes when others order for one customer in a hundred at the most in 30 days, and
/// what they order for two in a hundred.
#[test]
#[expect(clippy::print_stdout, reason = "the figures are the point, with --nocapture")]
fn one_order_more_leaves_the_others_as_they_were() {
    let (mut market, _) = refreshes(settings_with(""), 0, |_| {});
    // Long enough for sales to tell the best sellers from the others.
    live_through(&mut market, 200 * DAY_REFRESHES, &mut |_| {});
    let span = 30 * DAY_REFRESHES;
    let usual = orders(&market, span, None);
    let all = f64::from(market.common.customers);
    for id in some_members(&market, 3) {
        let other = orders(&market, span, Some(id));
        let (times, contents) = differing(&usual, &other, id);
        println!(
            "customer {id} orders once more: of {all} customers {times} order at other times, \
             {contents} other things"
        );
        assert!(f64::from(times as u32) <= 0.01 * all, "{times} of {all} at other times");
        assert!(f64::from(contents as u32) <= 0.02 * all, "{contents} of {all} other contents");
        let at = market.settings.border(market.common.refresh) + 1;
        assert_eq!(other[&i64::from(id)][0].0, at, "the order was not placed");
    }
}

/// What is left has names. Without stock to run out and without best sellers, whoever orders when
/// they did orders what they did; and in a working set that has room for everybody and a demand that
/// answers to nobody, no one who bought before orders at another time but by the sum of the scores.
#[test]
fn what_one_order_changes_it_changes_by_stock_best_sellers_and_the_working_set() {
    let closed = settings_with(
        "[working_set]\nbest_sellers = 0\n[products]\nstock = [1_000_000, 1_000_000]",
    );
    let (mut market, _) = refreshes(closed, 0, |_| {});
    live_through(&mut market, 40 * DAY_REFRESHES, &mut |_| {});
    let span = 10 * DAY_REFRESHES;
    let usual = orders(&market, span, None);
    for id in some_members(&market, 2) {
        let other = orders(&market, span, Some(id));
        for (user, orders) in usual.iter().filter(|(user, _)| **user != i64::from(id)) {
            let (first, again) = (&orders[0], other.get(user).and_then(|orders| orders.first()));
            if let Some(again) = again.filter(|again| again.0 == first.0) {
                assert_eq!(again, first, "customer {user} orders other things");
            }
        }
    }
}

/// Who signs up, when and as which customer is the same whatever the demand.
#[test]
fn sign_ups_do_not_depend_on_demand() {
    let settings = settings(3);
    let command = Command {
        at: settings.origin + 5 * HOUR,
        name: "flash".to_owned(),
        strength: Some(3.0),
        categories: Vec::new(),
        until: None,
    };
    let sign_ups = |commands: &[Command]| {
        let ran = run(&settings, 1, None, commands, 3 * DAY_REFRESHES, DAY);
        let users = ran.records.values().flatten().filter_map(|event| match event {
            Event::User(event) if event.at == event.user.signed_up_at => Some(event.user.clone()),
            _ => None,
        });
        let mut users: Vec<_> = users.collect();
        users.sort_by_key(|user| user.user_id);
        (users, ran.figures.orders)
    };
    let ((usual, orders), (flash, more)) = (sign_ups(&[]), sign_ups(&[command]));
    assert!(more > orders * 3 / 2, "{more} orders, {orders} without the command");
    assert!(usual.len() > 200, "{}", usual.len());
    assert!(usual == flash, "other sign-ups with other demand");
}

/// In one refresh more demand adds orders: whoever orders does so all the same, or sooner.
#[test]
fn more_demand_only_adds_orders() {
    let mut settings = settings(1);
    settings.profile = Profile::read(BUSY).unwrap();
    let (mut market, _) = refreshes(settings, 0, |_| {});
    live_through(&mut market, 600, &mut |_| {});
    let (mut usual, mut more) = (0, 0);
    for _ in 0..40 {
        let settings = &market.settings;
        let at = settings.border(market.common.refresh);
        let placed = |strengths: &[f64]| {
            let commands: Vec<Command> = strengths
                .iter()
                .map(|strength| Command {
                    at,
                    name: "flash".to_owned(),
                    strength: Some(*strength),
                    categories: Vec::new(),
                    until: None,
                })
                .collect();
            let mut placed = BTreeMap::new();
            live_through(&mut fork(&market, settings, &commands), 1, &mut |event| {
                if let Event::Order(OrderEvent { order, .. }) = event
                    && order.event == OrderKind::Placed
                {
                    placed.insert(order.user_id, order.at);
                }
            });
            placed
        };
        let (one, two, ten) = (placed(&[]), placed(&[2.0]), placed(&[10.0]));
        for (less, more) in [(&one, &two), (&two, &ten)] {
            let holds = less.iter().all(|(id, at)| more.get(id).is_some_and(|sooner| sooner <= at));
            assert!(holds, "more demand took an order away, or put it off");
        }
        (usual, more) = (usual + one.len(), more + ten.len());
        live_through(&mut market, 7, &mut |_| {});
    }
    assert!(usual > 50 && more > 5 * usual, "{usual} orders, {more} at ten times the demand");
}
