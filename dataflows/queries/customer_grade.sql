-- Each known customer's grade, and the totals of six months that stand at the last tick.
--
-- Reads the twin of grade_changes, which `marketday verify` computes just before.
WITH latest_tick AS (
    SELECT date_bin('10 minutes', now, timestamptz 'epoch') AS tick
    FROM (SELECT now FROM commit_points ORDER BY epoch DESC LIMIT 1) AS newest
),
total AS (
    SELECT user_id,
           sum(CASE event WHEN 'placed' THEN amount ELSE -amount END)::bigint AS amount,
           sum(CASE event WHEN 'placed' THEN 1 WHEN 'cancelled' THEN -1 ELSE 0 END)::bigint AS orders
    FROM counted_order_events, latest_tick,
         LATERAL (SELECT sum(quantity * unit_price)::bigint AS amount
                  FROM unnest(quantities, unit_prices) AS line (quantity, unit_price)) AS lines
    WHERE at <= tick
      AND (ordered_at AT TIME ZONE 'Asia/Seoul' + interval '6 months') AT TIME ZONE 'Asia/Seoul' > tick
    GROUP BY user_id
),
customer AS (
    SELECT DISTINCT ON (user_id) user_id, signed_up_at
    FROM user_events
    ORDER BY user_id, at DESC, event_id DESC
),
change AS (
    SELECT DISTINCT ON (user_id) user_id, tick, to_grade
    FROM grade_changes
    ORDER BY user_id, tick DESC
)
SELECT user_id,
       coalesce(to_grade, 'BRONZE') AS grade,
       coalesce(tick, signed_up_at) AS since,
       coalesce(amount, 0) AS amount_6m,
       coalesce(orders, 0) AS orders_6m
FROM customer
LEFT JOIN change USING (user_id)
LEFT JOIN total USING (user_id)
