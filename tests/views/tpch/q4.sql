-- Derived from TPC-H Q4, the order priority: orders with a line of more than one piece, by what became of them.
SELECT status, count(*) AS orders
FROM orders o
WHERE EXISTS (SELECT FROM order_items i
              WHERE i.user_id = o.user_id AND i.order_id = o.order_id AND i.quantity > 1)
GROUP BY status
