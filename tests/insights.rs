//! The brief's four insights: what their views make of tables that are filled by hand.

use crate::support::{connect, fresh_database};

#[test]
fn each_stands_beside_the_value_of_the_brief() {
    let db = &mut connect(&fresh_database());
    db.batch_execute(
        "INSERT INTO segment_hours VALUES
             ('20s', 'F', 21, 30), ('20s', 'F', 10, 20), ('20s', 'M', 10, 90), ('50s', 'F', 9, 90);
         INSERT INTO repurchase VALUES ('VIP', 10, 8, 100, 640, 5), ('GOLD', 20, 9, 90, 990, 9);
         -- A February, whole, and five days of March.
         INSERT INTO month_phase VALUES
             ('2025-02-01', 'start', 5, 65), ('2025-02-01', '10-12', 3, 30),
             ('2025-02-01', '25-27', 3, 30), ('2025-02-01', 'end', 1, 10),
             ('2025-02-01', 'middle', 16, 160), ('2025-03-01', 'start', 5, 500);
         -- The opening, a week of listings, and a week whose products have not had three days.
         INSERT INTO first_sale_lag VALUES
             ('2025-01-06', '0', 900), ('2025-01-13', '0', 3), ('2025-01-13', '2', 5),
             ('2025-01-13', '3', 1), ('2025-01-13', 'none yet', 1), ('2025-01-20', 'none yet', 9);
         INSERT INTO commit_points VALUES (1, '2025-01-29 12:00+09', '{}', 0, 0, now())",
    )
    .unwrap();
    let mut insight = |view: &str| -> Vec<String> {
        let sql = format!(
            "SELECT concat_ws('|', measure, coalesce(brief::text, '-'), measured, unit)
             FROM {view} ORDER BY measure COLLATE \"C\""
        );
        db.query(&sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(
        insight("insight_women_in_their_20s"),
        [
            "hour with most orders of women in their 20s|21|21|:00",
            "share of their orders in that hour|-|60.0|%",
        ]
    );
    assert_eq!(
        insight("insight_vip_cycle"),
        [
            "VIPs who ordered more than once|-|80.0|%",
            "days from order to order of VIPs, mean|14|6.4|days",
            "days from order to order of VIPs, median|-|5|days",
        ]
    );
    // 13 a day against 10; the others against 11 and less.
    assert_eq!(
        insight("insight_month_phases"),
        [
            "orders a day against the month's other days, days 1-5|30|30.0|%",
            "orders a day against the month's other days, days 10-12|-|-5.7|%",
            "orders a day against the month's other days, days 25-27|-|-5.7|%",
            "orders a day against the month's other days, days 28-31|-|-5.3|%",
        ]
    );
    assert_eq!(
        insight("insight_new_products"),
        ["new products|-|10|products", "new products first ordered within 3 days|100|80.0|%"]
    );
}
