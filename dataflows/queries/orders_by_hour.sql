-- What was placed in each hour of each day, by Seoul's clock.
--
-- Reads the twin of orders_by_minute, which `marketday verify` computes before; hours begin with a
-- minute.
SELECT (minute AT TIME ZONE 'Asia/Seoul')::date AS day,
       extract(hour FROM minute AT TIME ZONE 'Asia/Seoul')::bigint AS hour,
       sum(orders)::bigint AS orders,
       sum(gross_revenue)::bigint AS revenue
FROM orders_by_minute
WHERE orders > 0
GROUP BY day, hour
