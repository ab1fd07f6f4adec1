-- The hundred products sold most in each span that ends at now: after its start, up to now.
SELECT span, rank, product_id, units, revenue
FROM (SELECT span, product_id,
             sum(quantity)::bigint AS units, sum(quantity * unit_price)::bigint AS revenue,
             row_number() OVER (PARTITION BY span
                                ORDER BY sum(quantity) DESC, sum(quantity * unit_price) DESC,
                                         product_id) AS rank
      FROM (VALUES ('1 h', interval '1 hour'),
                   ('24 h', interval '24 hours'),
                   -- As hours: a day of the calendar may have another length where the session is.
                   ('7 d', interval '168 hours')) AS spans (span, length),
           (SELECT now FROM commit_points ORDER BY epoch DESC LIMIT 1) AS newest,
           counted_order_events,
           unnest(product_ids, quantities, unit_prices) AS line (product_id, quantity, unit_price)
      WHERE event = 'placed' AND at <= now AND at > now - length
      GROUP BY span, product_id) AS sold
WHERE rank <= 100
