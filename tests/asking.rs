//! The tab *Ask*: a visitor's SELECT is run once and does nothing else; kept, it is a standing view.

use std::path::Path;

use marketday::platform::private_postgres::PrivatePostgres;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::page::said_url;
use crate::support::{
    Running, command, connect, fresh_database, one_sentence, scratch, wait_until,
};

/// Asks as the page does: the answer, or the sentence that refuses.
fn ask(browser: &mut Browser, sql: &str) -> Value {
    post(browser, "ask", &json!({ "sql": sql }))
}

fn post(browser: &mut Browser, path: &str, body: &Value) -> Value {
    browser.eval(&format!(
        "fetch('/api/{path}', {{ method: 'POST', body: JSON.stringify({body}),
                                 headers: {{ 'content-type': 'application/json' }} }})
             .then(async answer => ({{ status: answer.status, ...await answer.json().catch(() => ({{}})) }}))"
    ))
}

fn up(dir: &Path) -> (Running, String) {
    let mut up = command(&["up", "--history", "12d", "--start", "2026-11-23", "--speed", "600"]);
    up.args(["--page", "127.0.0.1:0", "--dir"]).arg(dir);
    let said = dir.join("said");
    let mut up = Running::start(&mut up, said.clone());
    up.wait_for_history();
    (up, said_url(&said))
}

const THERE: &str = "document.querySelector('#examples option') !== null";

/// Texts that write, or read what the reader may not, and what says so.
const REFUSED: [(&str, &str); 17] = [
    ("", "there is no SELECT"),
    ("SELECT regio FROM users", "line 1, column 8: column \"regio\" does not exist"),
    ("SELECT count(*)\nFROM users\nWHERE x", "line 3, column 7"),
    ("SELECT 1; SELECT 2", "cannot insert multiple commands"),
    ("DELETE FROM users", "no column to be shown"),
    ("DELETE FROM users RETURNING 1", "syntax error"),
    ("WITH gone AS (DELETE FROM users RETURNING 1) SELECT * FROM gone", "WITH clause"),
    ("SELECT rolpassword FROM pg_authid", "permission denied"),
    ("SELECT set_config('role', 'none', true), rolpassword FROM pg_authid", "permission denied"),
    ("SELECT pg_terminate_backend(pid) FROM pg_stat_activity", "permission denied"),
    ("\nSELECT\n  now() + 1", "line 3, column 9: operator does not exist"),
    ("SELECT pg_read_file('/etc/passwd')", "permission denied"),
    ("SELECT lo_import('/etc/passwd')", "permission denied"),
    ("SELECT set_config('transaction_read_only', 'off', true)", "must be set before any query"),
    ("COPY users TO '/tmp/users'", "no column to be shown"),
    ("SELECT 1) AS a, (SELECT 2", "syntax error"),
    ("SELECT repeat('x', 100000) FROM generate_series(1, 1000)", "too long to be shown"),
];

#[test]
fn a_question_is_answered_and_does_nothing_else() {
    let dir = scratch();
    let (mut running, url) = up(&dir);
    let browser = &mut Browser::start();
    browser.open(&format!("{url}/ask"));
    browser.until("the tab is there", THERE);
    for (sql, fragment) in REFUSED {
        let answer = ask(browser, sql);
        assert_eq!(answer["status"], 400, "{sql}: {answer}");
        let said = answer["error"].as_str().unwrap();
        assert!(said.contains(fragment) && !said.contains('\n'), "{sql}: {said}");
    }
    let values = "SELECT 9007199254740993 AS big, 1.50 AS numeric, 12345678901234567890 AS digits,
                         NULL::text AS nothing, date '2026-11-30' AS day, true AS yes, 7::smallint AS small,
                         timestamptz '2026-11-30 09:00+09' AS at, ARRAY[1, 2] AS list, 1 AS big, timestamptz 'infinity' AS ever -- twice;";
    let answer = ask(browser, values);
    assert_eq!(
        answer["rows"],
        json!([[
            "9007199254740993",
            1.5,
            "12345678901234567890",
            null,
            "2026-11-30",
            true,
            7,
            1_795_996_800_000_i64,
            "{1,2}",
            1,
            null
        ]]),
        "{answer}"
    );
    let types: Vec<&str> = answer["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["type"].as_str().unwrap())
        .collect();
    let expected = ["number", "number", "number", "string", "string", "boolean", "number", "time"];
    assert_eq!(types[..8], expected);
    let long = ask(browser, "SELECT repeat('x', 50000000) AS x FROM generate_series(1, 3)");
    assert_eq!(long["rows"][2][0].as_str().unwrap().len(), 10_000);
    // Whatever it says of its time.
    let slow =
        "SELECT set_config('statement_timeout', '0', true) UNION ALL SELECT pg_sleep(60)::text";
    let answer = ask(browser, slow);
    assert!(answer["error"].as_str().unwrap().contains("statement timeout"), "{answer}");
    let many = ask(browser, "SELECT n FROM generate_series(1, 5000) AS n ORDER BY n DESC");
    assert_eq!((many["rows"].as_array().unwrap().len(), &many["more"]), (1_000, &json!(true)));
    assert_eq!(many["rows"][999], json!([4_001]));
    // All of an answer is of one commit point, the one that it names.
    let agrees = ask(
        browser,
        "SELECT (SELECT max(epoch) FROM commit_points), (SELECT sum(customers) FROM grade_distribution),
                (SELECT count(*) FROM customer_grade)",
    );
    assert_eq!(agrees["rows"][0][0], agrees["epoch"]);
    assert_eq!(agrees["rows"][0][1], agrees["rows"][0][2]);

    // The same in the tab: a chart, a table, a link, and a sentence where there is none.
    let hourly = "SELECT extract(hour FROM ordered_at)::int AS hour, count(*) AS orders FROM orders GROUP BY 1 ORDER BY 1";
    let link =
        browser.eval(&format!("new URLSearchParams({{ sql: {} }}).toString()", json!(hourly)));
    browser.open(&format!("{url}/ask?{}", link.as_str().unwrap()));
    browser.size(1440, 1000);
    browser.until("a chart is drawn", "document.querySelector('#answer-panel canvas') !== null");
    browser.picture("ask");
    browser.eval("document.querySelector('[data-as=\"table\"]').click()");
    browser.until(
        "a table is drawn",
        "document.querySelectorAll('#answer-panel tbody tr').length === 24",
    );
    assert!(browser.eval("location.search").as_str().unwrap().ends_with("&as=table"));
    browser.eval("document.querySelector('#ask-sql').value = 'SELECT 1\\nFROM nowhere'");
    browser.eval("document.querySelector('#run').click()");
    browser.until(
        "the fault is named",
        "document.querySelector('#ask-error').textContent === 'line 2, column 6: relation \"nowhere\" does not exist'",
    );
    assert_eq!(browser.eval("document.querySelector('#ask-sql').selectionStart"), 14);
    assert!(running.interrupt().success());
}

#[test]
fn an_answer_is_kept_shown_live_and_dropped() {
    let dir = scratch();
    let (mut running, url) = up(&dir);
    let browser = &mut Browser::start();
    browser.size(1440, 1000);
    browser.open(&format!("{url}/ask"));
    browser.until("the tab is there", THERE);
    let keep = |browser: &mut Browser, name: &str, sql: &str, alert: bool| {
        browser.eval(&format!(
            "document.querySelector('#ask-sql').value = {};
             document.querySelector('#keep-menu').open = true;
             document.querySelector('#keep-form').elements.name.value = {};
             document.querySelector('#keep-form').elements.alert.checked = {alert};
             document.querySelector('#keep-form button').click()",
            json!(sql),
            json!(name)
        ));
    };
    let text = "SELECT event, count(*) AS lines FROM order_lines GROUP BY 1";
    keep(browser, "events", text, false);
    let live = "document.querySelector('[data-view=\"events\"] .state-live') !== null";
    browser.until("it is live", live);
    keep(browser, "young", "SELECT region AS kept, count(*) AS t FROM users GROUP BY 1", true);
    browser.until("its rows are alerts", "document.querySelectorAll('#alerts li').length > 10");
    let alert = browser.eval("document.querySelector('#alerts li').textContent");
    let alert = alert.as_str().unwrap();
    assert!(alert.starts_with("young: kept ") && alert.contains(", t "), "{alert}");
    assert!(alert.contains("(since Mon, 23 Nov 2026, "), "{alert}");

    // Opened, it goes on by itself.
    browser.eval("document.querySelector('[data-view=\"events\"] a').click()");
    browser.eval("document.querySelector('[data-as=\"table\"]')?.click()");
    let lines = "[...document.querySelectorAll('#answer-panel tbody td.right')]
                     .reduce((sum, it) => sum + Number(it.dataset.value), 0)";
    wait_until("it is shown", || browser.eval(lines).as_f64() > Some(0.0));
    let before = browser.eval(lines).as_f64();
    wait_until("it goes on", || browser.eval(lines).as_f64() > before);
    browser.until(
        "what it holds is told",
        "/\\d/.test(document.querySelector('[data-view=\"events\"]').children[3].textContent)",
    );
    browser.picture("ask-views");
    browser.scheme("dark");
    browser.picture("ask-dark");
    browser.eval("document.querySelector('#language').click()");
    browser.until("it is in Korean", "document.querySelector('#title').textContent === '질문하기'");
    browser.size(390, 844);
    browser.picture("ask-phone");
    assert!(browser.complaints.is_empty(), "{:#?}", browser.complaints);
    browser.eval("document.querySelector('#language').click(); window.confirm = () => true");
    browser.eval("document.querySelector('[data-drop=\"events\"]').click()");
    browser.until("it is gone", "document.querySelector('[data-view=\"events\"]') === null");

    let server = PrivatePostgres::start(&dir).unwrap();
    let db = &mut connect(&server.config());
    assert!(db.query_one("SELECT to_regclass('events') IS NULL", &[]).unwrap().get::<_, bool>(0));
    // The market time of the commit point that brought them.
    let since = "SELECT count(*) > 0 AND count(*) = count(since)
                        AND bool_and(since <= market_now()) FROM view_alerts WHERE name = 'young'";
    assert!(db.query_one(since, &[]).unwrap().get::<_, bool>(0));
    let metrics = browser.eval("fetch('/metrics').then(answer => answer.text())");
    let metrics = metrics.as_str().unwrap();
    for line in [
        "marketday_standing_views{state=\"live\"} 1",
        "marketday_standing_views{state=\"failed\"} 0",
        "marketday_view_alerts{view=\"young\"} 17",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(metrics.contains("marketday_standing_view_records{view=\"young\"}"), "{metrics}");
    keep(browser, "events", "SELECT event, avg(amount) FROM order_lines GROUP BY 1", false);
    browser.until(
        "what cannot be kept is refused",
        "document.querySelector('#ask-error').textContent.includes('line 1, column 15: avg ')",
    );
    assert!(running.interrupt().success());
}

/// Who owns the tables could be asked to do more than to read.
#[test]
fn a_page_that_reads_as_the_owner_runs_no_question() {
    let database = fresh_database();
    let page = marketday::page::serve(marketday::page::Settings {
        listen: ([127, 0, 0, 1], 0).into(),
        names: vec![],
        database: database.clone(),
        reader: database,
        dir: scratch(),
        stalled: marketday::page::STALLED,
    });
    let page = page.unwrap();
    let browser = &mut Browser::start();
    browser.open(&format!("http://{}/ask", page.address));
    let answer = ask(browser, "SELECT 1");
    one_sentence(&format!("marketday: {}\n", answer["error"].as_str().unwrap()), "--page-database");
}
