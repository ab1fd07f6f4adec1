-- In how many placed orders two categories lie together.
--
-- Orders with the same lists of categories are counted first.
WITH basket AS (
    SELECT categories, count(*) AS orders
    FROM counted_order_events
    WHERE event = 'placed'
    GROUP BY categories
)
SELECT category_a, category_b, sum(orders)::bigint AS orders
FROM basket,
     LATERAL (SELECT DISTINCT a AS category_a, b AS category_b
              FROM unnest(categories) AS a, unnest(categories) AS b
              WHERE a < b) AS pair
GROUP BY category_a, category_b
