# Months, hours, the spans up to now, and what customers are worth.
# 1: on both sides of a midnight that is also a month's end; the first is cancelled before it
# came, the second refunded in the month after, and that is all that month has.
2025-05-31 23:59:59.999  customer 1 cancels 11 of 2025-05-31 23:59:59.999: books 100
2025-05-31 23:59:59.999  customer 1 places 11: books 100
2025-06-01 00:00         customer 1 places 12: books 30
2025-07-31 23:59:59.999  customer 1 refunds 12: books 10
# 2: less than a day, but on two days. 3: the only order stands: the cancellation of that number is
# another customer's, who has no such order.
2025-06-01 23:00         customer 2 places 21: books 5
2025-06-02 01:00         customer 2 places 22: books 5
2025-06-01 00:59:59.999  customer 3 places 31: books 7
2025-06-01 01:00         customer 4 cancels 31 of 2025-06-01 00:59:59.999: books 7
# Spans: at their starts and a millisecond later, at now and a millisecond later; a customer counts
# once, and a cancelled order counts as placed.
2025-08-02 12:00         customer 51 places 51: books 1
2025-08-02 12:00:00.001  customer 52 places 52: books 1
2025-08-31 12:00         customer 53 places 53: books 1
2025-08-31 12:00:00.001  customer 54 places 54: books 1
2025-09-01 11:00         customer 55 places 55: books 1
2025-09-01 11:00:00.001  customer 56 places 56: books 1
2025-09-01 11:55         customer 57 places 57: books 1
2025-09-01 11:55:00.001  customer 58 places 58: books 1
2025-09-01 12:00         customer 59 places 59: books 1
2025-09-01 12:00:00.001  customer 60 places 60: books 1
2025-09-01 12:00         customer 58 places 61: books 1
2025-09-01 12:00         customer 59 cancels 59
2025-09-01 12:00         now
sales_by_month: month | orders | revenue | buyers
| 2025-05-01 | 1 | 0 | 1
| 2025-06-01 | 4 | 40 | 3
| 2025-07-01 | 0 | -10 | 0
| 2025-08-01 | 4 | 4 | 4
| 2025-09-01 | 7 | 6 | 6
orders_by_hour: day | hour | orders | revenue
| 2025-05-31 | 23 | 1 | 100
| 2025-06-01 | 0 | 2 | 37
| 2025-06-01 | 23 | 1 | 5
| 2025-06-02 | 1 | 1 | 5
| 2025-08-02 | 12 | 2 | 2
| 2025-08-31 | 12 | 2 | 2
| 2025-09-01 | 11 | 4 | 4
| 2025-09-01 | 12 | 3 | 3
active_customers: span | buyers
| 5 min | 2
| 1 h | 4
| 24 h | 6
| 30 d | 8
customer_value: user_id | first_order_at | last_order_at | orders | revenue | days_active
| 1 | 2025-06-01 00:00 | 2025-06-01 00:00 | 1 | 20 | 0
| 2 | 2025-06-01 23:00 | 2025-06-02 01:00 | 2 | 10 | 1
| 3 | 2025-06-01 00:59:59.999 | 2025-06-01 00:59:59.999 | 1 | 7 | 0
| 4 |  |  | -1 | -7 |
| 51 | 2025-08-02 12:00 | 2025-08-02 12:00 | 1 | 1 | 0
| 52 | 2025-08-02 12:00:00.001 | 2025-08-02 12:00:00.001 | 1 | 1 | 0
| 53 | 2025-08-31 12:00 | 2025-08-31 12:00 | 1 | 1 | 0
| 54 | 2025-08-31 12:00:00.001 | 2025-08-31 12:00:00.001 | 1 | 1 | 0
| 55 | 2025-09-01 11:00 | 2025-09-01 11:00 | 1 | 1 | 0
| 56 | 2025-09-01 11:00:00.001 | 2025-09-01 11:00:00.001 | 1 | 1 | 0
| 57 | 2025-09-01 11:55 | 2025-09-01 11:55 | 1 | 1 | 0
| 58 | 2025-09-01 11:55:00.001 | 2025-09-01 12:00 | 2 | 2 | 0
| 59 |  |  | 0 | 0 |
| 60 | 2025-09-01 12:00:00.001 | 2025-09-01 12:00:00.001 | 1 | 1 | 0
