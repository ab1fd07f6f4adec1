-- How many customers have each grade.
--
-- Reads the twin of customer_grade, which `marketday verify` computes just before.
SELECT grade, count(user_id) AS customers
FROM (VALUES ('BRONZE'), ('SILVER'), ('GOLD'), ('VIP')) AS all_grades (grade)
LEFT JOIN customer_grade USING (grade)
GROUP BY grade
