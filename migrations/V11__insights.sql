-- The four insights of the brief, each with the brief's value beside the measured one.

-- "Women in their 20s buy most at 21:00."
CREATE VIEW insight_women_in_their_20s AS
SELECT measure, brief, measured, unit
FROM (SELECT hour, share_percent FROM segment_hour_shares
      WHERE age_band = '20s' AND sex = 'F'
      ORDER BY orders DESC, hour LIMIT 1) AS peak,
     LATERAL (VALUES ('hour with most orders of women in their 20s', 21, hour, ':00'),
                     ('share of their orders in that hour', NULL, share_percent, '%'))
         AS line (measure, brief, measured, unit);

-- "VIP customers come back every 14 days." Counted are the gaps between all standing orders of those
-- who are VIP now, from before they were VIP too. It cannot be 14 days within the six months of the
-- grade: 30 orders in at most 184 days leave 29 gaps, 6.3 days each.
CREATE VIEW insight_vip_cycle AS
SELECT measure, brief, measured, unit
FROM repurchase_rates,
     LATERAL (VALUES ('days from order to order of VIPs, mean', 14, gap_days_mean, 'days'),
                     ('days from order to order of VIPs, median', NULL, gap_days_median, 'days'),
                     ('VIPs who ordered more than once', NULL, repeat_percent, '%'))
         AS line (measure, brief, measured, unit)
WHERE grade = 'VIP';

-- "More orders at the month's start": 30 % more. Each whole month's days of a phase are set against
-- the other days of that month; the mean of the months.
CREATE VIEW insight_month_phases AS
SELECT 'orders a day against the month''s other days, days ' || days_of_month AS measure,
       brief, round(avg(lift_percent), 1) AS measured, '%' AS unit
FROM month_phase_lift
JOIN (SELECT month FROM month_phase
      GROUP BY month
      HAVING sum(days) = extract(day FROM month + interval '1 month' - interval '1 day')) AS whole
    USING (month)
JOIN (VALUES ('start', '1-5', 30), ('10-12', '10-12', NULL), ('25-27', '25-27', NULL),
             ('end', '28-31', NULL)) AS phase (phase, days_of_month, brief) USING (phase)
GROUP BY phase, days_of_month, brief;

-- "New products sell within 3 days": less than three times 24 hours after their listing. Products
-- count that were listed in a week which ended three days ago or earlier, but not those of the first
-- week, with which the shop opened.
CREATE VIEW insight_new_products AS
SELECT measure, brief, measured, unit
FROM (SELECT sum(products) AS listed,
             sum(products) FILTER (WHERE lag IN ('0', '1', '2')) AS sold
      FROM first_sale_lag
      WHERE listing_week > (SELECT min(listing_week) FROM first_sale_lag)
        AND listing_week + 10 <= (SELECT (now AT TIME ZONE 'Asia/Seoul')::date
                                  FROM commit_points ORDER BY epoch DESC LIMIT 1)) AS products,
     LATERAL (VALUES ('new products first ordered within 3 days', 100,
                      round(100 * coalesce(sold, 0) / nullif(listed, 0), 1), '%'),
                     ('new products', NULL, coalesce(listed, 0), 'products'))
         AS line (measure, brief, measured, unit);
