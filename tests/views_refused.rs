//! What cannot stand as a view is refused by a sentence, and leaves nothing behind.

use marketday::store::views::{New, add, analyse, remove};
use postgres::Client;

use crate::support::{connect, fresh_database};

/// Texts of the SQL that views do not have, and what is said of it.
const UNSUPPORTED: &[(&str, &str)] = &[
    // Numbers and functions.
    ("SELECT 1.5 AS x FROM orders", "numbers with digits behind the point"),
    ("SELECT amount::float8 AS x FROM orders", "floating point numbers are not in views"),
    ("SELECT sum(amount * 1.0::real) AS x FROM orders", "sum of this type is not in views"),
    ("SELECT strength FROM scenario_events", "floating point numbers are not in views"),
    ("SELECT avg(amount) AS x FROM orders", "avg is not in views: write sum(...) and count(...)"),
    ("SELECT string_agg(event, ',') AS x FROM order_lines", "string_agg is not in views"),
    ("SELECT array_agg(event) AS x FROM order_lines", "array_agg is not in views"),
    ("SELECT sum(amount ORDER BY amount) AS x FROM orders", "an ORDER BY in an aggregate"),
    ("SELECT stddev(amount) AS x FROM orders", "stddev of this type is not in views"),
    ("SELECT amount::numeric / 3 AS x FROM orders", "write a division of bigint"),
    ("SELECT status::int AS x FROM orders", "a cast from text to another type"),
    ("SELECT to_char(ordered_at, 'YYYY') AS x FROM orders", "write extract or date_trunc instead"),
    ("SELECT extract(epoch FROM ordered_at) AS x FROM orders", "extract of such a field"),
    ("SELECT date_trunc('decade', ordered_at) AS x FROM orders", "date_trunc to such a unit"),
    ("SELECT ordered_at::text AS x FROM orders", "the text of this type depends on settings"),
    ("SELECT jsonb_build_object('a', user_id) AS x FROM orders", "JSON is not in views"),
    ("SELECT user_id & 1 AS x FROM orders", "int8and() is not among the functions of views"),
    ("SELECT md5(status) AS x FROM orders", "md5() is not among the functions of views"),
    // Time, chance and settings.
    ("SELECT now() AS x FROM users", "the wall clock is not in views: write market_now()"),
    ("SELECT current_date - birth_date AS x FROM users", "the wall clock is not in views"),
    ("SELECT random() AS x FROM users", "random() is volatile"),
    ("SELECT gen_random_uuid() AS x FROM users", "gen_random_uuid() is volatile"),
    ("SELECT market_now() AS x", "market_now() as a value is not in views"),
    (
        "SELECT user_id FROM orders WHERE ordered_at > market_now() OR amount > 1",
        "market_now() is not in such a condition",
    ),
    ("SELECT ordered_at AT TIME ZONE 'Europe/Paris' AS x FROM orders", "other zones than"),
    ("SELECT ordered_at AT TIME ZONE 'UTC' AS x FROM orders", "other zones than the market's"),
    ("SELECT current_setting('TimeZone') AS x", "current_setting() is not among the functions"),
    ("SELECT current_user AS x", "who asks, is not in views"),
    // The order of text.
    ("SELECT user_id FROM users ORDER BY name COLLATE \"und-x-icu\" LIMIT 3", "COLLATE"),
    ("SELECT max(region COLLATE \"default\") AS x FROM users", "depends on the collation"),
    ("SELECT user_id FROM users WHERE name COLLATE \"default\" > 'a'", "write x COLLATE \"C\""),
    ("SELECT upper(region COLLATE \"default\") AS x FROM users", "small and capital letters"),
    ("SELECT region ~ 'a' AS x FROM users", "textregexeq() is not among the functions of views"),
    // Joins and subqueries.
    (
        "SELECT u.user_id FROM users u FULL JOIN customer_grade g ON u.user_id = g.user_id",
        "FULL JOIN is not in views: write a LEFT JOIN",
    ),
    (
        "SELECT user_id FROM users WHERE user_id NOT IN (SELECT user_id FROM orders)",
        "NOT IN (SELECT ...) is never true beside a NULL",
    ),
    (
        "SELECT user_id FROM users WHERE user_id > ALL (SELECT user_id FROM orders)",
        "ALL (SELECT ...) is not in views",
    ),
    (
        "SELECT user_id FROM users WHERE sex = 'F' OR EXISTS (SELECT FROM orders)",
        "a subquery below OR, NOT, CASE or in SELECT is not in views",
    ),
    ("SELECT (SELECT count(*) FROM users) AS x", "a subquery as a value is not in views"),
    ("SELECT ARRAY(SELECT user_id FROM users) AS x", "a subquery as a value is not in views"),
    (
        "SELECT u.user_id, l.n FROM users u,
         LATERAL (SELECT count(*) AS n FROM orders o WHERE o.user_id = u.user_id) AS l",
        "a column of the query around",
    ),
    ("SELECT u.user_id FROM users u, products p", "it joins each row of one relation with each"),
    ("SELECT x FROM generate_series(1, 3) AS x", "generate_series is not in FROM"),
    ("SELECT unnest(quantities) AS x FROM order_events", "several rows is not in SELECT"),
    (
        "SELECT order_id, x FROM order_events LEFT JOIN unnest(quantities) AS x ON true",
        "an outer join with unnest is not in views",
    ),
    ("SELECT user_id FROM customer_grade TABLESAMPLE SYSTEM (10)", "TABLESAMPLE is not in views"),
    (
        "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 3)
         SELECT n FROM t",
        "WITH RECURSIVE is not in views",
    ),
    // Groups, windows and limits.
    (
        "SELECT region, sex, count(*) AS n FROM users GROUP BY GROUPING SETS ((region), (sex))",
        "GROUPING SETS, CUBE and ROLLUP are not in views",
    ),
    ("SELECT region, count(*) AS n FROM users GROUP BY ROLLUP (region)", "CUBE and ROLLUP are not"),
    ("SELECT user_id FROM users LIMIT 3", "LIMIT over rows whose order is not determined"),
    ("SELECT user_id FROM users ORDER BY region LIMIT 3", "LIMIT over rows whose order is not"),
    ("SELECT user_id FROM users ORDER BY user_id OFFSET 3", "OFFSET is not in views"),
    (
        "SELECT user_id FROM users ORDER BY user_id FETCH FIRST 3 ROWS WITH TIES",
        "WITH TIES is not in views",
    ),
    (
        "SELECT user_id, row_number() OVER (ORDER BY region) AS n FROM users",
        "row_number, lag and lead over rows whose order is not determined",
    ),
    (
        "SELECT lag(amount) OVER (ORDER BY ordered_at) AS x FROM orders",
        "row_number, lag and lead over rows whose order is not determined",
    ),
    (
        "SELECT DISTINCT ON (region) region, user_id FROM users ORDER BY region, sex",
        "DISTINCT ON over rows whose order is not determined",
    ),
    ("SELECT sum(amount) OVER (ORDER BY order_id) AS x FROM orders", "aggregates over windows"),
    ("SELECT ntile(4) OVER (ORDER BY user_id) AS x FROM users", "the window function ntile is not"),
    // Rows and columns.
    ("SELECT users FROM users", "a whole row is not in views"),
    ("SELECT ctid FROM users", "a system column is not in views"),
    ("SELECT xmin FROM users", "a system column is not in views"),
    ("SELECT tableoid FROM users", "a system column is not in views"),
    ("SELECT ROW(1, 2) IS NULL AS x", "rows as values are not in views"),
    ("SELECT DISTINCT at - ordered_at AS took FROM order_lines", "intervals as keys"),
    ("SELECT quantities[1:2] AS x FROM order_events", "slices of arrays are not in views"),
    ("SELECT user_id AS row_key FROM users", "column row_key has a name that the view's table has"),
    ("SELECT user_id AS copies FROM users", "column copies has a name that the view's table has"),
    ("SELECT user_id, user_id FROM users", "column \"user_id\" specified more than once"),
    ("SELECT FROM users", "it has no column"),
    ("SELECT user_id FROM users FOR UPDATE", "FOR UPDATE"),
    ("SELECT user_id FROM users FOR SHARE", "FOR SHARE are not in views"),
];

/// Texts that want something else than to read the market, or that are none.
const HOSTILE: &[(&str, &str)] = &[
    ("SELECT 1 AS x; SELECT 2 AS y", "cannot insert multiple commands into a prepared statement"),
    ("SELECT 1 AS x; DROP TABLE users", "cannot insert multiple commands"),
    ("SELECT 1 AS x; COMMIT; DROP TABLE users", "cannot insert multiple commands"),
    ("SELECT lo_import('/etc/passwd') AS x", "lo_import"),
    ("SELECT lo_create(7) AS x", "values of this type"),
    ("SELECT pg_read_file('/etc/passwd') AS x", "pg_read_file"),
    ("SELECT pg_ls_dir('/') AS x", "a function that returns several rows"),
    ("SELECT * FROM dblink('host=localhost', 'SELECT 1') AS t (x int)", "dblink"),
    ("SELECT query_to_xml('SELECT 1', true, true, '') IS NULL AS x", "query_to_xml"),
    ("SELECT set_config('role', 'postgres', false) AS x", "set_config"),
    ("SELECT pg_notify('standing_views', '') IS NULL AS x", "pg_notify"),
    ("SELECT pg_advisory_lock(1) IS NULL AS x", "pg_advisory_lock"),
    ("SELECT pg_terminate_backend(1) AS x", "pg_terminate_backend"),
    ("SELECT nextval('a') AS x", "does not exist"),
    ("SELECT setval('a', 1) AS x", "does not exist"),
    ("SELECT txid_current() AS x", "txid_current"),
    ("SELECT user_id FROM users WITH CASCADED CHECK OPTION", "WITH CHECK OPTION"),
    ("SELECT user_id FROM users WITH CHECK OPTION", "CHECK OPTION"),
    (
        "WITH w AS (INSERT INTO users (user_id) VALUES (1) RETURNING user_id) SELECT * FROM w",
        "data-modifying statements in WITH",
    ),
    ("WITH w AS (DELETE FROM users RETURNING user_id) SELECT user_id FROM w", "data-modifying"),
    (
        "WITH w AS (UPDATE users SET name = 'x' RETURNING user_id) SELECT user_id FROM w",
        "data-modifying statements in WITH",
    ),
    ("SELECT user_id INTO stolen FROM users", "views must not contain SELECT INTO"),
    ("SELECT user_id FROM users WHERE user_id = $1", "there is no parameter $1"),
    ("SELECT $1::text AS x", "$1"),
    ("INSERT INTO users (user_id) VALUES (1)", "syntax error at or near \"INSERT\""),
    ("DROP TABLE users", "syntax error at or near \"DROP\""),
    ("EXPLAIN SELECT 1", "syntax error at or near \"EXPLAIN\""),
    ("COPY users TO PROGRAM 'id'", "syntax error at or near \"COPY\""),
    ("(SELECT 1 AS x", "syntax error at end of input"),
    ("SELECT 1 AS x)", "syntax error at or near \")\""),
    ("SELECT 'open AS x", "unterminated quoted string"),
    ("SELECT $a$ open AS x", "unterminated dollar-quoted string"),
    ("SELECT 1 AS x /* open", "unterminated /* comment"),
    ("SELEC user_id FROM users", "syntax error at or near \"SELEC\""),
    ("", "there is no SELECT in it"),
    (" \n\t ; ;", "syntax error"),
    (";;;", "there is no SELECT in it"),
    ("-- only a comment", "syntax error at end of input"),
    ("/* only a comment */", "syntax error at end of input"),
    ("SELECT user_id FROM usres", "relation \"usres\" does not exist"),
    ("SELECT usr_id FROM users", "column \"usr_id\" does not exist"),
    ("SELECT user_id FROM elsewhere.users", "relation \"elsewhere.users\" does not exist"),
    ("SELECT frobnicate(user_id) AS x FROM users", "function frobnicate(bigint) does not exist"),
    ("SELECT relname FROM pg_class", "pg_class is not among the relations that views read"),
    ("SELECT rolname FROM pg_roles", "is not among the relations that views read"),
    ("SELECT rolpassword FROM pg_authid", "pg_authid is not among"),
    ("SELECT table_name::text FROM information_schema.tables", "views"),
    ("SELECT epoch FROM progress", "progress is not among"),
    ("SELECT next_offset FROM commit_offsets", "commit_offsets is not among"),
    ("SELECT version FROM refinery_schema_history", "refinery_schema_history is not among"),
    ("SELECT name FROM standing_views", "standing_views"),
    ("SELECT epoch FROM commit_points", "commit_points"),
    ("SELECT order_id FROM asked", "relation \"asked\" does not exist"),
    ("SELECT x FROM marketday_asked.asked", "relation \"marketday_asked.asked\" does not exist"),
    ("SELECT 'a\0b' AS x", "null"),
    ("SELECT 'x' \u{1}", "syntax error"),
];

/// Names that a view cannot have.
const NAMES: &[(&str, &str)] = &[
    ("", "a view's name is of 1 to 50 lower case letters"),
    ("Users", "a view's name is of 1 to 50 lower case letters"),
    ("1st", "a view's name is of 1 to 50 lower case letters"),
    ("a-b", "a view's name is of 1 to 50 lower case letters"),
    ("x; DROP TABLE users", "a view's name is of 1 to 50 lower case letters"),
    ("x\"", "a view's name is of 1 to 50 lower case letters"),
    ("고객", "a view's name is of 1 to 50 lower case letters"),
    ("a123456789012345678901234567890123456789012345678901", "a view's name is of 1 to 50"),
    ("users", "there is a table or a view `users` already"),
    ("order_lines", "there is a table or a view `order_lines` already"),
    ("pg_class", "there is a table or a view `pg_class` already"),
    ("standing_views", "there is a table or a view `standing_views` already"),
];

/// Texts that can stand.
const ACCEPTED: &[&str] = &[
    "SELECT 1 AS x",
    "SELECT 1 AS x;",
    "VALUES (1, 'a'), (2, NULL)",
    "TABLE customer_grade",
    "SELECT * FROM order_lines",
    "SELECT * FROM order_items",
    "SELECT * FROM orders",
    "SELECT event_id, order_id FROM counted_order_events",
    "SELECT order_id, cardinality(product_ids) AS products FROM order_events",
    "SELECT user_id, name || '/' || region AS named FROM user_events",
    "SELECT category, count(*) AS n, sum(price) AS prices FROM products GROUP BY category",
    "SELECT grade, count(*) FILTER (WHERE sex = 'F') AS women
     FROM customer_grade JOIN users USING (user_id, grade) GROUP BY 1 -- and a comment",
    "SELECT date_trunc('hour', minute) AS hour, sum(orders) AS n FROM orders_by_minute GROUP BY 1",
    "SELECT user_id FROM orders WHERE ordered_at > market_now() - interval '7 days'",
    "SELECT o.order_id FROM orders o, market m WHERE o.ordered_at <= m.now",
    "SELECT u.user_id FROM users u WHERE NOT EXISTS
         (SELECT FROM orders o WHERE o.user_id = u.user_id)",
    "SELECT user_id, amount FROM orders ORDER BY amount DESC, user_id LIMIT 10",
    "SELECT DISTINCT ON (region) region, user_id FROM users ORDER BY region, user_id",
    "SELECT user_id, rank() OVER (PARTITION BY region ORDER BY birth_date) AS n FROM users",
    "SELECT order_id, l.id, l.place
     FROM order_events, unnest(product_ids) WITH ORDINALITY AS l (id, place)",
    "SELECT user_id FROM users EXCEPT SELECT user_id FROM orders",
    "WITH a AS (SELECT user_id FROM orders) SELECT a.user_id, count(*) AS n FROM a GROUP BY 1",
];

/// All that a view could leave behind.
fn there(client: &mut Client) -> Vec<i64> {
    let tables = [
        "pg_class",
        "pg_namespace",
        "pg_proc",
        "pg_type",
        "pg_rewrite",
        "pg_largeobject_metadata",
        "pg_default_acl",
        "users",
        "standing_views",
        "standing_view_states",
    ];
    let mut count = |table| {
        client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).unwrap().get::<_, i64>(0)
    };
    tables.into_iter().map(&mut count).collect()
}

/// What is wrong with how a text is refused, if something is.
fn refused(client: &mut Client, name: &str, text: &str, fragment: &str) -> Option<String> {
    let shown: String = text.chars().take(120).collect();
    let Err(error) = add(client, &New { name, text, all_pairs: false, most: None, alert: false })
    else {
        remove(client, name).unwrap();
        return Some(format!("{shown:?} as {name:?} is accepted"));
    };
    let said = format!("{error:#}");
    let is_a_line = !said.contains('\n') && !said.is_empty() && said.chars().count() < 600;
    let is_right = said.contains(fragment) && is_a_line;
    (!is_right).then(|| format!("{shown:?} as {name:?}\n    is refused by {said:?}"))
}

#[test]
fn what_cannot_stand_is_refused_by_a_sentence_and_changes_nothing() {
    let client = &mut connect(&fresh_database());
    let before = there(client);
    let mut wrong = vec![];
    for (text, fragment) in UNSUPPORTED.iter().chain(HOSTILE) {
        wrong.extend(refused(client, "it", text, fragment));
    }
    for (name, fragment) in NAMES {
        wrong.extend(refused(client, name, "SELECT user_id FROM users", fragment));
    }
    // Much of something.
    let nested = |times: usize| {
        format!("SELECT {}user_id{} AS x FROM users", "(".repeat(times), ")".repeat(times))
    };
    let each = |count: usize| -> Vec<String> {
        (0..count).map(|number| format!("user_id AS c{number}")).collect()
    };
    let much = [
        (nested(100_000), ""),
        (format!("SELECT {} AS x FROM users", vec!["user_id"; 100_000].join(" + ")), "stack depth"),
        (format!("SELECT '{}", "a".repeat(1 << 20)), "unterminated quoted string"),
        (format!("{} x", "-- \n".repeat(1 << 18)), "syntax error at or near \"x\""),
        (format!("SELECT {}", vec!["1"; 1_700].join(", ")), "target lists can have at most"),
        (
            format!("SELECT {} FROM users", each(101).join(", ")),
            "it has 101 columns, and a view has up to 100",
        ),
    ];
    for (text, fragment) in &much {
        wrong.extend(refused(client, "it", text, fragment));
    }
    // Where in the text.
    let places = [
        ("SELECT user_id\nFROM usres", "line 2, column 6: relation \"usres\" does not exist"),
        (
            "SELECT region,\n  avg(user_id) AS x\nFROM users GROUP BY 1",
            "line 2, column 3: avg is not",
        ),
        ("SELECT '한국' AS a, now() AS b\nFROM users", "line 1, column 19: the wall clock is not"),
        (
            "\n\nSELECT user_id\n  , random() AS x FROM users",
            "line 4, column 5: random() is volatile",
        ),
    ];
    for (text, start) in places {
        wrong.extend(refused(client, "it", text, start));
        let said = format!("{:#}", analyse(client, "it", text).err().unwrap());
        assert!(said.starts_with("line "), "{said}");
    }
    assert_eq!(there(client), before, "something stays");
    for text in ACCEPTED.iter().map(ToString::to_string).chain([nested(200)]) {
        if let Err(error) = analyse(client, "it", &text) {
            wrong.push(format!("{text:?} is refused: {error:#}"));
        }
    }
    assert_eq!(there(client), before, "something stays");
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
