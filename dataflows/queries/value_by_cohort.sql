-- How many customers signed up in a month, how many of them ordered in each month since, and for how
-- much, less what was taken back.
WITH customer AS (
    SELECT DISTINCT ON (user_id)
           user_id, date_trunc('month', signed_up_at AT TIME ZONE 'Asia/Seoul')::date AS signup_month
    FROM user_events
    ORDER BY user_id, at DESC, event_id DESC
),
ledger AS (
    SELECT user_id, date_trunc('month', at AT TIME ZONE 'Asia/Seoul')::date AS month,
           count(*) FILTER (WHERE event = 'placed') AS orders,
           sum(CASE event WHEN 'placed' THEN amount ELSE -amount END)::bigint AS revenue
    FROM counted_order_events,
         LATERAL (SELECT sum(quantity * unit_price)::bigint AS amount
                  FROM unnest(quantities, unit_prices) AS line (quantity, unit_price)) AS lines
    GROUP BY user_id, month
),
cohort AS (
    SELECT signup_month, month::date AS month, customers
    FROM (SELECT signup_month, count(*) AS customers FROM customer GROUP BY signup_month) AS signup,
         (SELECT now FROM commit_points ORDER BY epoch DESC LIMIT 1) AS newest,
         generate_series(signup_month::timestamp,
                         date_trunc('month', now AT TIME ZONE 'Asia/Seoul'),
                         interval '1 month') AS month
),
value AS (
    SELECT signup_month, month,
           count(*) FILTER (WHERE orders > 0) AS active, sum(revenue)::bigint AS revenue
    FROM customer JOIN ledger USING (user_id)
    GROUP BY signup_month, month
)
SELECT signup_month,
       (12 * (extract(year FROM month) - extract(year FROM signup_month))
           + extract(month FROM month) - extract(month FROM signup_month))::bigint AS months_since,
       customers,
       coalesce(active, 0) AS active,
       coalesce(revenue, 0) AS revenue
FROM cohort
LEFT JOIN value USING (signup_month, month)
