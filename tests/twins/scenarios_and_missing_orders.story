# Four Mondays with eight orders a minute from ten to eleven, on one of them twice as many, which
# matters to no alert; on the fifth they fail to come from 10:20 on, while a sale runs, and another
# whose stop is announced.
03-02 10:00         customer 1 places 1 to 480 every 7.5s: books 10
03-09 10:00         customer 2 places 1 to 480 every 7.5s: books 10
03-09 10:00:00.001  customer 3 places 1 to 480 every 7.5s: books 10
03-16 10:00         customer 4 places 1 to 480 every 7.5s: books 10
03-23 10:00         customer 5 places 1 to 480 every 7.5s: books 10
03-30 10:00         customer 6 places 1 to 160 every 7.5s: books 10
03-30 11:10         customer 7 places 1: books 10
# Of the same word; the stop, and another start, are where now does not get.
03-30 10:10         scenario gifts march starts
04-06 10:00         scenario gifts march stops
03-30 11:10:00.001  scenario gifts may starts
# The first stop is not after the start, for its event_id; the other is of something that never starts.
03-30 10:00         scenario sale march stops
03-30 10:00         scenario sale march starts
03-09 10:00         scenario sale april stops
03-30 11:10         now
scenario_impact: name | occurrence | orders | revenue | orders_before | revenue_before
| gifts | march | 81 | 810 | 2000 | 20000
| sale | march | 161 | 1610 | 2400 | 24000
# From and to which minute each severity holds, and the orders there.
SELECT severity, count(*), min(minute), max(minute), min(orders), max(orders), min(orders_before), max(orders_before) FROM order_alerts GROUP BY severity
| alarm | 41 | 03-30 10:27 | 03-30 11:07 | 0 | 16 | 3840 | 19200
| warning | 3 | 03-30 10:24 | 03-30 10:26 | 24 | 40 | 19200 | 19200

# Then three orders, a stop and an older scenario arrive late.
03-30 10:24  customer 7 places 2 to 4 every 0.001s: books 10
03-30 10:20  scenario sale march stops
03-02 10:00  scenario sale february changes
03-09 10:00  scenario sale february starts
scenario_impact: name | occurrence | orders | revenue | orders_before | revenue_before
| gifts | march | 84 | 840 | 2000 | 20000
| sale | february | 2084 | 20840 | 1920 | 19200
| sale | march | 160 | 1600 | 800 | 8000
SELECT severity, count(*), min(minute), max(minute), min(orders), max(orders), min(orders_before), max(orders_before) FROM order_alerts GROUP BY severity
| alarm | 41 | 03-30 10:27 | 03-30 11:07 | 0 | 19 | 3840 | 19200
| warning | 2 | 03-30 10:25 | 03-30 10:26 | 27 | 35 | 19200 | 19200
SELECT * FROM scenario_lift
| gifts | march | 84 | 840 | 16.8 | 16.8
| sale | february | 2084 | 20840 | 434.2 | 434.2
| sale | march | 160 | 1600 | 80.0 | 80.0
