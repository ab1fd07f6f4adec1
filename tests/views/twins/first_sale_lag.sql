WITH product AS (
    SELECT DISTINCT ON (product_id) product_id, listed_at
    FROM product_events
    ORDER BY product_id, at DESC, event_id DESC
),
first_sale AS (
    SELECT product_id, min(at) AS sold_at FROM order_lines WHERE event = 'placed' GROUP BY product_id
)
SELECT date_trunc('week', listed_at AT TIME ZONE 'Asia/Seoul')::date AS listing_week,
       CASE WHEN sold_at IS NULL THEN 'none yet'
            WHEN sold_at < listed_at + interval '24 hours' THEN '0'
            WHEN sold_at < listed_at + interval '48 hours' THEN '1'
            WHEN sold_at < listed_at + interval '72 hours' THEN '2'
            WHEN sold_at < listed_at + interval '96 hours' THEN '3'
            WHEN sold_at < listed_at + interval '192 hours' THEN '4-7'
            ELSE '8+' END AS lag,
       count(*) AS products
FROM product
LEFT JOIN first_sale USING (product_id)
GROUP BY 1, 2
