-- Each customer's newest record, and their grade now.
--
-- Reads the twin of customer_grade, which `marketday verify` computes just before.
SELECT DISTINCT ON (user_id)
       user_id, name, birth_date, sex, region, status, marketing_consent, signed_up_at,
       at AS updated_at, grade
FROM user_events
JOIN customer_grade USING (user_id)
ORDER BY user_id, at DESC, event_id DESC
