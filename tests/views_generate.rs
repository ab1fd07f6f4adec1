//! Random tables, times and SELECTs for the tests of standing views.
//!
//! The SELECTs are written out of templates with typed holes, so that PostgreSQL takes nearly all
//! of them; and they aim: at NULLs on both sides of joins, doubled rows, the ends of months and of
//! integers, arrays of different lengths, and instants on and beside the hour.

use std::collections::BTreeMap;
use std::mem;

use dataflows::views::value::{DAY, day_of};
use dataflows::views::{Row, Type, Value};

/// Rows, and how often each is there.
pub(crate) type Multiset = BTreeMap<Row, isize>;

/// Numbers from a seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to, but not including.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Once in so many times.
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of some.
    pub(crate) fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }
}

/// A table: its name, its columns with their types, and so many of the first are its key.
pub(crate) struct Table {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its columns, with types as [`type_of`] knows them.
    pub(crate) columns: &'static [(&'static str, &'static str)],
    /// So many of them are its key.
    pub(crate) key: usize,
}

/// The tables that the SELECTs read. (`market` has one row: the time.)
pub(crate) const TABLES: [Table; 4] = [
    Table {
        name: "orders",
        columns: &[
            ("order_id", "big"),
            ("user_id", "big"),
            ("at", "instant"),
            ("kind", "text"),
            ("amount", "big"),
            ("small", "small"),
            ("clock", "stamp"),
        ],
        key: 1,
    },
    Table {
        name: "lines",
        columns: &[
            ("order_id", "big"),
            ("line", "int"),
            ("category", "text"),
            ("quantity", "int"),
            ("price", "big"),
            ("ids", "bigs"),
            ("tags", "texts"),
            ("cost", "numeric"),
        ],
        key: 0,
    },
    Table {
        name: "users",
        columns: &[
            ("user_id", "big"),
            ("region", "text"),
            ("born", "date"),
            ("vip", "bool"),
            ("score", "int"),
            ("level", "small"),
            ("seen", "instant"),
        ],
        key: 1,
    },
    Table { name: "market", columns: &[("now", "instant")], key: 0 },
];

/// The views that the SELECTs read: evaluated from their own trees.
pub(crate) const VIEWS: [(&str, &str); 2] = [
    ("placed", "SELECT order_id, user_id, at, amount FROM orders WHERE kind = 'S'"),
    (
        "recent",
        "SELECT p.user_id, count(*) AS n, max(p.at) AS last FROM placed p \
         WHERE p.at > market_now() - interval '50 days' GROUP BY p.user_id",
    ),
];

/// The type of a name in the templates.
pub(crate) fn type_of(name: &str) -> Type {
    match name {
        "bool" => Type::Bool,
        "small" => Type::Small,
        "int" => Type::Integer,
        "big" => Type::Bigint,
        "numeric" => Type::Numeric,
        "text" => Type::Text,
        "date" => Type::Date,
        "stamp" => Type::Stamp,
        "instant" => Type::Instant,
        "bigs" => Type::Array(Box::new(Type::Bigint)),
        "texts" => Type::Array(Box::new(Type::Text)),
        _ => panic!("there is no type {name}"),
    }
}

const HOUR: i64 = 3_600_000_000;

/// An instant of early 2026, often on the hour or beside it, often at an end of a month.
fn instant(random: &mut Random) -> i64 {
    let day = if random.one_in(3) {
        let (month, day) =
            random.of(&[(1, 29), (1, 30), (1, 31), (2, 28), (3, 1), (3, 29), (3, 31)]);
        day_of(2026, month, day)
    } else {
        day_of(2026, 1, 1) + random.below(90) as i64
    };
    let beside = random.of(&[-1_000, -1, 0, 0, 0, 1, 1_000]);
    day * DAY + random.below(24) as i64 * HOUR - 9 * HOUR + beside
}

/// A time, in whole milliseconds, at which something about a row of orders may change.
pub(crate) fn now(random: &mut Random, orders: &Multiset) -> i64 {
    let at: Vec<i64> = orders
        .keys()
        .filter_map(|row| if let Value::Instant(at) = row[2] { Some(at) } else { None })
        .collect();
    let now = if at.is_empty() || random.one_in(3) {
        instant(random) + random.of(&[0, 0, 30]) * DAY
    } else if random.one_in(4) {
        // When a day, a week or a month begins in the market's zone.
        let days = [(1, 31), (2, 1), (2, 2), (2, 16), (2, 28), (3, 1), (3, 29), (3, 31), (4, 1)];
        let (month, day) = random.of(&days);
        day_of(2026, month, day) * DAY - 9 * HOUR
    } else {
        let days = random.of(&[0, 0, 0, 1, 7, 28, 30, 31, -1]);
        random.of(&at) + days * DAY + random.of(&[-1_000, 0, 0, 1_000, -HOUR, HOUR])
    };
    now.div_euclid(1_000) * 1_000
}

fn int(random: &mut Random, of: &str) -> i64 {
    if random.one_in(80) {
        let (least, greatest) = match of {
            "small" => (i16::MIN.into(), i16::MAX.into()),
            "int" => (i32::MIN.into(), i32::MAX.into()),
            _ => (i64::MIN, i64::MAX),
        };
        return random.of(&[least, greatest]);
    }
    random.below(9) as i64 - 2
}

const WORDS: [&str; 13] =
    ["a", "B", "S", "S", "S", "S%", "S_x", "Sab", "", "한국", "한", "b\\", "NULL"];

fn value(random: &mut Random, of: &str) -> Value {
    match of {
        "bool" => Value::Bool(random.one_in(2)),
        "text" => Value::text(random.of(&WORDS)),
        "date" if random.one_in(3) => {
            let days = [(2004, 2, 29), (2026, 1, 31), (2026, 2, 28), (2026, 3, 1), (1999, 12, 31)];
            let (year, month, day) = random.of(&days);
            Value::Date(day_of(year, month, day) as i32)
        }
        "date" => Value::Date(random.below(12_000) as i32 - 2_400),
        "stamp" => Value::Stamp(instant(random) + 9 * HOUR),
        "instant" => Value::Instant(instant(random)),
        "numeric" if random.one_in(30) => Value::numeric(i128::from(i64::MAX) * 10),
        "numeric" => {
            Value::numeric(i128::from(random.below(9)) * i128::from(random.of(&[1, -1, 1_000])))
        }
        "bigs" | "texts" => {
            let item = &of[..of.len() - 1];
            let length = random.below(4);
            let items = (0..length)
                .map(|_| if random.one_in(4) { Value::Null } else { value(random, item) });
            Value::Array(items.collect())
        }
        _ => Value::Int(int(random, of)),
    }
}

fn row(random: &mut Random, table: &Table, id: i64) -> Row {
    let value = |(place, (name, of)): (usize, &(&str, &str))| match (place, *name) {
        (0, _) if table.key == 1 => Value::Int(id),
        (_, "at") => value(random, of),
        _ if random.one_in(6) => Value::Null,
        (0 | 1, _) if *of == "big" => Value::Int(random.below(9) as i64 - 1),
        _ => value(random, of),
    };
    table.columns.iter().enumerate().map(value).collect()
}

/// What the tables hold next: some rows stay, some change, some are new. (Of `market` nothing.)
pub(crate) fn state(random: &mut Random, before: Option<&[Multiset]>, size: u64) -> Vec<Multiset> {
    let rows = |(place, table): (usize, &Table)| {
        let mut rows = Multiset::new();
        if table.name == "market" {
            return rows;
        }
        let old: Vec<(Row, isize)> = before
            .into_iter()
            .flat_map(|before| before[place].clone())
            .filter(|_| random.one_in(2))
            .collect();
        let mut ids: Vec<i64> = (-1..size as i64 * 3 / 2).collect();
        for (row, copies) in old {
            if let Value::Int(id) = row[0] {
                ids.retain(|other| *other != id);
            }
            rows.insert(row, copies);
        }
        let wanted = if random.one_in(12) { 0 } else { size / 2 } + random.below(size);
        while (rows.len() as u64) < wanted && !ids.is_empty() {
            let id = ids.swap_remove(random.below(ids.len() as u64) as usize);
            let copies = if table.key == 0 && random.one_in(4) { 2 } else { 1 };
            *rows.entry(row(random, table, id)).or_default() += copies;
        }
        rows
    };
    TABLES.iter().enumerate().map(rows).collect()
}

/// The types of columns, keys and orders.
const TYPES: [&str; 8] = ["small", "int", "big", "numeric", "text", "date", "stamp", "instant"];

/// Templates for any type. A hole is `{type}`, `{type'}` for a column or a constant,
/// `{one|another}`, or one of those that [`Generator::hole`] knows; `T` is the type that is asked for, or any.
const CHOICES: [&str; 7] = [
    "CASE WHEN {bool} THEN {T} ELSE {T} END",
    "CASE WHEN {bool} THEN {T} END",
    "CASE {int} WHEN {int'} THEN {T} WHEN {int'} THEN {T} ELSE {T} END",
    "CASE {text} WHEN {text'} THEN {T} ELSE {T} END",
    "COALESCE({T}, {T})",
    "NULLIF({T}, {T})",
    // Not of arrays and truths.
    "{GREATEST|LEAST}({T}{C}, {T})",
];

/// The templates of a number.
fn numbers(of: &str) -> &'static [&'static str] {
    match of {
        "small" => &[
            "abs({small})",
            "(- {small})",
            "({int})::smallint",
            "({small} {+|-|*} {small'})",
            "({small} {/|%} {small})",
            "((-7)::smallint {/|%} ({2|3|-2|-3})::smallint)",
        ],
        "int" => &[
            "extract({dow|month|isodow|doy|year|week|isoyear} from {date})::int",
            "extract({hour|day|quarter|minute} from {stamp})::int",
            "extract({hour|day|quarter|minute} from {instant})::int",
            "({date} - {date})",
            "abs({int})",
            "(- {int})",
            "length({text})",
            "cardinality({bigs|texts})",
            "array_length({bigs|texts}, 1)",
            "({big})::int",
            "({numeric})::int",
            "({small} {+|-|*} {int})",
            "({int} {+|-|*} {int})",
            "({int} {/|%} {int})",
            "({int} {/|%} ({2|3|-2|-3|5}))",
            "((-7) {/|%} ({2|3|-2|-3|5}))",
        ],
        "big" => &[
            "({int})::bigint",
            "({numeric})::bigint",
            "(- {big})",
            "abs({big})",
            "({bigs})[{int'}]",
            "({small} {+|-|*|/|%} {big'})",
            "({int} {+|-|*} {big})",
            "({big} {+|-|*} {big})",
            "({big} {+|-|*} {big})",
            "({big} {/|%} NULLIF({big}, 0))",
            "({big'} {/|%} {big})",
            "({big} {/|%} ({2|3|-2|-3|5})::bigint)",
        ],
        _ => &[
            "({small|int|big})::numeric",
            "extract({dow|isodow|doy|week|isoyear|year} from {date})",
            "abs({numeric})",
            "(- {numeric})",
            "({numeric} {+|-|*} {big})",
            "({numeric} {+|-|*} {numeric})",
            "({numeric} % NULLIF({numeric}, 0))",
        ],
    }
}

/// The templates of a type.
fn templates(of: &str) -> &'static [&'static str] {
    match of {
        "small" | "int" | "big" | "numeric" => numbers(of),
        "text" => &[
            "({text} || {text})",
            "{lower|upper}({text} COLLATE \"C\")",
            "({small|int|big|numeric|bool})::text",
            "({texts})[{int'}]",
            "{text'}",
        ],
        "stamp" => &[
            "date_trunc('{unit}', {stamp})",
            "({span} + {stamp})",
            "({stamp} {+|-} {span})",
            "({date})::timestamp",
            "({date} {+|-} {span})",
            "date_bin('{10 minutes|7 hours|2 days}', {stamp}, timestamp '2026-02-01 00:07')",
            "({instant} AT TIME ZONE 'Asia/Seoul')",
        ],
        "instant" => &[
            "date_trunc('{unit}', {instant})",
            "({instant} {+|-} {span})",
            "({stamp} AT TIME ZONE 'Asia/Seoul')",
            "date_bin('{10 minutes|1 hour}', {instant}, timestamptz 'epoch')",
            "{instant'}",
        ],
        "date" => {
            &["({int'} + {date})", "({date} {+|-} {int'})", "({stamp|instant})::date", "{date'}"]
        }
        "interval" => &["({stamp} - {stamp})", "({instant} - {instant})"],
        "bigs" => &["ARRAY[{big}, {big}]", "{bigs'}", "{bigs'}"],
        "texts" => &["ARRAY[{text}, {text}]", "{texts'}", "{texts'}"],
        // Functions of the market's time that never fall.
        "clock_instant" => &[
            "({clock_instant} {+|-} {span})",
            "date_trunc('{hour|day|week|month|year}', {clock_instant})",
            "({clock_stamp} AT TIME ZONE 'Asia/Seoul')",
            "date_bin('7 hours', {clock_instant}, timestamptz 'epoch')",
        ],
        "clock_stamp" => &[
            "({clock_stamp} {+|-} {span})",
            "date_trunc('{hour|day|week|month|quarter}', {clock_stamp})",
            "({clock_date})::timestamp",
            "({clock_instant} AT TIME ZONE 'Asia/Seoul')",
        ],
        "clock_date" => {
            &["({clock_date} {+|-} {0|1|7|30})", "({clock_stamp})::date", "({clock_instant})::date"]
        }
        _ => &[
            "({bool} {AND|OR} {bool})",
            "({bool} OR {bool})",
            "(NOT {bool})",
            "({int|text|bool|date|texts} IS {|NOT |NOT }NULL)",
            "({text} {LIKE|NOT LIKE} {'S%'|'_'|'%\\_%'|'%국'|''|'%'})",
            "({text} {LIKE|NOT LIKE} {'%a_'|'_국'|'한_'|'__'|'_%\\\\'})",
            "({text'} {LIKE|NOT LIKE} {'%'|'%'|'S%'|'%'|'\\'})",
            "({int} {IN|NOT IN} ({1, 3|1, 3, NULL|0|-1, 2, 5, 0}))",
            "({bool} IS {TRUE|NOT TRUE|FALSE|NOT FALSE|UNKNOWN|NOT UNKNOWN})",
            "({T} IS {|NOT }DISTINCT FROM {T})",
            "({big} BETWEEN {int} - 3 AND {big} + 4)",
            "({big} {= ANY|<> ALL} ({bigs}))",
            "({text} {= ANY|<> ALL} ({texts}))",
            "({interval} {<|<=|>|=|<>} {span})",
            "({date} {=|<>|<|<=|>|>=} {stamp})",
            "({stamp} {=|<>|<|<=|>|>=} {date|instant})",
            "({instant} {=|<>|<|<=|>|>=} {stamp})",
            "({small} {=|<>|<|<=|>|>=} {big})",
            "({int} {=|<>|<|<=|>|>=} {numeric})",
            "({text} {IN|NOT IN} ({'a', 'S'|'한국', NULL|''}))",
            "({bigs} {=|<>|<>} {bigs})",
            "({texts} {=|<>|<>} {texts})",
            "({T}{C} {=|<>|<|<=|>|>=} {T})",
            "({T}{C} {<>|<|<=|>|>=} {T})",
        ],
    }
}

/// A constant of a type.
fn constant(of: &str) -> &'static str {
    match of {
        "small" => "{-2|0|1|2|5}::smallint",
        "int" => "{-2|0|1|1|2|2|3|5|NULL::int}",
        "big" => "{-2|0|1|1|2|2|3|5|NULL|9223372036854775807}::bigint",
        "numeric" => "{-2|0|1|2|5}::numeric",
        "bool" => "{true|true|false|NULL::boolean}",
        "text" => "{'a'|'S'|'S'|''|'한국'|'Bx'|NULL::text}",
        "date" => "date '{1999-12-31|2004-02-29|2026-03-01}'",
        "stamp" => "timestamp '2026-{01-31 10:00|02-28 00:00:00.000001}'",
        "instant" => "timestamptz '2026-{02-15|03-01} 00:00+09'",
        "bigs" => "{ARRAY[1, 2, NULL]|ARRAY[]|NULL}::bigint[]",
        "texts" => "{ARRAY['a', NULL, 'S']|ARRAY[]::text[]}",
        "clock_stamp" => "(market_now() AT TIME ZONE 'Asia/Seoul')",
        "clock_date" => "(market_now())::date",
        "interval" => "{span}",
        _ => "market_now()",
    }
}

/// EXISTS and IN, and what they deny.
const EXISTS: [&str; 13] = [
    "EXISTS (SELECT 1 FROM users x WHERE x.user_id = {big'} AND x.vip IS NOT FALSE)",
    "NOT EXISTS (SELECT FROM users x WHERE x.user_id = {big'} AND x.score > {int'})",
    "{column big} IN (SELECT x.order_id FROM lines x WHERE x.quantity > 0)",
    "NOT EXISTS (SELECT FROM lines x WHERE x.order_id = {big'} AND x.quantity = {int'})",
    "{column big} IN (SELECT max(x.order_id) FROM lines x GROUP BY x.line)",
    "EXISTS (SELECT 1 FROM orders x JOIN users y USING (user_id)
             WHERE {big'} = x.order_id AND x.at > market_now() - interval '2 months')",
    "({column big}, {column int}) IN (SELECT x.order_id, x.line FROM lines x)",
    // Without a key.
    "EXISTS (SELECT 1 FROM lines x WHERE x.price {>|<|<>} {column big})",
    "EXISTS (SELECT FROM users x WHERE x.score {>|<} {column big} OR x.region = {text'})",
    "NOT EXISTS (SELECT FROM lines x WHERE x.price {>|<} {column big} AND x.line > 3)",
    "EXISTS (SELECT FROM users x WHERE x.vip)",
    "NOT EXISTS (SELECT FROM users x WHERE x.score = {3|4|5|6})",
    "EXISTS (SELECT FROM lines x WHERE x.order_id = {column big} AND x.price >= {column big})",
];

const AGGREGATES: [&str; 7] = [
    "count(*){filter}",
    "count({|DISTINCT }{any}){filter}",
    "sum({|DISTINCT }{small|int}){filter}",
    "sum({|DISTINCT }{big|numeric}){filter}",
    "{bool_and|every|bool_or}({bool}){filter}",
    "{min|max}({T}{C}){filter}",
    "{min|max}({T'}{C}){filter}",
];

/// Windows over a table with a key `{key}`, so that the order leaves nothing open.
const WINDOWS: [&str; 5] = [
    "SELECT DISTINCT ON ({group}) {group} AS k, {any} AS v, {key} AS i {rows}
     ORDER BY {group}, {order}, {key} {sort}",
    "SELECT {any} AS v, {key} AS i {rows} ORDER BY {order}, {key} {sort} LIMIT {0|1|2|3|4|5}",
    "SELECT {any} AS v, row_number() OVER (PARTITION BY {group} ORDER BY {order}, {key}) AS n
     {rows}",
    "SELECT v, n FROM (SELECT {any} AS v, row_number() OVER (PARTITION BY {group}
     ORDER BY {order}, {key} {sort}) AS n {rows}) w WHERE n <= {1|2|3}",
    "SELECT {any} AS v, {lag|lead}({T}{|, 0|, 1|, 3}) OVER w AS l, {lag|lead}({T}, {1|2|-1}, {K})
     OVER w AS m, row_number() OVER w AS n, rank() OVER (ORDER BY {group} {sort}) AS r {rows}
     WINDOW w AS (PARTITION BY {group} ORDER BY {order}, {key} {sort})",
];

/// A SELECT.
pub(crate) fn query(random: &mut Random) -> String {
    Generator::new(random).query()
}

/// All that the templates may name.
const NAMED: [&str; 15] = [
    "bool",
    "small",
    "int",
    "big",
    "numeric",
    "text",
    "date",
    "stamp",
    "instant",
    "interval",
    "bigs",
    "texts",
    "clock_instant",
    "clock_stamp",
    "clock_date",
];

/// Writes SELECTs.
struct Generator<'r> {
    random: &'r mut Random,
    /// What may be named, with types.
    columns: Vec<(String, &'static str)>,
    /// What the commas of FROM leave to WHERE.
    conditions: Vec<String>,
    names: usize,
    /// What stands for `{rows}`, `{key}` and `{group}`.
    rows: String,
    key: &'static str,
    group: String,
}

impl<'r> Generator<'r> {
    fn new(random: &'r mut Random) -> Generator<'r> {
        let (rows, group) = (String::new(), String::new());
        Generator { random, columns: vec![], conditions: vec![], names: 0, rows, key: "", group }
    }

    /// Fills the holes of a template; `T` is of a type.
    fn filled(&mut self, template: &str, of: &'static str, depth: u32) -> String {
        let (mut text, mut rest) = (String::new(), template);
        while let Some((before, after)) = rest.split_once('{') {
            let (hole, after) = after.split_once('}').unwrap();
            text += before;
            text += &self.hole(hole, of, depth);
            rest = after;
        }
        text + rest
    }

    /// The same, of any type.
    fn fill(&mut self, template: &str, depth: u32) -> String {
        let of = self.random.of(&TYPES);
        self.filled(template, of, depth)
    }

    fn hole(&mut self, hole: &str, of: &'static str, depth: u32) -> String {
        let named = |name: &str| NAMED.iter().find(|it| **it == name).copied();
        if hole.contains('|') {
            let choices: Vec<&str> = hole.split('|').collect();
            let chosen = self.random.of(&choices);
            return self.hole(chosen, of, depth);
        }
        if let Some(of) = hole.strip_prefix("column ").and_then(named) {
            return self.column(of).unwrap_or_else(|| self.filled(constant(of), of, 0));
        }
        if let Some(of) = hole.strip_suffix('\'').and_then(named) {
            return self.leaf(of);
        }
        let template = match hole {
            "C" if of == "text" => " COLLATE \"C\"",
            "T" => return self.expr(of, depth),
            "T'" => return self.leaf(of),
            "K" => constant(of),
            "any" => {
                let of = self.any_type();
                return self.expr(of, depth);
            }
            "rows" => return self.rows.clone(),
            "key" => self.key,
            "group" => return self.group.clone(),
            "aggregate" => {
                let template = self.random.of(&AGGREGATES);
                return self.fill(template, depth);
            }
            "filter" if self.random.one_in(3) => " FILTER (WHERE {bool})",
            "C" | "filter" => "",
            "order" => return self.fill("{T}{C} {sort}", depth),
            "sort" => "{DESC|ASC|DESC NULLS LAST|NULLS FIRST|}",
            "unit" => "{microseconds|milliseconds|second|minute|hour|day|week|month|quarter|year}",
            "span" => {
                "interval '{1 month|6 months|1 day 3 hours|1 year 1 month -2 days|90 minutes|7 days\
                 |24 hours|-1 month|30 days|1 microsecond}'"
            }
            _ => match named(hole) {
                Some(of) => return self.expr(of, depth),
                None => return hole.to_owned(),
            },
        };
        self.filled(template, of, depth)
    }

    fn any_type(&mut self) -> &'static str {
        if self.random.one_in(8) { "bool" } else { self.random.of(&TYPES) }
    }

    fn column(&mut self, of: &str) -> Option<String> {
        let found: Vec<&str> =
            self.columns.iter().filter(|it| it.1 == of).map(|it| it.0.as_str()).collect();
        (!found.is_empty()).then(|| self.random.of(&found).to_owned())
    }

    /// A column or a constant.
    fn leaf(&mut self, of: &'static str) -> String {
        let column = if self.random.one_in(4) { None } else { self.column(of) };
        column.unwrap_or_else(|| self.filled(constant(of), of, 0))
    }

    /// An expression of a type.
    fn expr(&mut self, of: &'static str, depth: u32) -> String {
        if depth == 0 || self.random.one_in(4) {
            return self.leaf(of);
        }
        if self.random.one_in(6) && of != "interval" && !of.starts_with("clock") {
            let least = usize::from(["bool", "bigs", "texts"].contains(&of));
            let template = self.random.of(&CHOICES[..CHOICES.len() - least]);
            return self.filled(template, of, depth - 1);
        }
        let template = self.random.of(templates(of));
        self.fill(template, depth - 1)
    }

    /// A table of FROM, whose columns may be named from here on.
    fn table(&mut self, name: &str, alias: &str) -> String {
        let columns: &[(&str, &str)] = match name {
            "placed" => {
                &[("order_id", "big"), ("user_id", "big"), ("at", "instant"), ("amount", "big")]
            }
            "recent" => &[("user_id", "big"), ("n", "big"), ("last", "instant")],
            _ => TABLES.iter().find(|table| table.name == name).unwrap().columns,
        };
        self.columns.extend(columns.iter().map(|(name, of)| (format!("{alias}.{name}"), *of)));
        format!("{name} {alias}")
    }

    /// Compares what stood before with what came since.
    fn pair(&mut self, before: usize, comparison: &str) -> Option<String> {
        let mut pairs = vec![];
        for (left, of) in &self.columns[..before] {
            for (right, other) in &self.columns[before..] {
                let integers = ["small", "int", "big"];
                if of == other || integers.contains(of) && integers.contains(other) {
                    // Those that match often.
                    let often = left.ends_with("_id") && right.ends_with("_id");
                    let times = if often && comparison == "=" { 25 } else { 1 };
                    pairs.extend(std::iter::repeat_n((left, right, *of), times));
                }
            }
        }
        pairs.retain(|(.., of)| comparison == "=" || TYPES.contains(of));
        if pairs.is_empty() {
            return None;
        }
        let (left, right, of) = self.random.of(&pairs);
        let (left, right) = if self.random.one_in(8) { (right, left) } else { (left, right) };
        let collation = if of == "text" && comparison != "=" { " COLLATE \"C\"" } else { "" };
        let pair = format!("{left}{collation} {{{comparison}}} {right}");
        Some(self.fill(&pair, 0))
    }

    /// Joins one thing more; whether something may follow.
    fn more(&mut self, from: &str, depth: u32) -> (String, bool) {
        self.names += 1;
        let (alias, before) = (format!("t{}", self.names), self.columns.len());
        let arrays: Vec<usize> = (0..before)
            .filter(|place| ["bigs", "texts"].contains(&self.columns[*place].1))
            .collect();
        if !arrays.is_empty() && self.random.one_in(2) {
            return self.unnested(from, &alias, &arrays);
        }
        match self.random.below(12) {
            0 => {
                self.columns.push((format!("{alias}.x"), "int"));
                self.columns.push((format!("{alias}.w"), "text"));
                let rows = "{(1, 'a'), (2, NULL), (1, 'a')|(3, 'S')|(NULL, ''), (4, 'x')}";
                let template = format!("{from} CROSS JOIN (VALUES {rows}) AS {alias} (x, w)");
                (self.fill(&template, 0), true)
            }
            1 => {
                let mut inner = Generator::new(self.random);
                let table = inner.random.of(&["orders", "users", "lines"]);
                let table = inner.table(table, "i");
                let columns = inner.fill("count(*) AS n, sum({big}) AS s", 1);
                self.columns.push((format!("{alias}.n"), "big"));
                self.columns.push((format!("{alias}.s"), "numeric"));
                (format!("{from} CROSS JOIN (SELECT {columns} FROM {table}) AS {alias}"), true)
            }
            2 if depth > 0 => {
                let of = self.any_type();
                let mut inner = Generator::new(self.random);
                let inner = if inner.random.one_in(2) {
                    inner.plain(&["big", of], depth - 1)
                } else {
                    inner.rows = inner.rows_of(depth - 1);
                    let select = "SELECT sum({int}) AS c0, {T} AS c1 {rows} GROUP BY 2";
                    inner.filled(select, of, 1)
                };
                self.columns.push((format!("{alias}.c0"), "big"));
                self.columns.push((format!("{alias}.c1"), of));
                (self.join(from, &format!("({inner}) AS {alias}"), before), true)
            }
            _ => {
                let tables =
                    ["orders", "users", "lines", "orders", "users", "placed", "recent", "market"];
                let table = self.random.of(&tables);
                let item = self.table(table, &alias);
                if !self.random.one_in(5) {
                    return (self.join(from, &item, before), true);
                }
                let equality = self.pair(before, "=").unwrap_or("true".into());
                self.conditions.push(equality);
                // What follows a comma cannot be joined with what stands before it.
                (format!("{from}, {item}"), false)
            }
        }
    }

    fn unnested(&mut self, from: &str, alias: &str, arrays: &[usize]) -> (String, bool) {
        let (mut calls, mut names) = (vec![], vec![]);
        for place in 0..=self.random.below(2) {
            let (array, of) = self.columns[self.random.of(arrays)].clone();
            calls.push(array);
            names.push((format!("e{place}"), &of[..of.len() - 1]));
        }
        let ordinality = if self.random.one_in(3) {
            names.push(("place".into(), "big"));
            " WITH ORDINALITY"
        } else {
            ""
        };
        self.columns.extend(names.iter().map(|(name, of)| (format!("{alias}.{name}"), *of)));
        let names: Vec<String> = names.into_iter().map(|it| it.0).collect();
        let (calls, names) = (calls.join(", "), names.join(", "));
        let call = format!("unnest({calls}){ordinality} AS {alias} ({names})");
        match self.random.below(4) {
            0 => (format!("{from}, {call}"), false),
            1 => (format!("{from}, LATERAL {call}"), false),
            2 => (format!("{from} CROSS JOIN {call}"), true),
            _ => (self.fill(&format!("{from} JOIN {call} ON {{bool}} IS NOT FALSE"), 1), true),
        }
    }

    fn join(&mut self, from: &str, item: &str, before: usize) -> String {
        let kind = self.random.of(&["JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN"]);
        let comparison = if self.random.one_in(8) { "<|<=|>|<>" } else { "=" };
        let mut on = self.pair(before, comparison).unwrap_or("true".into());
        if self.random.one_in(6)
            && let Some(more) = self.pair(before, "=")
        {
            on = format!("{on} AND {more}");
        }
        let more = match self.random.below(8) {
            0 => self.fill(" AND {bool}", 1),
            1 => self.fill(" AND ({bool} IS NOT FALSE)", 1),
            2 if kind == "JOIN" => format!(" AND {}", self.within()),
            _ => String::new(),
        };
        format!("{from} {kind} {item} ON {on}{more}")
    }

    /// A condition on the market's time.
    fn within(&mut self) -> String {
        let of = self.random.of(&["instant", "instant", "stamp", "date"]);
        let depth = self.random.below(3) as u32;
        let template = self.random.of(&[
            "{X'} {<|<=|>|>=} {clock_X}",
            "{X} {<|<=|>|>=|>} {clock_X}",
            "{clock_X} {<|<=|>|>=} {X'}",
            "{X'} {>|>=} {clock_X} - interval '{20|60|90} days'",
            "{X'} BETWEEN {clock_X} - interval '{30|60} days' AND {clock_X} + interval '30 days'",
            "{date'|stamp'} {<|>=} {clock_instant}",
        ]);
        self.fill(&template.replace('X', of), depth)
    }

    /// FROM and WHERE.
    fn rows_of(&mut self, depth: u32) -> String {
        self.columns.clear();
        self.conditions.clear();
        self.names += 1;
        let tables = ["orders", "lines", "users", "orders", "lines", "placed", "recent"];
        let (table, alias) = (self.random.of(&tables), format!("t{}", self.names));
        let mut from = self.table(table, &alias);
        for _ in 0..self.random.below(3) {
            let goes_on;
            (from, goes_on) = self.more(&from, depth);
            if !goes_on {
                break;
            }
        }
        format!("FROM {from}{}", self.filter())
    }

    fn filter(&mut self) -> String {
        let mut conditions = mem::take(&mut self.conditions);
        for _ in 0..self.random.of(&[0, 0, 0, 0, 1, 1, 2]) {
            let template = self.random.of(&["{bool}", "({bool} IS NOT FALSE)"]);
            conditions.push(self.fill(template, 2));
        }
        if self.random.one_in(4) {
            let template = self.random.of(&EXISTS);
            conditions.push(self.fill(template, 0));
        }
        if self.random.one_in(5) {
            conditions.push(self.within());
        }
        if conditions.is_empty() {
            return String::new();
        }
        format!(" WHERE {}", conditions.join(" AND "))
    }

    fn plain(&mut self, types: &[&'static str], depth: u32) -> String {
        let rows = self.rows_of(depth);
        let column = |(place, of)| format!("{} AS c{place}", self.expr(of, 2));
        let columns: Vec<String> = types.iter().copied().enumerate().map(column).collect();
        let distinct = if self.random.one_in(3) { "DISTINCT " } else { "" };
        format!("SELECT {distinct}{} {rows}", columns.join(", "))
    }

    fn grouped(&mut self) -> String {
        self.rows = self.rows_of(1);
        let keys = self.random.of(&[0, 1, 1, 1, 2, 2]);
        let mut columns: Vec<String> = (0..keys).map(|key| format!("{{any}} AS k{key}")).collect();
        columns
            .extend((0..=self.random.below(3)).map(|place| format!("{{aggregate}} AS a{place}")));
        let by = ["", " GROUP BY 1", " GROUP BY 1, 2"][keys];
        let having = match self.random.below(8) {
            0 | 1 => " HAVING count(*) > {0|1} OR {aggregate} IS NULL",
            2 => " HAVING max({instant'}) > {clock_instant} - interval '60 days'",
            _ => "",
        };
        self.fill(&format!("SELECT {} {{rows}}{by}{having}", columns.join(", ")), 1)
    }

    fn windowed(&mut self) -> String {
        if self.random.one_in(3) {
            self.rows = self.rows_of(1);
            let ranked =
                "SELECT {any} AS v, rank() OVER (PARTITION BY {any} ORDER BY {order}) AS n {rows}";
            let bound = "{n <= 2|n < 3|n = 1|1 >= n|n > 1|n > 0}";
            return match self.random.below(3) {
                0 => self.fill(ranked, 1),
                _ => self.fill(&format!("SELECT v, n FROM ({ranked}) w WHERE {bound}"), 1),
            };
        }
        if self.random.one_in(5) {
            let of = self.random.of(&TYPES);
            self.rows = self.plain(&["big", of], 1);
            let limited = "SELECT c0, c1 FROM ({rows}) w ORDER BY c1{C} {sort}, c0 {sort}
                           LIMIT {1|2|3|5}";
            return self.filled(limited, of, 0);
        }
        self.columns.clear();
        let (table, key) = self.random.of(&[("orders", "t.order_id"), ("users", "t.user_id")]);
        let mut from = self.table(table, "t");
        if table == "orders" && self.random.one_in(2) {
            let users = self.table("users", "u");
            from = format!("{from} LEFT JOIN {users} ON t.user_id = u.user_id");
        }
        self.rows = format!("FROM {from}{}", self.filter());
        self.key = key;
        let group = self.random.of(&["big", "text", "bool", "small"]);
        self.group = self.column(group).unwrap_or(key.into());
        let template = self.random.of(&WINDOWS);
        self.fill(template, 1)
    }

    fn query(&mut self) -> String {
        let set = "{UNION|UNION ALL|EXCEPT|EXCEPT ALL|INTERSECT|INTERSECT ALL}";
        match self.random.below(14) {
            0..=3 => {
                let of = [self.any_type(), self.any_type(), self.any_type()];
                let columns = self.random.of(&[1, 2, 3]);
                self.plain(&of[..columns], 2)
            }
            4..=7 => self.grouped(),
            8 => {
                let of = [self.any_type(), self.any_type()];
                let columns = self.random.of(&[1, 2]);
                let one = self.plain(&of[..columns], 0);
                let other = self.plain(&of[..columns], 0);
                format!("{one} {} {other}", self.fill(set, 0))
            }
            9 => {
                // Of few values, so that something is in both.
                let select = format!(
                    "SELECT {{line|quantity|abs(quantity)}}::int FROM lines {set} \
                     SELECT {{score|score + 1|level}} \
                     FROM users{{| WHERE vip| WHERE vip IS NOT TRUE}}"
                );
                self.fill(&select, 0)
            }
            10..=12 => self.windowed(),
            _ => {
                let inner = self.grouped();
                let join = self.random.of(&["JOIN", "LEFT JOIN"]);
                format!(
                    "WITH w AS ({inner}) SELECT x.*, y.a0 AS b FROM w x {join} w y ON x.a0 = y.a0"
                )
            }
        }
    }
}
