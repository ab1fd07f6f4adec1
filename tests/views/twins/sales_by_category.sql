SELECT (at AT TIME ZONE 'Asia/Seoul')::date AS day,
       category,
       count(DISTINCT event_id) FILTER (WHERE event = 'placed') AS orders,
       coalesce(sum(quantity) FILTER (WHERE event = 'placed'), 0)::bigint AS units,
       coalesce(sum(amount) FILTER (WHERE event = 'placed'), 0)::bigint AS revenue,
       coalesce(sum(amount) FILTER (WHERE event <> 'placed'), 0)::bigint AS refunded
FROM order_lines
GROUP BY 1, 2
