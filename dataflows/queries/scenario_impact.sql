-- What was placed while each occurrence of a scenario was active, up to now, and at the same times of
-- the four weeks before. An occurrence is named by its name and its own word together.
--
-- Reads the twin of orders_by_hour, which `marketday verify` computes before: what was placed up to
-- an instant is the whole hours before it and, order by order, its own hour.
WITH market AS (
    SELECT now FROM commit_points ORDER BY epoch DESC LIMIT 1
),
first AS (
    SELECT DISTINCT ON (name, occurrence) name, occurrence, at AS start, event_id AS start_id
    FROM scenario_events
    WHERE action = 'start'
    ORDER BY name, occurrence, at, event_id
),
active AS (
    SELECT name, occurrence, start,
           least(now + interval '1 ms',
                 (SELECT min(at)
                  FROM scenario_events AS stop
                  WHERE (stop.name, stop.occurrence) = (first.name, first.occurrence)
                    AND action = 'stop' AND (at, event_id) > (start, start_id))) AS stop
    FROM first, market
    WHERE start <= now
),
-- From start to stop, exclusive; and before: the four weeks once for each whole week, and of each
-- of them once the part that the rest of the last week has.
part AS (
    SELECT name, occurrence, false AS before, 1 AS times, start AS from_at, stop AS to_at
    FROM active
    UNION ALL
    SELECT name, occurrence, true, weeks, start - interval '672 hours', start
    FROM active, LATERAL (SELECT div(extract(epoch FROM stop - start), 604800)::int) AS whole (weeks)
    UNION ALL
    SELECT name, occurrence, true, 1, start - week * interval '168 hours',
           stop - (weeks + week) * interval '168 hours'
    FROM active, LATERAL (SELECT div(extract(epoch FROM stop - start), 604800)::int) AS whole (weeks),
         generate_series(1, 4) AS week
),
edge AS MATERIALIZED (
    SELECT edge, date_bin('1 hour', edge, timestamptz 'epoch') AS hour
    FROM (SELECT from_at AS edge FROM part UNION SELECT to_at FROM part) AS edges
),
whole_hours AS (
    SELECT edge, sum(orders) OVER up_to AS orders, sum(revenue) OVER up_to AS revenue
    FROM (SELECT edge, hour, 0 AS orders, 0 AS revenue FROM edge
          UNION ALL
          SELECT NULL, (day + (hour + 1) * interval '1 hour') AT TIME ZONE 'Asia/Seoul', orders, revenue
          FROM orders_by_hour) AS edge_and_hour
    WINDOW up_to AS (ORDER BY hour)
),
-- Materialized: else the amounts of all orders would be computed before the few are picked.
own_hour AS MATERIALIZED (
    SELECT edge, quantities, unit_prices
    FROM edge
    JOIN counted_order_events ON date_bin('1 hour', at, timestamptz 'epoch') = hour AND at < edge
    WHERE event = 'placed'
),
-- What was placed before each edge.
so_far AS (
    SELECT edge, sum(orders) AS orders, sum(revenue) AS revenue
    FROM (SELECT edge, orders, revenue FROM whole_hours WHERE edge IS NOT NULL
          UNION ALL
          SELECT edge, 1, amount
          FROM own_hour,
               LATERAL (SELECT sum(quantity * unit_price) AS amount
                        FROM unnest(quantities, unit_prices) AS line (quantity, unit_price)) AS total
         ) AS hours
    GROUP BY edge
)
SELECT name, occurrence,
       sum(orders) FILTER (WHERE NOT before)::bigint AS orders,
       sum(revenue) FILTER (WHERE NOT before)::bigint AS revenue,
       sum(orders) FILTER (WHERE before)::bigint AS orders_before,
       sum(revenue) FILTER (WHERE before)::bigint AS revenue_before
FROM (SELECT name, occurrence, before,
             times * (up_to.orders - up_from.orders) AS orders,
             times * (up_to.revenue - up_from.revenue) AS revenue
      FROM part
      JOIN so_far AS up_from ON up_from.edge = from_at
      JOIN so_far AS up_to ON up_to.edge = to_at) AS sums
GROUP BY name, occurrence
