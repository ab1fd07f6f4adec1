WITH total AS (
    SELECT user_id,
           sum(CASE event WHEN 'placed' THEN amount ELSE -amount END)::bigint AS amount,
           sum(CASE event WHEN 'placed' THEN 1 WHEN 'cancelled' THEN -1 ELSE 0 END)::bigint AS orders
    FROM (SELECT event_id, event, user_id, at, ordered_at, sum(amount)::bigint AS amount
          FROM order_lines GROUP BY event_id, event, user_id, at, ordered_at) AS events
    WHERE at <= date_bin('10 minutes', market_now(), timestamptz 'epoch')
      AND (ordered_at AT TIME ZONE 'Asia/Seoul' + interval '6 months') AT TIME ZONE 'Asia/Seoul'
          > date_bin('10 minutes', market_now(), timestamptz 'epoch')
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
