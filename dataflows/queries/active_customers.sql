-- How many customers placed an order in each span that ends at now: after its start, up to now.
SELECT span, count(DISTINCT user_id) AS buyers
FROM (VALUES ('5 min', interval '5 minutes'),
             ('1 h', interval '1 hour'),
             ('24 h', interval '24 hours'),
             -- As hours: a day of the calendar may have another length where the session is.
             ('30 d', interval '720 hours')) AS spans (span, length)
LEFT JOIN (SELECT user_id, at, now - at AS age
           FROM counted_order_events,
                (SELECT now FROM commit_points ORDER BY epoch DESC LIMIT 1) AS newest
           WHERE event = 'placed' AND at <= now AND at > now - interval '720 hours') AS placed
    ON age < length
GROUP BY span
