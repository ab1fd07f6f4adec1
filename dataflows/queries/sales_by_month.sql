-- Sales of each month in Seoul, less what was taken back in that month.
--
-- Reads the twin of orders_by_minute, which `marketday verify` computes before; months begin with
-- a minute.
WITH sales AS (
    SELECT date_trunc('month', minute AT TIME ZONE 'Asia/Seoul')::date AS month,
           sum(orders)::bigint AS orders,
           sum(gross_revenue - refunded_revenue)::bigint AS revenue
    FROM orders_by_minute
    GROUP BY month
),
buyer AS (
    SELECT DISTINCT date_trunc('month', at AT TIME ZONE 'Asia/Seoul')::date AS month, user_id
    FROM counted_order_events
    WHERE event = 'placed'
)
SELECT month, orders, revenue, count(user_id) AS buyers
FROM sales
LEFT JOIN buyer USING (month)
GROUP BY month, orders, revenue
