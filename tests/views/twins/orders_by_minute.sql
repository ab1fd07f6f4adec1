SELECT date_bin('1 minute', at, timestamptz 'epoch') AS minute,
       count(*) FILTER (WHERE event = 'placed') AS orders,
       coalesce(sum(units) FILTER (WHERE event = 'placed'), 0)::bigint AS units,
       coalesce(sum(amount) FILTER (WHERE event = 'placed'), 0)::bigint AS gross_revenue,
       count(*) FILTER (WHERE event = 'cancelled') AS cancelled_orders,
       coalesce(sum(amount) FILTER (WHERE event <> 'placed'), 0)::bigint AS refunded_revenue,
       count(DISTINCT user_id) FILTER (WHERE event = 'placed') AS buyers
FROM (SELECT event_id, at, event, user_id, sum(quantity)::bigint AS units, sum(amount)::bigint AS amount
      FROM order_lines GROUP BY event_id, at, event, user_id) AS events
GROUP BY 1
