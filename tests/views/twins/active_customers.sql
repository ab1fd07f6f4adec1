SELECT '5 min' AS span, count(DISTINCT user_id) AS buyers FROM order_lines
WHERE event = 'placed' AND at <= market_now() AND at > market_now() - interval '5 minutes'
UNION ALL
SELECT '1 h', count(DISTINCT user_id) FROM order_lines
WHERE event = 'placed' AND at <= market_now() AND at > market_now() - interval '1 hour'
UNION ALL
SELECT '24 h', count(DISTINCT user_id) FROM order_lines
WHERE event = 'placed' AND at <= market_now() AND at > market_now() - interval '24 hours'
UNION ALL
SELECT '30 d', count(DISTINCT user_id) FROM order_lines
WHERE event = 'placed' AND at <= market_now() AND at > market_now() - interval '720 hours'
