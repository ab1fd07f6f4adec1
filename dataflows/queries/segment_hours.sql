-- Orders by the customer's age on the day, sex, and the hour of the day, by Seoul's clock.
WITH customer AS (
    SELECT DISTINCT ON (user_id) user_id, birth_date, sex
    FROM user_events
    ORDER BY user_id, at DESC, event_id DESC
),
placed AS (
    SELECT user_id, at AT TIME ZONE 'Asia/Seoul' AS at FROM counted_order_events WHERE event = 'placed'
)
SELECT CASE WHEN age >= 60 THEN '60+'
            WHEN age >= 20 THEN age / 10 || '0s'
            ELSE '10s' END AS age_band,
       sex, hour, sum(orders)::bigint AS orders
FROM (SELECT extract(year FROM age(at::date, birth_date))::bigint AS age, sex,
             extract(hour FROM at)::bigint AS hour, count(*) AS orders
      FROM placed JOIN customer USING (user_id)
      GROUP BY 1, 2, 3) AS by_age
GROUP BY age_band, sex, hour
