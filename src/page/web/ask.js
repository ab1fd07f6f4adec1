// The tab *Ask*: a SELECT that is run once, as a table or a chart, and the standing views that keep the answer to one.

import { h, setText } from './dom.js';
import { format, moment, number } from './format.js';
import { makePanel } from './panels.js';
import { language, word } from './words.js';

const $ = id => document.getElementById(id);
const EXAMPLES = {
    exampleHours: `SELECT extract(hour FROM at AT TIME ZONE 'Asia/Seoul')::int AS hour,
       count(DISTINCT event_id) AS orders, sum(amount) AS revenue
FROM order_lines
WHERE event = 'placed' AND at > market_now() - interval '7 days' AND at <= market_now()
GROUP BY 1 ORDER BY 1`,
    exampleRegions: `SELECT u.region, count(*) AS customers, sum(v.revenue) AS revenue
FROM customer_value v JOIN users u USING (user_id)
GROUP BY u.region ORDER BY revenue DESC`,
    exampleCategories: `SELECT date_trunc('hour', at, 'Asia/Seoul') AS hour, category, sum(amount) AS revenue
FROM order_lines
WHERE event = 'placed' AND at > market_now() - interval '2 days' AND at <= market_now()
GROUP BY 1, 2 ORDER BY 1, 2`,
    exampleSleeping: `SELECT v.user_id, u.region, v.revenue, v.last_order_at
FROM customer_value v JOIN users u USING (user_id)
WHERE v.revenue >= 1000000 AND v.last_order_at < market_now() - interval '30 days'
ORDER BY v.revenue DESC LIMIT 100`,
};
/** At most so many lines of a chart, and so many bars. */
const LINES = 12, BARS = 200;
/** Between two looks at a view that is shown, and at the list, in ms. */
const PAUSE = 2000;

let say = () => {}, go = () => {};
let asked = null;       // the SELECT that the answer is to
let tried = null;       // the one that was run last
let answer = null;
let panel = null;
let running = null;     // what stops the question that runs
let looked = 0;
let views = [];

/** Whether the address is this tab's. */
export const isHere = () => location.pathname === '/ask';

/** The address of a question, to be shared. */
const address = (sql, as) => `/ask?${new URLSearchParams({ sql, ...(as && { as }) })}`;
const chosen = () => new URLSearchParams(location.search).get('as') ?? 'chart';

async function call(method, path, body, signal) {
    const response = await fetch(`/api/${path}`, { method, signal,
        ...(body && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }) });
    const told = await response.json().catch(() => null);
    if (!response.ok) throw new Error(told?.error ?? response.statusText);
    return told;
}

// ---- The answer

/** Lines by a word become columns, each a line of the chart: time, word, number to time, a number for each word. */
function widened({ fields, rows }) {
    const of = type => fields.flatMap((field, i) => (field.type === type ? [i] : []));
    const [[time], words, numbers] = [of('time'), of('string'), of('number')];
    if (words.length !== 1 || numbers.length !== 1) return { fields, rows };
    const sums = new Map();
    for (const row of rows) sums.set(row[words[0]], (sums.get(row[words[0]]) ?? 0) + Number(row[numbers[0]] ?? 0));
    const names = [...sums].toSorted((a, b) => b[1] - a[1]).slice(0, LINES).map(([name]) => name);
    const at = new Map();
    for (const row of rows) {
        const line = at.get(row[time]) ?? [row[time], ...names.map(() => null)];
        const place = names.indexOf(row[words[0]]);
        if (place >= 0) line[place + 1] = row[numbers[0]];
        at.set(row[time], line);
    }
    return { fields: [fields[time], ...names.map(name => ({ name: name ?? '–', type: 'number' }))], rows: [...at.values()] };
}

/** What an answer looks like as a chart, and the rows for it; nothing where it is none. */
function charted({ fields, rows }) {
    const time = fields.findIndex(field => field.type === 'time');
    const numbers = fields.flatMap((field, i) => (field.type === 'number' ? [i] : []));
    if (!numbers.length || rows.length < 2) return null;
    const legend = { showLegend: true, displayMode: 'list', placement: 'bottom' };
    if (time >= 0 && time < numbers[0]) {
        const timed = rows.filter(row => row[time] !== null);
        if (timed.length < 2) return null;
        const wide = widened({ fields, rows: timed });
        const x = wide.fields.findIndex(field => field.type === 'time');
        return { type: 'timeseries', options: { legend }, fields: wide.fields, rows: wide.rows.toSorted((a, b) => a[x] - b[x]) };
    }
    const x = fields.findIndex(field => field.type === 'string');
    const by = x >= 0 ? x : numbers[0];
    if (rows.length > BARS || numbers.every(i => i === by)) return null;
    // Ids are names, not heights: a number before the word is one.
    const shown = numbers.filter(i => i > by);
    if (!shown.length) return null;
    // Hours or months go from left to right.
    const orientation = x < 0 && rows.length <= 48 ? 'vertical' : 'auto';
    return { type: 'barchart', options: { legend, orientation, xField: fields[by].name }, rows: rows.map(row => [row[by],
        ...shown.map(i => row[i])]), fields: [by, ...shown].map(i => fields[i]) };
}

function draw() {
    const chart = answer && charted(answer);
    const as = chart && chosen() === 'chart' ? 'chart' : 'table';
    $('answer-as').hidden = !chart;
    $('answer-as').querySelectorAll('button').forEach(button =>
        button.setAttribute('aria-pressed', String(button.dataset.as === as)));
    $('answer').hidden = !answer;
    if (!answer) return;
    const rows = answer.rows.length;
    const told = [word(rows === 1 ? 'oneRow' : answer.more ? 'firstRows' : 'manyRows', { n: number(rows) }),
        answer.now === null ? '' : word('asOf', { at: moment(answer.now, language.now), n: number(answer.epoch) }),
        `${number(answer.took_ms)} ms`];
    setText($('answer-said'), told.filter(Boolean).join(' · '));
    const drawn = as === 'chart' ? chart : { type: 'table', options: {}, ...answer };
    if (!panel || panel.panel.type !== drawn.type || panel.asked !== asked) {
        panel?.dispose();
        const custom = { drawStyle: 'line', lineWidth: 1.5, fillOpacity: drawn.type === 'barchart' ? 85 : 8, axisSoftMin: 0 };
        panel = makePanel({ id: 'answer', type: drawn.type, title: '', gridPos: { x: 0, y: 0, w: 24, h: 14 },
            fieldConfig: { defaults: { unit: 'none', custom } }, options: drawn.options }, word);
        panel.asked = asked;
        $('answer-panel').replaceChildren(panel.root);
    }
    panel.panel.options = drawn.options;
    const times = drawn.type === 'timeseries' ? drawn.rows.map(row => row[0]) : [0];
    panel.draw({ fields: drawn.fields, rows: drawn.rows },
        { lang: language.now, from: times[0], to: times.at(-1), epoch: answer.epoch, word });
}

/** Runs a SELECT; `again`: the same one, for what it is by now. */
async function run(sql, again = false) {
    if (again && running) return;
    running?.abort();
    const mine = running = new AbortController();
    if (!again) { tried = sql; $('ask-error').hidden = true; $('run').disabled = true; }
    let came = null, error = null;
    try { came = await call('POST', 'ask', { sql }, mine.signal); } catch (caught) { error = caught; }
    if (running !== mine) return;
    running = null;
    $('run').disabled = false;
    if (came || !again) [asked, answer] = [came && sql, came];
    // What was said of something else stays.
    if (error || !again) $('ask-error').hidden = !error;
    if (error) {
        setText($('ask-error'), error instanceof TypeError ? word('unreachable') : error.message);
        // `line 2, column 5: ...` is where the cursor goes.
        const [, line, column] = /^line (\d+), column (\d+): /.exec(error.message) ?? [];
        if (line && !again && $('ask-sql').value === sql) {
            const before = sql.split('\n').slice(0, line - 1).reduce((sum, text) => sum + text.length + 1, 0);
            $('ask-sql').focus();
            $('ask-sql').setSelectionRange(before + Number(column) - 1, before + Number(column) - 1);
        }
    }
    draw();
}

// ---- The standing views

/** The view whose rows are asked for, if they are and nothing else: they are shown live. */
const shownView = () => /^\s*SELECT\s+\*\s+FROM\s+(\w+)\s*;?\s*$/i.exec(asked ?? '')?.[1];

const FIGURES = {
    rows: view => number(view.rows),
    held: view => (view.held === null ? '–' : number(view.held)),
    age: view => format(view.age_seconds, { unit: 'dtdurations' }, language.now),
};

function drawViews() {
    $('views').hidden = !views.length;
    $('views-none').hidden = views.length > 0;
    const row = view => {
        const { name, state, reason, alert, asked: text } = view;
        return h('tr', { 'data-view': name },
        h('td', {}, h('a', { href: address(`SELECT * FROM ${name}`), title: text }, name),
            alert && h('span', { class: 'tag' }, word('alert'))),
        h('td', { class: `state-${state} long` }, word(`state-${state}`), reason && `: ${reason}`),
        ...Object.keys(FIGURES).map(name => h('td', { class: `right ${name}` }, FIGURES[name](view))),
        h('td', { class: 'right' },
            h('button', { type: 'button', onclick: () => { $('ask-sql').value = text; $('ask-sql').focus(); } }, word('showText')),
            ' ', h('button', { type: 'button', 'data-drop': name, disabled: state === 'dropped', onclick: () => drop(name) },
                word('drop'))));
    };
    const focus = document.activeElement?.dataset?.drop;
    $('views').querySelector('tbody').replaceChildren(...views.map(row));
    if (focus) $('views').querySelector(`[data-drop="${CSS.escape(focus)}"]`)?.focus();
}

let looking = false, timer = 0, later = 0;
/** Looks at the list, one time after the other; again by itself while a view comes or goes. */
async function look() {
    clearTimeout(timer);
    if (looking) return;
    looking = true;
    looked = performance.now();
    try {
        const told = await call('GET', 'views');
        const said = list => JSON.stringify(list.map(({ name, state, reason, alert, asked }) => [name, state, reason, alert, asked]));
        const changed = said(told) !== said(views);
        views = told;
        if (changed) drawViews();
        // Of a row that says the same only the figures change: it stays under the hand that is on it.
        else for (const view of views) for (const name in FIGURES) {
            setText($('views').querySelector(`[data-view="${CSS.escape(view.name)}"] .${name}`), FIGURES[name](view));
        }
    } catch { /* The page says by itself that the server is away. */ }
    looking = false;
    if (isHere() && views.some(view => view.state === 'adding' || view.state === 'dropped')) timer = setTimeout(look, PAUSE);
}

async function drop(name) {
    if (!confirm(word('dropSure', { name }))) return;
    try {
        await call('DELETE', `views/${encodeURIComponent(name)}`);
        say(word('dropped', { name }));
    } catch (error) { say(word('failed', { error: error.message }), true); }
    look();
}

async function keep(event) {
    event.preventDefault();
    const { name, alert } = event.target.elements;
    const button = event.target.querySelector('button');
    button.disabled = true;
    try {
        await call('POST', 'views', { name: name.value, sql: $('ask-sql').value, alert: alert.checked });
        $('keep-menu').open = false;
        $('ask-error').hidden = true;
        say(word('kept', { name: name.value }));
        event.target.reset();
    } catch (error) {
        setText($('ask-error'), word('notKept', { error: error.message }));
        $('ask-error').hidden = false;
    }
    button.disabled = false;
    look();
}

// ---- The tab

/** A commit point has come: what is shown of a view is shown anew, and so is the list. */
export function committed() {
    if (!isHere()) return;
    const wait = looked + PAUSE - performance.now();
    // What comes too soon is looked at a little later.
    if (wait > 0) { clearTimeout(later); later = setTimeout(committed, wait); return; }
    look();
    if (answer && views.some(view => view.name === shownView() && view.state !== 'dropped')) run(asked, true);
}

/** Shows the tab as its address says, in the language in force. */
export function open() {
    const sql = new URLSearchParams(location.search).get('sql');
    if (sql !== null && sql !== tried) {
        $('ask-sql').value = sql;
        run(sql);
    } else if (sql === null && !$('ask-sql').value) $('ask-sql').value = EXAMPLES.exampleHours;
    $('examples').replaceChildren(h('option', { value: '' }, word('examples')),
        ...Object.keys(EXAMPLES).map(value => h('option', { value }, word(value))));
    draw();
    drawViews();
    look();
}

/** Makes the tab work. `tell(sentence, isError)` tells people something, `to(address)` goes there. */
export function begin(tell, to) {
    [say, go] = [tell, to];
    const ask = event => {
        event?.preventDefault();
        const sql = $('ask-sql').value;
        if (sql === new URLSearchParams(location.search).get('sql')) run(sql);
        else go(address(sql));
    };
    $('ask-form').addEventListener('submit', ask);
    $('ask-sql').addEventListener('keydown', event => { if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) ask(event); });
    $('keep-form').addEventListener('submit', keep);
    $('examples').addEventListener('change', event => {
        const example = EXAMPLES[event.target.value];
        event.target.value = '';
        if (example) { $('ask-sql').value = example; go(address(example)); }
    });
    $('answer-as').addEventListener('click', event => {
        const { as } = event.target.dataset;
        const sql = new URLSearchParams(location.search).get('sql');
        if (as && sql !== null) { history.replaceState(null, '', address(sql, as)); draw(); }
    });
}

/** Draws anew, in other colours. */
export const redraw = draw;
