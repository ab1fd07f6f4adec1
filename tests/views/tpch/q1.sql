-- Derived from TPC-H Q1, the pricing summary: what was sold and taken back, by category.
SELECT category, event,
       sum(quantity) AS pieces, sum(amount) AS amount, max(unit_price) AS dearest,
       count(DISTINCT user_id) AS customers, count(*) AS lines
FROM order_lines
WHERE at <= market_now() - interval '1 day'
GROUP BY category, event
