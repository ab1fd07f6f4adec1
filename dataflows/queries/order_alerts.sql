-- Minutes with which ten minutes end that had far fewer orders than the same hours of the four weeks
-- before let expect: a 240th of orders_before, which is twice the sum of the two middle ones of the
-- four weeks.
--
-- Reads the twins of orders_by_minute and orders_by_hour, which `marketday verify` computes before.
WITH hour AS (
    SELECT (day + hour * interval '1 hour') AT TIME ZONE 'Asia/Seoul' AS hour, orders
    FROM orders_by_hour
),
-- The orders of the same hour, and of the hour before that, in each of the four weeks before: of the
-- hours that have any.
hour_before AS (
    SELECT hour + week * interval '168 hours' + later * interval '1 hour' AS hour,
           coalesce(sum(orders) FILTER (WHERE week = 1 AND later = 0), 0)::bigint AS own_1,
           coalesce(sum(orders) FILTER (WHERE week = 2 AND later = 0), 0)::bigint AS own_2,
           coalesce(sum(orders) FILTER (WHERE week = 3 AND later = 0), 0)::bigint AS own_3,
           coalesce(sum(orders) FILTER (WHERE week = 4 AND later = 0), 0)::bigint AS own_4,
           coalesce(sum(orders) FILTER (WHERE week = 1 AND later = 1), 0)::bigint AS last_1,
           coalesce(sum(orders) FILTER (WHERE week = 2 AND later = 1), 0)::bigint AS last_2,
           coalesce(sum(orders) FILTER (WHERE week = 3 AND later = 1), 0)::bigint AS last_3,
           coalesce(sum(orders) FILTER (WHERE week = 4 AND later = 1), 0)::bigint AS last_4
    FROM hour, generate_series(1, 4) AS week, generate_series(0, 1) AS later
    GROUP BY 1
),
-- Each of their minutes: so many of its ten are of its own hour, the rest of the hour before.
week_before AS (
    SELECT hour + minute * interval '1 minute' AS minute,
           own * own_1 + (10 - own) * last_1 AS week_1,
           own * own_2 + (10 - own) * last_2 AS week_2,
           own * own_3 + (10 - own) * last_3 AS week_3,
           own * own_4 + (10 - own) * last_4 AS week_4
    FROM hour_before, generate_series(0, 59) AS minute, LATERAL (SELECT least(minute + 1, 10)) AS o (own)
    WHERE hour >= (SELECT min(hour) + interval '672 hours' FROM hour)
),
minute AS (
    SELECT minute, sum(orders)::bigint AS orders, sum(orders_before)::bigint AS orders_before
    FROM (SELECT minute, orders, 0 AS orders_before FROM orders_by_minute
          UNION ALL
          SELECT minute, 0, 2 * (week_1 + week_2 + week_3 + week_4
                                 - least(week_1, week_2, week_3, week_4)
                                 - greatest(week_1, week_2, week_3, week_4))
          FROM week_before) AS each
    GROUP BY minute
),
ten_minutes AS (
    SELECT minute, sum(orders) OVER up_to AS orders, orders_before::numeric AS orders_before
    FROM minute
    WINDOW up_to AS (ORDER BY minute
                     RANGE BETWEEN interval '9 minutes' PRECEDING AND CURRENT ROW)
)
SELECT minute, orders::bigint, orders_before::bigint,
       CASE WHEN 960 * orders <= orders_before THEN 'alarm' ELSE 'warning' END COLLATE "C" AS severity
FROM ten_minutes
WHERE minute + interval '1 minute' <= (SELECT now FROM commit_points ORDER BY epoch DESC LIMIT 1)
  AND orders_before > 0
  AND 480 * orders <= orders_before
  AND (orders_before - 240 * orders) * (orders_before - 240 * orders) >= 3840 * orders_before
