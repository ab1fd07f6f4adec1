-- What was placed in each month of the year, by category.
--
-- Reads the twin of sales_by_category, which `marketday verify` computes before.
SELECT extract(month FROM day)::bigint AS month_of_year, category, sum(revenue)::bigint AS revenue
FROM sales_by_category
WHERE orders > 0
GROUP BY month_of_year, category
