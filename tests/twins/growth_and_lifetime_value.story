# The views beside the tables: a month's growth, and what an order of a customer brings.
# May has no revenue left and so June no growth; August has no row and so September none.
2025-05-31 23:59:59.999  customer 1 places 11: books 100
2025-05-31 23:59:59.999  customer 1 cancels 11
2025-06-01 00:00         customer 1 places 12: books 30
2025-07-31 23:59:59.999  customer 1 refunds 12: books 10
2025-06-01 23:00         customer 2 places 21: books 5
2025-06-02 01:00         customer 2 places 22: books 5
# Without an order left there is no mean.
2025-06-01 00:59:59.999  customer 3 places 31: books 7
2025-06-01 01:00         customer 4 cancels 31 of 2025-06-01 00:59:59.999: books 7
2025-09-01 12:00         customer 3 places 32: books 6
SELECT * FROM sales_growth
| 2025-05-01 | 0 |  |
| 2025-06-01 | 40 | 0 |
| 2025-07-01 | -10 | 40 | -125.0
| 2025-09-01 | 6 |  |
SELECT user_id, lifetime_value, mean_order_value FROM customer_lifetime_value
| 1 | 20 | 20
| 2 | 10 | 5
| 3 | 13 | 7
| 4 | -7 |
