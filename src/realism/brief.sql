-- What the table of the brief's numbers reads besides the scorecard's temporary tables: from the ledgers,
-- from the records of customers and products, and from the truth, where it was asked for.

-- name: beginning
-- Customers and products of the first moment.
SELECT (SELECT count(*) FROM user_events, (SELECT min(at) AS at FROM user_events) AS first
        WHERE user_events.at = first.at)::float8,
       (SELECT count(*) FROM product_events, (SELECT min(at) AS at FROM product_events) AS first
        WHERE product_events.at = first.at)::float8

-- name: first_grades
-- Customers whose first change of grade is one from another grade than BRONZE.
SELECT count(*)::float8
FROM (SELECT DISTINCT ON (user_id) from_grade FROM grade_changes ORDER BY user_id, tick) AS first
WHERE from_grade <> 'BRONZE'

-- name: prices
-- How far the upper tenth of a category's prices is from the middle, over how far the lower one is.
SELECT (sum(products * (price[3] - price[2]) / (price[2] - price[1])) / sum(products))::float8
FROM (SELECT count(*) AS products,
             percentile_cont(ARRAY[0.1, 0.5, 0.9]) WITHIN GROUP (ORDER BY price) AS price
      FROM products GROUP BY category HAVING count(*) >= 100) AS category
WHERE price[2] > price[1]

-- name: scenarios
SELECT count(DISTINCT name)::float8 FROM scenario_events WHERE action = 'start'

-- name: order_gaps
-- Share of the orders that come 3 to 5 s after the one before.
SELECT avg((gap BETWEEN interval '3 s' AND interval '5 s')::int)::float8
FROM (SELECT at - lag(at) OVER (ORDER BY at) AS gap FROM placed) AS gaps
WHERE gap IS NOT NULL

-- name: listing_gaps
-- Share of the products that are listed 6 to 8 s after the one before, of those that came later.
SELECT avg((gap BETWEEN interval '6 s' AND interval '8 s')::int)::float8
FROM (SELECT listed_at - lag(listed_at) OVER (ORDER BY listed_at) AS gap
      FROM products, (SELECT min(at) AS opened FROM product_events) AS history
      WHERE listed_at > opened) AS gaps
WHERE gap IS NOT NULL

-- name: rush
-- Sign-ups in 10 s, in the busiest ten minutes.
SELECT max(sign_ups)::float8 / 60
FROM (SELECT count(*) AS sign_ups
      FROM users, (SELECT min(at) AS opened FROM user_events) AS history
      WHERE signed_up_at > opened
      GROUP BY floor(extract(epoch FROM signed_up_at) / 600)) AS busy

-- name: groups
-- Customers who have bought, and who have not.
SELECT count(buyer.user_id)::float8, count(*) FILTER (WHERE buyer.user_id IS NULL)::float8
FROM users LEFT JOIN (SELECT DISTINCT user_id FROM buying_day) AS buyer USING (user_id)

-- name: offered
-- Of the lines of the last whole day, those of the 700 best sellers (of 30 days, or since ever), of the
-- newest, or of what the customer had bought before. The newest are the 300 of the day's beginning, and
-- what was listed on it.
WITH border AS (
    SELECT max(day) - 1 AS day, (max(day) - 1) AT TIME ZONE 'Asia/Seoul' AS opens,
           max(day) AT TIME ZONE 'Asia/Seoul' AS closes
    FROM placed
),
lines AS MATERIALIZED (
    SELECT user_id, ordered_at, unnest(product_ids) AS product_id
    FROM counted_order_events WHERE event = 'placed'
),
ranked AS (
    SELECT product_id, row_number() OVER (ORDER BY ever DESC, product_id) AS ever,
           row_number() OVER (ORDER BY month DESC, product_id) AS month
    FROM (SELECT product_id, count(*) AS ever,
                 count(*) FILTER (WHERE ordered_at > opens - interval '30 days') AS month
          FROM lines, border WHERE ordered_at < opens GROUP BY product_id) AS counted
),
newest AS (
    SELECT product_id FROM products, border WHERE listed_at BETWEEN opens AND closes
    UNION ALL
    (SELECT product_id FROM products, border WHERE listed_at < opens ORDER BY listed_at DESC LIMIT 300)
),
last_day AS (
    SELECT lines.* FROM lines, border WHERE ordered_at >= opens AND ordered_at < closes
),
first_bought AS (
    SELECT user_id, product_id, min(ordered_at) AS first_at
    FROM lines WHERE user_id IN (SELECT user_id FROM last_day)
    GROUP BY user_id, product_id
)
SELECT greatest(avg((newest OR again OR ranked.ever <= 700)::int),
                avg((newest OR again OR ranked.month <= 700)::int))::float8
FROM (SELECT product_id, product_id IN (SELECT product_id FROM newest) AS newest,
             first_at < ordered_at AS again
      FROM last_day JOIN first_bought USING (user_id, product_id)) AS line
LEFT JOIN ranked USING (product_id)

-- name: women
-- Orders of a woman in her thirties over those of the mean customer.
SELECT (sum(orders) FILTER (WHERE hers)::float8 / count(*) FILTER (WHERE hers)
        / (sum(orders)::float8 / count(*)))::float8
FROM (SELECT sex = 'F' AND extract(year FROM age(last_day, birth_date)) BETWEEN 30 AND 39 AS hers,
             coalesce(orders, 0) AS orders
      FROM (SELECT max(day) AS last_day FROM placed) AS history,
           users LEFT JOIN (SELECT user_id, count(*) AS orders FROM placed GROUP BY user_id) AS buyer
               USING (user_id)) AS customer

-- name: consents
SELECT user_id, marketing_consent FROM users

-- name: partitions
-- The least and the greatest share of a partition in the newest 10,000 orders.
SELECT (min(orders) / sum(orders))::float8, (max(orders) / sum(orders))::float8
FROM (SELECT count(newest.partition)::numeric AS orders
      FROM (SELECT DISTINCT partition FROM order_events) AS partition
      LEFT JOIN (SELECT partition FROM order_events WHERE event = 'placed'
                 ORDER BY at DESC LIMIT 10000) AS newest USING (partition)
      GROUP BY partition.partition) AS counted

-- name: taken_back
-- Share of the orders that are cancelled, and that are refunded.
SELECT count(DISTINCT (user_id, order_id)) FILTER (WHERE event = 'cancelled') / orders::float8,
       count(DISTINCT (user_id, order_id)) FILTER (WHERE event = 'refunded') / orders::float8
FROM counted_order_events, (SELECT nullif(count(*), 0) AS orders FROM placed) AS all_orders
WHERE event <> 'placed'
GROUP BY orders

-- name: grades
-- Customers who have another grade than the last six months give.
SELECT count(*)::float8
FROM customer_grade
WHERE grade <> CASE WHEN amount_6m >= 5000000 AND orders_6m >= 30 THEN 'VIP'
                    WHEN amount_6m >= 2000000 AND orders_6m >= 15 THEN 'GOLD'
                    WHEN amount_6m >= 500000 AND orders_6m >= 5 THEN 'SILVER'
                    ELSE 'BRONZE' END

-- name: units
-- By day and category.
SELECT (ordered_at AT TIME ZONE 'Asia/Seoul')::date - date '1970-01-01', category, sum(quantity)::bigint
FROM counted_order_events, unnest(categories, quantities) AS line (category, quantity)
WHERE event = 'placed'
GROUP BY 1, 2

-- name: occurrences
-- First and last day of each scenario that has begun and ended; the day on which it ends at 0:00 is none.
SELECT name, (min(at) FILTER (WHERE action = 'start') AT TIME ZONE 'Asia/Seoul')::date - date '1970-01-01',
       (max(at) FILTER (WHERE action = 'stop') AT TIME ZONE 'Asia/Seoul' - interval '1 s')::date
           - date '1970-01-01'
FROM scenario_events GROUP BY name, occurrence
HAVING bool_or(action = 'start') AND bool_or(action = 'stop')
ORDER BY 2

-- name: truth
-- Of the order ticks: of the borders of 50 s, those that end a tick; and, of these, those with more than
-- 600 who are due and 400 who are ready, of all and after two weeks; the orders over the expected ones.
SELECT count(*) FILTER (WHERE border)
           / nullif(floor(extract(epoch FROM max(at) - min(at)) / 50) + 1, 0)::float8,
       avg(is_full::int) FILTER (WHERE border)::float8,
       avg(is_full::int) FILTER (WHERE border AND at > opened + interval '14 days')::float8,
       sum(orders)::float8 / nullif(sum(expected_orders), 0)
FROM (SELECT at, date_bin('50 s', at, 'epoch') = at AS border, due > 600 AND ready > 400 AS is_full,
             orders, expected_orders
      FROM truth_demand) AS tick,
     (SELECT min(at) AS opened FROM truth_demand) AS history

-- name: tick_gaps
-- Share of the order ticks that come 3 to 5 s after the one before.
SELECT avg((gap BETWEEN interval '3 s' AND interval '5 s')::int)::float8
FROM (SELECT at - lag(at) OVER (ORDER BY at) AS gap FROM truth_demand) AS gaps
WHERE gap IS NOT NULL

-- name: going_live
-- Sign-ups, listings and orders from the start on, over those of the same times a week before; null where
-- there are none. $1: the start, in milliseconds.
WITH history AS (
    SELECT start, (max(at) AT TIME ZONE 'Asia/Seoul') - start AS live
    FROM placed, (SELECT to_timestamp($1::bigint / 1000.0) AS start) AS settings GROUP BY start
)
SELECT (SELECT count(*) FILTER (WHERE signed_up_at > start AND signed_up_at <= start + live)::float8
               / nullif(count(*) FILTER (WHERE signed_up_at > start - interval '7 days'
                                           AND signed_up_at <= start - interval '7 days' + live), 0)
        FROM users),
       (SELECT count(*) FILTER (WHERE listed_at > start AND listed_at <= start + live)::float8
               / nullif(count(*) FILTER (WHERE listed_at > start - interval '7 days'
                                           AND listed_at <= start - interval '7 days' + live), 0)
        FROM products),
       (SELECT count(*) FILTER (WHERE instant > start AND instant <= start + live)::float8
               / nullif(count(*) FILTER (WHERE instant > start - interval '7 days'
                                           AND instant <= start - interval '7 days' + live), 0)
        FROM (SELECT at AT TIME ZONE 'Asia/Seoul' AS instant FROM placed) AS orders)
FROM history WHERE live >= interval '1 hour'
