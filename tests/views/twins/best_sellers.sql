WITH recent AS (
    SELECT '1 h' AS span, product_id, quantity, amount FROM order_lines
    WHERE event = 'placed' AND at <= market_now() AND at > market_now() - interval '1 hour'
    UNION ALL
    SELECT '24 h', product_id, quantity, amount FROM order_lines
    WHERE event = 'placed' AND at <= market_now() AND at > market_now() - interval '24 hours'
    UNION ALL
    SELECT '7 d', product_id, quantity, amount FROM order_lines
    WHERE event = 'placed' AND at <= market_now() AND at > market_now() - interval '168 hours'
),
sold AS (
    SELECT span, product_id, sum(quantity)::bigint AS units, sum(amount)::bigint AS revenue
    FROM recent GROUP BY span, product_id
)
SELECT span, rank, product_id, units, revenue
FROM (SELECT *, row_number() OVER (PARTITION BY span ORDER BY units DESC, revenue DESC, product_id) AS rank
      FROM sold) AS ranked
WHERE rank <= 100
