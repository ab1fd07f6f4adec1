-- The days with a placed order, and the orders, of each phase of each month.
--
-- Reads the twin of orders_by_hour, which `marketday verify` computes before.
SELECT date_trunc('month', day)::date AS month,
       CASE WHEN extract(day FROM day) BETWEEN 1 AND 5 THEN 'start'
            WHEN extract(day FROM day) BETWEEN 10 AND 12 THEN '10-12'
            WHEN extract(day FROM day) BETWEEN 25 AND 27 THEN '25-27'
            WHEN extract(day FROM day) >= 28 THEN 'end'
            ELSE 'middle' END AS phase,
       count(DISTINCT day) AS days,
       sum(orders)::bigint AS orders
FROM orders_by_hour
GROUP BY month, phase
