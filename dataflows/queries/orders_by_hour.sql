-- What was placed in each hour of each day, by Seoul's clock.
SELECT (at AT TIME ZONE 'Asia/Seoul')::date AS day,
       extract(hour FROM at AT TIME ZONE 'Asia/Seoul')::bigint AS hour,
       count(*) AS orders,
       sum(amount)::bigint AS revenue
FROM order_events,
     LATERAL (SELECT sum(quantity * unit_price)::bigint AS amount
              FROM unnest(quantities, unit_prices) AS line (quantity, unit_price)) AS total
WHERE event = 'placed'
GROUP BY day, hour
