# Of two events of one order the earlier counts.
# The later one came first; then one at the very time, of which the lower event_id counts.
2025-05-02 10:00  customer 1 places 1: books 300
2025-05-01 10:00  customer 1 places 1: books 100
2025-05-01 10:00  customer 1 places 1: books 200
# Another customer's order of the same number, and its cancellations: those of this customer alone.
2025-05-03 10:00  customer 2 places 1: books 50
2025-05-05 10:00  customer 2 cancels 1: books 40
2025-05-04 10:00  customer 2 cancels 1: books 50
# Every refund counts.
2025-05-06 10:00  customer 1 refunds 1: books 10
2025-05-06 10:00  customer 1 refunds 1: books 10
2025-01-01 00:00  customer 1 is n F 1990-05-05
2025-01-01 00:00  customer 2 is n F 1990-05-05
2025-05-07 00:00  now
SELECT event_id FROM counted_order_events
| 2
| 4
| 6
| 7
| 8
SELECT user_id, order_id, amount, refunded_amount, status FROM orders
| 1 | 1 | 100 | 20 | partly refunded
| 2 | 1 | 50 | 0 | cancelled
SELECT user_id, order_id, unit_price FROM order_items
| 1 | 1 | 100
| 2 | 1 | 50
SELECT user_id, order_id, amount FROM newest_orders
| 1 | 1 | 100
| 2 | 1 | 50
customer_value: user_id | first_order_at | last_order_at | orders | revenue | days_active
| 1 | 2025-05-01 10:00 | 2025-05-01 10:00 | 1 | 80 | 0
| 2 |  |  | 0 | 0 |
orders_by_hour: day | hour | orders | revenue
| 2025-05-01 | 10 | 1 | 100
| 2025-05-03 | 10 | 1 | 50
repurchase: grade | buyers | repeat_buyers | gaps | gap_days | gap_days_median
| BRONZE | 1 | 0 | 0 | 0 |
| SILVER | 0 | 0 | 0 | 0 |
| GOLD | 0 | 0 | 0 | 0 |
| VIP | 0 | 0 | 0 | 0 |
