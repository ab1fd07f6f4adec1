-- Derived from TPC-H Q10, the returned items: the twenty customers who took most back.
SELECT u.user_id, u.region, u.grade, sum(l.amount) AS lost
FROM order_lines l JOIN users u ON u.user_id = l.user_id
WHERE l.event <> 'placed'
GROUP BY u.user_id, u.region, u.grade
ORDER BY lost DESC, u.user_id, u.region, u.grade
LIMIT 20
