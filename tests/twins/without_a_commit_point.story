# Without a commit point there is no now, and so no tick and nothing within a span.
2025-01-01 00:00  customer 1 is n F 1990-05-05
2025-02-01 00:00  customer 1 places 1 to 5: books 100_000
grade_changes: user_id | tick | from_grade | to_grade
customer_grade: user_id | grade | since | amount_6m | orders_6m
| 1 | BRONZE | 2025-01-01 00:00 | 0 | 0
active_customers: span | buyers
| 5 min | 0
| 1 h | 0
| 24 h | 0
| 30 d | 0
