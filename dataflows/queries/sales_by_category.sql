-- Sales of each day and category, and what was taken back on that day.
SELECT (at AT TIME ZONE 'Asia/Seoul')::date AS day,
       category,
       -- An event counts once in a category: with its first line there.
       count(*) FILTER (WHERE event = 'placed' AND array_position(categories, category) = place)
           AS orders,
       coalesce(sum(quantity) FILTER (WHERE event = 'placed'), 0)::bigint AS units,
       coalesce(sum(quantity * unit_price) FILTER (WHERE event = 'placed'), 0)::bigint AS revenue,
       coalesce(sum(quantity * unit_price) FILTER (WHERE event <> 'placed'), 0)::bigint AS refunded
FROM counted_order_events,
     unnest(categories, quantities, unit_prices)
         WITH ORDINALITY AS line (category, quantity, unit_price, place)
GROUP BY day, category
