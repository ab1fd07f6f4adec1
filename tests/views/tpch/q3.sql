-- Derived from TPC-H Q3, the shipping priority: the ten dearest orders of a region's customers that stand.
SELECT o.order_id, o.user_id, o.ordered_at, sum(i.amount) AS revenue
FROM users u
JOIN orders o ON o.user_id = u.user_id
JOIN order_items i ON i.user_id = o.user_id AND i.order_id = o.order_id
WHERE u.region = '서울' AND o.status = 'placed'
GROUP BY o.order_id, o.user_id, o.ordered_at
ORDER BY revenue DESC, o.ordered_at, o.user_id, o.order_id
LIMIT 10
