-- The working set at market time $1 as a shop would ask its database for it: 1,000 customers, 600 of
-- them past buyers, oldest last order first, the others never bought, newest sign-up first; 1,000
-- products, 700 of them by orders of the last 30 days, the others the newest. Where one group is
-- short the other fills up. What is sold out, and who has left, is not in it.
--
-- It reads the ledger itself: a market places no order twice.
--
-- With `selection = "due"` ($2 false) it is drawn up from those who are due, and ready to buy for the
-- first time, which no shop can know: `marketday truth` tells when they became so.
WITH customers AS (
    SELECT DISTINCT ON (user_id) user_id, status
    FROM user_events WHERE at <= $1
    ORDER BY user_id, at DESC, event_id DESC
),
arrived AS (
    SELECT user_id, max(at) AS arrived_at FROM truth_arrivals WHERE at <= $1 GROUP BY user_id
),
bought AS (
    SELECT user_id, max(at) AS last_order_at
    FROM order_events WHERE event = 'placed' AND at <= $1
    GROUP BY user_id
),
candidates AS (
    SELECT user_id, last_order_at IS NOT NULL AS buyer,
           row_number() OVER (PARTITION BY last_order_at IS NOT NULL
                              ORDER BY last_order_at, CASE WHEN last_order_at IS NULL THEN -user_id
                                                           ELSE user_id END) AS place
    FROM customers LEFT JOIN bought USING (user_id) LEFT JOIN arrived USING (user_id)
    WHERE status <> 'WITHDRAWN'
          AND ($2 OR arrived_at >= coalesce(last_order_at, '-infinity'))
),
places AS (
    SELECT buyers, least(others, 1000 - buyers) AS others
    FROM (SELECT least(buyers, greatest(600, 1000 - others)) AS buyers, others
          FROM (SELECT count(*) FILTER (WHERE buyer) AS buyers,
                       count(*) FILTER (WHERE NOT buyer) AS others
                FROM candidates) AS counted) AS shared
),
offered AS (
    SELECT DISTINCT ON (product_id) product_id, stock
    FROM product_events WHERE at <= $1
    ORDER BY product_id, at DESC, event_id DESC
),
sold AS (
    SELECT product_id, count(*) AS orders
    FROM order_events, unnest(product_ids) AS product_id
    WHERE event = 'placed' AND at <= $1 AND at > $1 - interval '30 days'
    GROUP BY product_id
),
ranked AS (
    SELECT product_id, orders IS NOT NULL
                       AND row_number() OVER (ORDER BY orders DESC NULLS LAST, product_id) <= 700
                       AS best_seller
    FROM offered LEFT JOIN sold USING (product_id)
    WHERE stock > 0
),
newest AS (
    SELECT product_id, row_number() OVER (ORDER BY product_id DESC) AS place
    FROM ranked WHERE NOT best_seller
)
SELECT CASE WHEN buyer THEN 'buyer' ELSE 'newcomer' END AS kind, user_id AS id
FROM candidates, places
WHERE place <= CASE WHEN buyer THEN buyers ELSE others END
UNION ALL
SELECT 'best seller', product_id FROM ranked WHERE best_seller
UNION ALL
SELECT 'newest', product_id FROM newest
WHERE place <= 1000 - (SELECT count(*) FROM ranked WHERE best_seller)
