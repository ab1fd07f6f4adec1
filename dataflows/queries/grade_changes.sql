-- Every change of a customer's grade, at the 10-minute tick where it falls.
--
-- A ledger entry counts at the ticks from its own time to six calendar months after its order, so
-- a customer's totals change at two ticks an entry, and between those the grade that the totals
-- call for, the target, stays. Promotion is immediate and demotion takes one level a tick; so the
-- grade of a tick is the highest of: its target, the target one tick before less one level, two
-- ticks before less two, three ticks before less three (there are four levels, 0 to 3).
WITH entry AS MATERIALIZED (
    SELECT user_id,
           -- The first ticks not before the two instants; all instants are whole milliseconds.
           date_bin('10 minutes', at + interval '599.999 s', timestamptz 'epoch') AS first_tick,
           date_bin('10 minutes', (ordered_at AT TIME ZONE 'Asia/Seoul' + interval '6 months')
                                      AT TIME ZONE 'Asia/Seoul' + interval '599.999 s',
                    timestamptz 'epoch') AS end_tick,
           CASE event WHEN 'placed' THEN 1 WHEN 'cancelled' THEN -1 ELSE 0 END AS orders,
           CASE event WHEN 'placed' THEN total ELSE -total END AS amount
    FROM counted_order_events,
         LATERAL (SELECT sum(quantity * unit_price)::bigint AS total
                  FROM unnest(quantities, unit_prices) AS line (quantity, unit_price)) AS lines
),
change AS (
    SELECT user_id, first_tick AS tick, orders, amount FROM entry WHERE first_tick < end_tick
    UNION ALL
    SELECT user_id, end_tick, -orders, -amount FROM entry WHERE first_tick < end_tick
),
target AS (
    SELECT user_id, tick,
           CASE WHEN amount >= 5000000 AND orders >= 30 THEN 3
                WHEN amount >= 2000000 AND orders >= 15 THEN 2
                WHEN amount >= 500000 AND orders >= 5 THEN 1
                ELSE 0 END AS level
    FROM (SELECT user_id, tick, sum(orders) OVER so_far AS orders, sum(amount) OVER so_far AS amount
          FROM change
          WHERE tick <= (SELECT now FROM commit_points ORDER BY epoch DESC LIMIT 1)
          WINDOW so_far AS (PARTITION BY user_id ORDER BY tick)) AS total
),
-- The ticks at which the target changes ...
turn AS (
    SELECT user_id, tick, level, lead(tick) OVER (PARTITION BY user_id ORDER BY tick) AS next_tick
    FROM (SELECT *, lag(level, 1, 0) OVER (PARTITION BY user_id ORDER BY tick) AS level_before
          FROM target) AS step
    WHERE level <> level_before
),
-- ... and up to three ticks after each: the grade changes at no other.
tick AS (
    SELECT user_id, each AS tick, level
    FROM turn,
         generate_series(tick,
                         least(tick + interval '30 minutes', next_tick - interval '10 minutes',
                               (SELECT now FROM commit_points ORDER BY epoch DESC LIMIT 1)),
                         interval '10 minutes') AS each
),
grade AS (
    SELECT user_id, tick,
           greatest(level,
                    lag(level, 1, 0) OVER by_tick - 1,
                    lag(level, 2, 0) OVER by_tick - 2,
                    lag(level, 3, 0) OVER by_tick - 3) AS level
    FROM tick
    WINDOW by_tick AS (PARTITION BY user_id ORDER BY tick)
)
SELECT user_id, tick,
       (ARRAY['BRONZE', 'SILVER', 'GOLD', 'VIP'])[level_before + 1] AS from_grade,
       (ARRAY['BRONZE', 'SILVER', 'GOLD', 'VIP'])[level + 1] AS to_grade
FROM (SELECT *, lag(level, 1, 0) OVER (PARTITION BY user_id ORDER BY tick) AS level_before
      FROM grade) AS step
WHERE level <> level_before
  AND user_id IN (SELECT user_id FROM user_events)
