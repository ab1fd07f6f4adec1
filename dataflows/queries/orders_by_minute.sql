-- What happened in each minute: orders placed, and what was taken back.
SELECT date_bin('1 minute', at, timestamptz 'epoch') AS minute,
       count(*) FILTER (WHERE event = 'placed') AS orders,
       coalesce(sum(units) FILTER (WHERE event = 'placed'), 0)::bigint AS units,
       coalesce(sum(amount) FILTER (WHERE event = 'placed'), 0)::bigint AS gross_revenue,
       count(*) FILTER (WHERE event = 'cancelled') AS cancelled_orders,
       coalesce(sum(amount) FILTER (WHERE event <> 'placed'), 0)::bigint AS refunded_revenue,
       count(DISTINCT user_id) FILTER (WHERE event = 'placed') AS buyers
FROM counted_order_events,
     LATERAL (SELECT sum(quantity)::bigint AS units, sum(quantity * unit_price)::bigint AS amount
              FROM unnest(quantities, unit_prices) AS line (quantity, unit_price)) AS total
GROUP BY minute
