-- Derived from TPC-H Q18, the large volume customers: who ordered more than eight pieces at once.
SELECT u.name, o.user_id, o.order_id, o.ordered_at, o.amount, sum(i.quantity) AS pieces
FROM users u
JOIN orders o ON o.user_id = u.user_id
JOIN order_items i ON i.user_id = o.user_id AND i.order_id = o.order_id
WHERE (o.user_id, o.order_id) IN (SELECT user_id, order_id FROM order_items
                                  GROUP BY user_id, order_id HAVING sum(quantity) > 8)
GROUP BY u.name, o.user_id, o.order_id, o.ordered_at, o.amount
