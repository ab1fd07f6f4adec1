WITH ledger AS (
    SELECT user_id,
           sum(CASE event WHEN 'placed' THEN 1 WHEN 'cancelled' THEN -1 ELSE 0 END)::bigint AS orders,
           sum(CASE event WHEN 'placed' THEN amount ELSE -amount END)::bigint AS revenue
    FROM (SELECT event_id, event, user_id, sum(amount)::bigint AS amount
          FROM order_lines GROUP BY event_id, event, user_id) AS events
    GROUP BY user_id
),
standing AS (
    SELECT user_id, min(ordered_at) AS first_order_at, max(ordered_at) AS last_order_at
    FROM counted_order_events AS placed
    WHERE event = 'placed'
      AND NOT EXISTS (SELECT FROM counted_order_events AS cancelled
                      WHERE cancelled.event = 'cancelled'
                        AND cancelled.user_id = placed.user_id
                        AND cancelled.order_id = placed.order_id)
    GROUP BY user_id
)
SELECT user_id, first_order_at, last_order_at, orders, revenue,
       ((last_order_at AT TIME ZONE 'Asia/Seoul')::date
           - (first_order_at AT TIME ZONE 'Asia/Seoul')::date)::bigint AS days_active
FROM ledger
LEFT JOIN standing USING (user_id)
