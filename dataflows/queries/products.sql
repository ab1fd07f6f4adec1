-- Each product's newest record, and how many orders ever contained it.
WITH sold AS (
    SELECT product_id, count(*) AS orders
    FROM counted_order_events, unnest(product_ids) WITH ORDINALITY AS line (product_id, place)
    WHERE event = 'placed'
      AND array_position(product_ids, product_id) = place -- each order once
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
