# Minutes, categories, and the newest records of customers and products.
# A second before midnight in Seoul, and midnight.
2025-05-04 23:59:59      customer 1 places 1: books 2x1000, toys:2 500, books 900
2025-05-05 00:00         customer 1 places 2: books 2x1000, toys:2 500
2025-05-05 00:00:59.999  customer 1 places 3: toys:2 500
2025-05-05 00:00:30      customer 1 refunds 1: toys:2 500
2025-05-06 00:00         customer 1 cancels 2
# The later record holds, whichever comes last; of two of one time that with the greater event_id.
2025-01-02 00:00  customer 1 is late F 1990-05-05 since 2025-01-01 00:00
2025-01-01 00:00  customer 1 is early F 1990-05-05
2025-01-01 00:00  customer 2 is first-id F 1990-05-05
2025-01-01 00:00  customer 2 is second-id F 1990-05-05
2025-01-02 00:00  product 1 is new books 10 since 2025-01-01 00:00
2025-01-01 00:00  product 1 is old books 10
2025-01-01 00:00  product 3 is unsold toys 10
2025-05-06 00:00  now
orders_by_minute: minute | orders | units | gross_revenue | cancelled_orders | refunded_revenue | buyers
| 2025-05-04 23:59 | 1 | 4 | 3400 | 0 | 0 | 1
| 2025-05-05 00:00 | 2 | 4 | 3000 | 0 | 500 | 1
| 2025-05-06 00:00 | 0 | 0 | 0 | 1 | 2500 | 0
sales_by_category: day | category | orders | units | revenue | refunded
| 2025-05-04 | books | 1 | 3 | 2900 | 0
| 2025-05-04 | toys | 1 | 1 | 500 | 0
| 2025-05-05 | books | 1 | 2 | 2000 | 0
| 2025-05-05 | toys | 2 | 2 | 1000 | 500
| 2025-05-06 | books | 0 | 0 | 0 | 2000
| 2025-05-06 | toys | 0 | 0 | 0 | 500
users: user_id | name | birth_date | sex | region | status | marketing_consent | signed_up_at | updated_at | grade
| 1 | late | 1990-05-05 | F | 서울 | ACTIVE | true | 2025-01-01 00:00 | 2025-01-02 00:00 | BRONZE
| 2 | second-id | 1990-05-05 | F | 서울 | ACTIVE | true | 2025-01-01 00:00 | 2025-01-01 00:00 | BRONZE
products: product_id | name | category | price | stock | listed_at | updated_at | order_count
| 1 | new | books | 10 | 5 | 2025-01-01 00:00 | 2025-01-02 00:00 | 2
| 3 | unsold | toys | 10 | 5 | 2025-01-01 00:00 | 2025-01-01 00:00 | 0
