WITH customer AS (
    SELECT DISTINCT ON (user_id) user_id, birth_date, sex
    FROM user_events
    ORDER BY user_id, at DESC, event_id DESC
),
placed AS (
    SELECT user_id, at AT TIME ZONE 'Asia/Seoul' AS at FROM counted_order_events WHERE event = 'placed'
)
SELECT CASE WHEN age >= 60 THEN '60+'
            WHEN age >= 20 THEN (age / 10)::text || '0s'
            ELSE '10s' END AS age_band,
       sex, hour, count(*) AS orders
FROM (SELECT (extract(year FROM at)::bigint - extract(year FROM birth_date)::bigint
              - CASE WHEN 100 * extract(month FROM at)::bigint + extract(day FROM at)::bigint
                          < 100 * extract(month FROM birth_date)::bigint
                            + extract(day FROM birth_date)::bigint THEN 1 ELSE 0 END) AS age,
             sex, extract(hour FROM at)::bigint AS hour
      FROM placed JOIN customer USING (user_id)) AS by_age
GROUP BY 1, 2, 3
