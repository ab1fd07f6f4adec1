-- Sales of each day and category, and what was taken back on that day.
SELECT day, category,
       count(*) FILTER (WHERE event = 'placed') AS orders,
       coalesce(sum(units) FILTER (WHERE event = 'placed'), 0)::bigint AS units,
       coalesce(sum(amount) FILTER (WHERE event = 'placed'), 0)::bigint AS revenue,
       coalesce(sum(amount) FILTER (WHERE event <> 'placed'), 0)::bigint AS refunded
FROM (SELECT (at AT TIME ZONE 'Asia/Seoul')::date AS day, event, quantities, unit_prices, categories
      FROM order_events) AS event,
     -- An event counts once in a category, however many of its lines are in it.
     LATERAL (SELECT category, sum(quantity) AS units, sum(quantity * unit_price) AS amount
              FROM unnest(categories, quantities, unit_prices)
                   AS line (category, quantity, unit_price)
              GROUP BY category) AS part
GROUP BY day, category
