WITH basket AS (
    SELECT DISTINCT event_id, category FROM order_lines WHERE event = 'placed'
)
SELECT a.category AS category_a, b.category AS category_b, count(*) AS orders
FROM basket AS a JOIN basket AS b ON b.event_id = a.event_id AND a.category < b.category COLLATE "C"
GROUP BY 1, 2
