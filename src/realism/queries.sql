-- What the scorecard reads: a statement, or several, after each name. All of it comes from the ledger
-- and from the records of customers and products, nothing from a result of the analytics, except who
-- is VIP. Placed orders count, whatever became of them. Days and hours are Seoul's.

-- name: tables
-- Made before the snapshot is taken: a read-only transaction may fill temporary tables, not make them.
CREATE TEMP TABLE placed (
    user_id bigint,
    at timestamp,                    -- by Seoul's clock
    day date,
    amount bigint,
    lines bigint,
    products bigint                  -- different ones
);
CREATE TEMP TABLE buying_day (
    user_id bigint,
    day date,
    place bigint,                    -- 1 is the customer's first
    gap integer                      -- days since the one before
);
CREATE TEMP TABLE sold (product_id bigint, lines bigint, first_at timestamptz, newest_at timestamptz);

-- name: fill
INSERT INTO placed
SELECT user_id, seoul, seoul::date, amount, cardinality(product_ids), products
FROM counted_order_events,
     LATERAL (SELECT ordered_at AT TIME ZONE 'Asia/Seoul' AS seoul) AS clock,
     LATERAL (SELECT coalesce(sum(quantity * unit_price), 0) AS amount,
                     count(DISTINCT product_id) AS products
              FROM unnest(product_ids, quantities, unit_prices)
                       AS line (product_id, quantity, unit_price)) AS goods
WHERE event = 'placed';
ANALYZE placed;

INSERT INTO buying_day
SELECT user_id, day, row_number() OVER in_turn, day - lag(day) OVER in_turn
FROM (SELECT DISTINCT user_id, day FROM placed) AS days
WINDOW in_turn AS (PARTITION BY user_id ORDER BY day);
ANALYZE buying_day;

INSERT INTO sold
SELECT product_id, count(*), min(ordered_at), max(ordered_at)
FROM (SELECT unnest(product_ids) AS product_id, ordered_at
      FROM counted_order_events WHERE event = 'placed') AS line
GROUP BY product_id;
ANALYZE sold;

-- name: days
SELECT all_days.day::date - date '1970-01-01', count(placed.day)
FROM (SELECT generate_series(min(day), max(day), interval '1 day') AS day FROM placed) AS all_days
LEFT JOIN placed ON placed.day = all_days.day::date
GROUP BY all_days.day ORDER BY all_days.day

-- name: buyers
SELECT count(*), sum(amount)::bigint FROM placed GROUP BY user_id

-- name: gaps
SELECT gap::bigint, count(*) FROM buying_day WHERE gap IS NOT NULL GROUP BY gap ORDER BY gap

-- name: repeats
-- Of those whose first day was so long ago that one can know; null where there is nobody.
SELECT avg((second_day <= first_day + 30)::int) FILTER (WHERE first_day <= last_day - 30)::float8,
       avg((second_day <= first_day + 90)::int) FILTER (WHERE first_day <= last_day - 90)::float8,
       avg((second_day <= first_day + 180)::int) FILTER (WHERE first_day <= last_day - 180)::float8
FROM (SELECT min(day) AS first_day, coalesce(max(day) FILTER (WHERE place = 2), 'infinity') AS second_day
      FROM buying_day WHERE place <= 2 GROUP BY user_id) AS customer,
     (SELECT max(day) AS last_day FROM buying_day) AS history

-- name: amounts
SELECT avg(ln(amount::float8)), stddev_samp(ln(amount::float8)), avg(amount)::float8
FROM placed WHERE amount > 0

-- name: amount_bins
-- Ten to each power of ten.
SELECT floor(10 * log(amount::float8))::bigint, count(*) FROM placed WHERE amount > 0
GROUP BY 1 ORDER BY 1

-- name: baskets
SELECT lines, count(*) FROM placed GROUP BY lines ORDER BY lines

-- name: popularity
SELECT lines FROM sold ORDER BY lines DESC

-- name: reorders
-- Each customer's first line of a product is no reorder; a product counts once in an order.
SELECT (1 - (SELECT count(*)
             FROM (SELECT DISTINCT user_id, unnest(product_ids)
                   FROM counted_order_events WHERE event = 'placed') AS first)
            / nullif(sum(products), 0))::float8
FROM placed

-- name: hours
-- The age is that on the day; it and the sex are null where the customer is not known.
SELECT CASE WHEN age >= 60 THEN '60+' WHEN age >= 20 THEN age / 10 || '0s' WHEN age >= 0 THEN '10s' END,
       sex, hour, sum(orders)::bigint
FROM (SELECT extract(year FROM age(day, birth_date))::bigint AS age, sex,
             extract(hour FROM at)::bigint AS hour, count(*) AS orders
      FROM placed LEFT JOIN users USING (user_id)
      GROUP BY 1, 2, 3) AS by_age
GROUP BY 1, 2, 3

-- name: vips
-- Those who are VIP now: days from one day with purchases to the next, in all their history and within
-- the last six months; and from one order to the next within these.
WITH vip AS (SELECT user_id FROM users WHERE grade = 'VIP'),
six_months AS (SELECT max(at) - interval '6 months' AS since FROM placed),
lifetime AS (
    SELECT avg(gap)::float8 AS mean, percentile_cont(0.5) WITHIN GROUP (ORDER BY gap) AS median
    FROM buying_day JOIN vip USING (user_id)
),
recent AS (
    SELECT avg(gap)::float8 AS mean, percentile_cont(0.5) WITHIN GROUP (ORDER BY gap) AS median
    FROM buying_day JOIN vip USING (user_id), six_months
    WHERE day - gap > since
),
recent_orders AS (
    SELECT avg(extract(epoch FROM gap))::float8 / 86400 AS mean
    FROM (SELECT at - lag(at) OVER (PARTITION BY user_id ORDER BY at) AS gap
          FROM placed JOIN vip USING (user_id), six_months
          WHERE at > since) AS gaps
)
SELECT lifetime.mean, lifetime.median, recent_orders.mean, recent.mean, recent.median
FROM lifetime, recent, recent_orders

-- name: first_sales
-- Of the products listed after the first order and three days before the last or earlier. One that has
-- not sold has waited until now.
SELECT avg((waited <= 3)::int)::float8, percentile_cont(0.5) WITHIN GROUP (ORDER BY waited)
FROM (SELECT min(at) AT TIME ZONE 'Asia/Seoul' AS first_at, max(at) AT TIME ZONE 'Asia/Seoul' AS last_at
      FROM placed) AS history,
     LATERAL (SELECT greatest(extract(epoch FROM coalesce(sold.first_at, last_at) - listed_at), 0)::float8
                     / 86400 AS waited
              FROM products LEFT JOIN sold USING (product_id)
              WHERE listed_at BETWEEN history.first_at AND last_at - interval '3 days') AS product

-- name: cohort
-- The customers whose first purchase fell into the first 13 weeks, as they stood after 39: days with
-- purchases after the first, days from the first to the last, days from the first to the end of the 39
-- weeks; how many such customers there are, and how many of them came back later.
SELECT repeats, (last_day - first_day)::bigint, (until - first_day)::bigint, count(*),
       count(*) FILTER (WHERE came_back)
FROM (SELECT min(day) AS opened, min(day) + 39 * 7 - 1 AS until FROM placed) AS history,
     LATERAL (SELECT min(day) AS first_day, max(day) FILTER (WHERE day <= until) AS last_day,
                     count(*) FILTER (WHERE day <= until) - 1 AS repeats, bool_or(day > until) AS came_back
              FROM buying_day GROUP BY user_id) AS customer
WHERE first_day < opened + 13 * 7
GROUP BY 1, 2, 3

-- name: sign_ups
-- Of the customers who signed up 90 days before the last order or earlier, those who have bought.
SELECT avg((buyer.user_id IS NOT NULL)::int)::float8
FROM (SELECT max(day) AS last_day FROM placed) AS history,
     users LEFT JOIN (SELECT DISTINCT user_id FROM buying_day) AS buyer USING (user_id)
WHERE signed_up_at < (last_day - 90) AT TIME ZONE 'Asia/Seoul'

-- name: retention
-- By month of the first purchase, and months since then: customers with a purchase in that month. A
-- month has 30.4 days and is counted from the day of the first order.
SELECT first_month, month - first_month, count(*)
FROM (SELECT DISTINCT user_id, month, min(month) OVER (PARTITION BY user_id) AS first_month
      FROM (SELECT user_id, floor((day - opened) / 30.4)::bigint AS month
            FROM buying_day, (SELECT min(day) AS opened FROM placed) AS history) AS visit) AS active
GROUP BY 1, 2

-- name: most_frequent
-- The most days with purchases, and orders, of one customer within 365 days.
SELECT max(days)::float8, max(orders)::float8
FROM (SELECT count(*) OVER year AS days, sum(orders) OVER year AS orders
      FROM (SELECT user_id, day, count(*) AS orders FROM placed GROUP BY 1, 2) AS bought
      WINDOW year AS (PARTITION BY user_id ORDER BY day
                      RANGE BETWEEN interval '364 days' PRECEDING AND CURRENT ROW)) AS customer

-- name: catalogue
-- Of the products that are known, those that sold in the last 365 days; null where it is not a year.
SELECT CASE WHEN years THEN sold::float8 / nullif(products, 0) END
FROM (SELECT max(day) - min(day) >= 364 AS years FROM placed) AS history,
     (SELECT count(*) FILTER (WHERE newest_at > ended - interval '365 days') AS sold, count(*) AS products
      FROM products LEFT JOIN sold USING (product_id),
           (SELECT max(newest_at) AS ended FROM sold) AS history) AS catalogue
