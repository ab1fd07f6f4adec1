-- How the customers of each grade come back, with the lower median of the days between two orders.
--
-- Reads the twin of customer_grade, which `marketday verify` computes before.
WITH standing AS (
    SELECT user_id, ordered_at, order_id
    FROM counted_order_events AS placed
    WHERE event = 'placed'
      AND NOT EXISTS (SELECT FROM counted_order_events AS cancelled
                      WHERE cancelled.event = 'cancelled'
                        AND cancelled.user_id = placed.user_id
                        AND cancelled.order_id = placed.order_id)
),
gap AS (
    SELECT user_id,
           (ordered_at AT TIME ZONE 'Asia/Seoul')::date
               - lag((ordered_at AT TIME ZONE 'Asia/Seoul')::date)
                     OVER (PARTITION BY user_id ORDER BY ordered_at, order_id) AS days
    FROM standing
),
-- How many gaps a customer has of each length; each customer's first order has none before it.
length AS (
    SELECT user_id, days, count(*) AS orders FROM gap GROUP BY user_id, days
),
customer AS (
    SELECT user_id, sum(orders) AS orders FROM length GROUP BY user_id
),
buyers AS (
    SELECT grade, count(*) AS buyers, count(*) FILTER (WHERE orders > 1) AS repeat_buyers
    FROM customer JOIN customer_grade USING (user_id)
    GROUP BY grade
),
gaps AS (
    SELECT grade, days, sum(orders) AS gaps,
           sum(sum(orders)) OVER (PARTITION BY grade ORDER BY days) AS up_to,
           sum(sum(orders)) OVER (PARTITION BY grade) AS of_grade
    FROM length JOIN customer_grade USING (user_id)
    WHERE days IS NOT NULL
    GROUP BY grade, days
)
SELECT grade,
       coalesce(buyers, 0) AS buyers,
       coalesce(repeat_buyers, 0) AS repeat_buyers,
       coalesce(sum(gaps), 0)::bigint AS gaps,
       coalesce(sum(days * gaps), 0)::bigint AS gap_days,
       min(days) FILTER (WHERE 2 * up_to >= of_grade)::bigint AS gap_days_median
FROM (VALUES ('BRONZE'), ('SILVER'), ('GOLD'), ('VIP')) AS all_grades (grade)
LEFT JOIN buyers USING (grade)
LEFT JOIN gaps USING (grade)
GROUP BY grade, buyers, repeat_buyers
