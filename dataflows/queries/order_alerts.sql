-- Minutes with which ten minutes end that had far fewer orders than the same hours of the four weeks
-- before let expect: a 240th of orders_before, a minute's share of four hours, for each minute.
--
-- Reads the twins of orders_by_minute and orders_by_hour, which `marketday verify` computes before.
WITH hour AS (
    SELECT (day + hour * interval '1 hour') AT TIME ZONE 'Asia/Seoul' AS hour, orders
    FROM orders_by_hour
),
-- The orders of the same hour in the four weeks before, of the hours that have any.
hour_before AS (
    SELECT hour + week * interval '168 hours' AS hour, sum(orders)::bigint AS orders
    FROM hour, generate_series(1, 4) AS week
    GROUP BY 1
),
-- Each minute of theirs, and the nine minutes after, which look back into the hour.
minute AS (
    SELECT minute, sum(orders)::bigint AS orders, sum(orders_before)::bigint AS orders_before
    FROM (SELECT minute, orders, 0 AS orders_before FROM orders_by_minute
          UNION ALL
          SELECT hour + minute * interval '1 minute', 0, CASE WHEN minute < 60 THEN orders ELSE 0 END
          FROM hour_before, generate_series(0, 68) AS minute) AS each
    GROUP BY minute
),
ten_minutes AS (
    SELECT minute, sum(orders) OVER up_to AS orders, sum(orders_before) OVER up_to AS orders_before
    FROM minute
    WINDOW up_to AS (ORDER BY minute
                     RANGE BETWEEN interval '9 minutes' PRECEDING AND CURRENT ROW)
)
SELECT minute, orders::bigint, orders_before::bigint,
       CASE WHEN 960 * orders <= orders_before THEN 'alarm' ELSE 'warning' END COLLATE "C" AS severity
FROM ten_minutes
WHERE minute + interval '1 minute' <= (SELECT now FROM commit_points ORDER BY epoch DESC LIMIT 1)
  AND minute >= (SELECT min(hour) + interval '672 hours' FROM hour)
  AND orders_before > 0
  AND 480 * orders <= orders_before
  AND (orders_before - 240 * orders) ^ 2 >= 3840 * orders_before
