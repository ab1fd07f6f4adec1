# Grades: up at once, down one level a tick, six calendar months, what is taken back.
# Eight customers with a record.
2025-01-01 00:00  customer 1 is n F 1990-05-05
2025-01-01 00:00  customer 2 is n F 1990-05-05
2025-01-01 00:00  customer 3 is n F 1990-05-05
2025-01-01 00:00  customer 4 is n F 1990-05-05
2025-01-01 00:00  customer 5 is n F 1990-05-05
2025-01-01 00:00  customer 6 is n F 1990-05-05
2025-01-01 00:00  customer 7 is n F 1990-05-05
2025-01-01 00:00  customer 8 is n F 1990-05-05
# 1: an order of 31 August expires on the last day of February, at its time of day.
2025-08-31 10:00  customer 1 places 1 to 5: books 100_000
# 2: up at once, down one level a tick, and held on the way down by five new orders.
2025-03-15 09:05  customer 2 places 1 to 30: books 200_000
2025-09-15 09:25  customer 2 places 31 to 35: books 100_000
# 3: one order is cancelled a millisecond after a tick, and so leaves at the next.
2025-09-01 12:00         customer 3 places 1 to 5: books 100_000
2025-09-01 12:10:00.001  customer 3 cancels 5
# 4: a cancellation at the very instant of expiry never counts.
2025-05-01 12:00  customer 4 places 1 to 5: books 100_000
2025-11-01 12:00  customer 4 cancels 5
# 5: a late refund takes the amount below the line, the number of orders stays.
2025-10-01 00:00  customer 5 places 1 to 5: books 110_000
2026-02-28 00:00  customer 5 refunds 5: books 60_000
# 6: nothing ever. 7: a cancellation whose order has not come; and one order after now.
2026-02-01 00:00  customer 7 cancels 1 of 2026-02-01 00:00: books 70_000
2026-03-01 00:06  customer 7 places 2: books 1
# 8: both marks of VIP met exactly, then one order less than GOLD needs.
2026-01-01 00:00  customer 8 places 1 to 14: books 200_000
2025-07-15 00:00  customer 8 places 15 to 30: books 137_500
# 9: five orders, but no record.
2026-01-01 00:00  customer 9 places 1 to 5: books 100_000
2026-03-01 00:05  now
grade_changes: user_id | tick | from_grade | to_grade
| 1 | 2025-08-31 10:00 | BRONZE | SILVER
| 1 | 02-28 10:00 | SILVER | BRONZE
| 2 | 2025-03-15 09:10 | BRONZE | VIP
| 2 | 2025-09-15 09:10 | VIP | GOLD
| 2 | 2025-09-15 09:20 | GOLD | SILVER
| 3 | 2025-09-01 12:00 | BRONZE | SILVER
| 3 | 2025-09-01 12:20 | SILVER | BRONZE
| 4 | 2025-05-01 12:00 | BRONZE | SILVER
| 4 | 2025-11-01 12:00 | SILVER | BRONZE
| 5 | 2025-10-01 00:00 | BRONZE | SILVER
| 5 | 02-28 00:00 | SILVER | BRONZE
| 8 | 2025-07-15 00:00 | BRONZE | GOLD
| 8 | 01-01 00:00 | GOLD | VIP
| 8 | 01-15 00:00 | VIP | GOLD
| 8 | 01-15 00:10 | GOLD | SILVER
customer_grade: user_id | grade | since | amount_6m | orders_6m
| 1 | BRONZE | 02-28 10:00 | 0 | 0
| 2 | SILVER | 2025-09-15 09:20 | 500000 | 5
| 3 | BRONZE | 2025-09-01 12:20 | 400000 | 4
| 4 | BRONZE | 2025-11-01 12:00 | 0 | 0
| 5 | BRONZE | 02-28 00:00 | 490000 | 5
| 6 | BRONZE | 2025-01-01 00:00 | 0 | 0
| 7 | BRONZE | 2025-01-01 00:00 | -70000 | -1
| 8 | SILVER | 01-15 00:10 | 2800000 | 14
grade_distribution: grade | customers
| BRONZE | 6
| SILVER | 2
| GOLD | 0
| VIP | 0
