-- Sales of each month in Seoul, less what was taken back in that month.
SELECT date_trunc('month', at AT TIME ZONE 'Asia/Seoul')::date AS month,
       count(*) FILTER (WHERE event = 'placed') AS orders,
       sum(CASE event WHEN 'placed' THEN amount ELSE -amount END)::bigint AS revenue,
       count(DISTINCT user_id) FILTER (WHERE event = 'placed') AS buyers
FROM order_events,
     LATERAL (SELECT sum(quantity * unit_price)::bigint AS amount
              FROM unnest(quantities, unit_prices) AS line (quantity, unit_price)) AS total
GROUP BY month
