WITH sold AS (
    SELECT product_id, count(DISTINCT event_id) AS orders
    FROM order_lines
    WHERE event = 'placed'
    GROUP BY product_id
),
newest AS (
    SELECT DISTINCT ON (product_id) *
    FROM product_events
    ORDER BY product_id, at DESC, event_id DESC
)
SELECT product_id, name, category, price, stock, listed_at, at AS updated_at,
       coalesce(orders, 0) AS order_count
FROM newest
LEFT JOIN sold USING (product_id)
