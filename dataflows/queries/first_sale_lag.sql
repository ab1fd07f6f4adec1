-- How many products of each week's listings were first ordered so many whole days later.
WITH product AS (
    SELECT DISTINCT ON (product_id) product_id, listed_at
    FROM product_events
    ORDER BY product_id, at DESC, event_id DESC
),
first_sale AS (
    SELECT product_id, min(at) AS sold_at
    FROM counted_order_events, unnest(product_ids) AS line (product_id)
    WHERE event = 'placed'
    GROUP BY product_id
)
SELECT date_trunc('week', listed_at AT TIME ZONE 'Asia/Seoul')::date AS listing_week,
       CASE WHEN sold_at IS NULL THEN 'none yet'
            WHEN days <= 3 THEN greatest(days, 0)::text
            WHEN days <= 7 THEN '4-7'
            ELSE '8+' END AS lag,
       count(*) AS products
FROM product
LEFT JOIN first_sale USING (product_id),
     LATERAL (SELECT floor(extract(epoch FROM sold_at - listed_at) / 86400) AS days) AS waited
GROUP BY listing_week, lag
