// The page: which dashboard is shown, or the tab for questions, for which time and which choices, and when its panels are asked for anew.

import * as asking from './ask.js';
import { use } from './colors.js';
import { h, setText } from './dom.js';
import { SEOUL, moment, number, stamp } from './format.js';
import * as holds from './holds.js';
import * as market from './market.js';
import { makePanel } from './panels.js';
import { language, translate, word } from './words.js';

const $ = id => document.getElementById(id);
const RANGES = { 'now-1h': 'h1', 'now-6h': 'h6', 'now-24h': 'h24', 'now-7d': 'd7', 'now-30d': 'd30', 'now-90d': 'd90',
    'now-1y': 'y1' };
const PAUSES = { live: 0, '5': 5000, '30': 30_000, off: Infinity };

const page = {
    list: [],                   // the dashboards of the language
    dashboard: null,
    panels: [],
    from: 'now-24h', to: 'now',
    choices: {},                // variable -> chosen values
    refresh: localStorage.getItem('refresh') ?? 'live',
    asking: false, again: false, asked: 0, timer: 0,
    answer: null,
};
const visited = new Map();      // dashboard without its language -> the search part of its address, when one comes back to it

const base = uid => uid.replace(/-ko$/, '');
const uidHere = () => (/^\/d\/([^/]+)/.exec(location.pathname) ?? [])[1];

/** Tells people something; an error stays until the next thing is said. */
let saying = 0;
function say(text, error = false) {
    clearTimeout(saying);
    $('status').classList.toggle('error', error);
    setText($('status'), text);
    if (text && !error) saying = setTimeout(() => setText($('status'), ''), 6000);
}

// ---- What is asked for, and drawn

/** Asks for all panels at once, so that their numbers agree; one question at a time and at most one a second. */
async function ask() {
    clearTimeout(page.timer);
    if (page.asking || !page.dashboard) { page.again = true; return; }
    const wait = page.asked + 1000 - performance.now();
    if (wait > 0 && page.answer) { page.timer = setTimeout(ask, wait); return; }
    Object.assign(page, { asking: true, again: false, asked: performance.now() });
    const { dashboard, from, to, choices } = page;
    const time = t => (/^\d+$/.test(t) ? Number(t) : t);
    const question = { uid: dashboard.uid, from: time(from), to: time(to), points: innerWidth > 700 ? 600 : 300,
        variables: choices };
    let worked = false;
    try {
        const response = await fetch('/api/panels',
            { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(question) });
        const answer = await response.json().catch(() => ({ error: response.statusText }));
        // An answer to what is no longer asked is not shown.
        if (dashboard === page.dashboard && choices === page.choices) {
            if (response.ok) { page.answer = answer; draw(); worked = true; } else say(word('failed',
                { error: answer.error }), true);
        } else page.again = true;
    } catch (error) {
        if (!(error instanceof TypeError)) console.error(error);
        say(word(connected ? 'unreachable' : 'lost'), true);
    }
    page.asking = false;
    if (worked && $('status').classList.contains('error') && connected) say('');
    if (page.again) ask();
    else if (worked) later();
    else page.timer = setTimeout(ask, 3000);
}

/** Plans the next question where one comes by the clock. */
function later() {
    clearTimeout(page.timer);
    const pause = PAUSES[page.refresh];
    if (pause > 0 && pause < Infinity) page.timer = setTimeout(() => (document.hidden ? later() : ask()), pause);
}

function draw() {
    const { answer, panels } = page;
    performance.mark('draw');
    const context = { lang: language.now, from: answer.from, to: answer.to, epoch: answer.epoch, word };
    for (const view of panels) view.draw(answer.panels[view.panel.id], context);
    performance.measure('draw', 'draw');
    document.body.dataset.epoch = answer.epoch ?? '';
    setText($('as-of'), answer.now === null ? word('nothingYet')
        : word('asOf', { at: moment(answer.now, language.now), n: number(answer.epoch) }));
    drawVariables(answer.variables ?? {});
}

// ---- The dashboards

const fetched = new Map();
async function get(url) {
    if (!fetched.has(url)) {
        const response = await fetch(url);
        if (!response.ok) throw new Error(`${url}: ${response.status}`);
        fetched.set(url, await response.json());
    }
    return fetched.get(url);
}

/** Shows the dashboard that the address names. */
async function open() {
    if (asking.isHere()) { await openAsk(); return; }
    const wanted = uidHere();
    if (wanted) setLanguage(wanted.endsWith('-ko') ? 'ko' : 'en');
    try {
        // Both at once where the address says which.
        const known = wanted && get(`/api/dashboards/${wanted}`).catch(() => null);
        page.list = await get(`/api/dashboards?lang=${language.now}`);
        const uid = wanted ?? page.list[0]?.uid;
        if (!wanted) history.replaceState(null, '', `/d/${uid}${location.search}`);
        if (!page.list.some(d => d.uid === uid)) { drawTabs(); say(word('unknown'), true); return; }
        const dashboard = (await known) ?? await get(`/api/dashboards/${uid}`);
        if (uidHere() !== uid) return;
        const chosen = new URLSearchParams(location.search);
        page.from = chosen.get('from') ?? dashboard.time?.from ?? 'now-24h';
        page.to = chosen.get('to') ?? dashboard.time?.to ?? 'now';
        page.choices = {};
        for (const { name, current } of dashboard.templating?.list ?? []) {
            const values = chosen.getAll(`var-${name}`);
            page.choices[name] = values.length ? values : [current?.value ?? '$__all'].flat();
        }
        if (page.dashboard !== dashboard) build(dashboard);
        visited.set(base(uid), location.search);
        drawTabs();
        drawRange();
        ask();
    } catch (error) {
        console.error(error);
        say(word('unreachable'), true);
        setTimeout(open, 3000);
    }
}

/** Shows the tab for questions in the place of a dashboard. */
async function openAsk() {
    clear();
    setText($('title'), word('ask'));
    setText($('description'), word('askAbout'));
    document.title = `${word('ask')} – marketday`;
    asking.open();
    try {
        page.list = await get(`/api/dashboards?lang=${language.now}`);
        drawTabs();
    } catch { setTimeout(open, 3000); }
}

/** Takes what is shown off the page. */
function clear() {
    page.panels.forEach(view => view.dispose());
    Object.assign(page, { dashboard: null, panels: [], answer: null });
    clearTimeout(page.timer);
    $('grid').replaceChildren();
    for (const id of ['pickers', 'as-of', 'grid']) $(id).hidden = asking.isHere();
    $('ask').hidden = !asking.isHere();
}

function build(dashboard) {
    clear();
    Object.assign(page, { dashboard });
    delete document.body.dataset.epoch;
    setText($('title'), dashboard.title);
    setText($('description'), dashboard.description ?? '');
    document.title = `${dashboard.title} – marketday`;
    const inOrder = dashboard.panels.toSorted((a, b) => a.gridPos.y - b.gridPos.y || a.gridPos.x - b.gridPos.x);
    page.panels = inOrder.map(panel => makePanel(panel, word));
    $('grid').replaceChildren(...page.panels.map(view => view.root));
    setText($('as-of'), word('loading'));
    $('variables').replaceChildren();
}

/** Goes to an address of the page without loading it anew. */
function go(url, replace = false) {
    if (url !== location.pathname + location.search) history[replace ? 'replaceState' : 'pushState'](null, '', url);
    open();
}

/** The address for a range and choices other than the ones shown. */
function address({ from = page.from, to = page.to, choices = page.choices }) {
    const search = new URLSearchParams();
    const { time, templating } = page.dashboard;
    if (from !== time?.from || to !== time?.to) { search.set('from', from); search.set('to', to); }
    for (const { name, current } of templating?.list ?? []) {
        if (String(choices[name]) !== String([current?.value ?? '$__all'].flat())) choices[name].forEach(value =>
            search.append(`var-${name}`, value));
    }
    return `${location.pathname}${search.size ? `?${search}` : ''}`;
}

// ---- Tabs and pickers

function drawTabs() {
    $('tabs').replaceChildren(...page.list.map(({ uid, title, description }) => h('a', {
        href: `/d/${uid}${visited.get(base(uid)) ?? ''}`, title: description,
        'aria-current': uid === page.dashboard?.uid ? 'page' : null,
    }, title)), h('a', { href: '/ask', title: word('askAbout'), 'aria-current': asking.isHere() ? 'page' : null }, word('ask')));
}

/** A range in words: one of the list, or its two ends. */
function rangeName(from, to) {
    if (to === 'now' && RANGES[from]) return word(RANGES[from]);
    const end = t => (/^\d+$/.test(t) ? stamp(Number(t), 'YYYY-MM-DD HH:mm') : t);
    return `${end(from)} – ${end(to)}`;
}

function drawRange() {
    const { from, to } = page;
    const listed = to === 'now' && from in RANGES;
    $('range').replaceChildren(...Object.entries(RANGES).map(([value, key]) => h('option', { value }, word(key))),
        listed ? '' : h('option', { value: 'this' }, rangeName(from, to)), h('option', { value: 'custom' }, word('custom')));
    $('range').value = listed ? from : 'this';
    $('custom-menu').hidden = true;
    $('refresh').replaceChildren(...Object.keys(PAUSES).map(value => h('option', { value },
        value === 'live' ? word('eachCommit') : value === 'off' ? word('off') : word('seconds', { n: value }))));
    $('refresh').value = page.refresh;
}

/** A picker for each of the dashboard's variables: a list, or boxes to tick where several may be chosen. */
function drawVariables(options) {
    for (const variable of page.dashboard.templating?.list ?? []) {
        const { name, label, multi, includeAll, hide } = variable;
        const key = JSON.stringify([options[name], page.choices[name], language.now]);
        let picker = $('variables').querySelector(`[data-variable="${CSS.escape(name)}"]`);
        if (hide === 2 || picker?.dataset.key === key) continue;
        // A custom variable has its words with its values in the dashboard; the others are the database's.
        const texts = new Map(variable.type === 'custom' ? variable.options?.map(o => [o.value, o.text]) : []);
        texts.delete('$__all');
        const values = texts.size ? [...texts.keys()] : options[name] ?? [];
        const text = value => texts.get(value) ?? value;
        const chosen = page.choices[name];
        const all = chosen.includes('$__all');
        const choose = next => go(address({ choices: { ...page.choices, [name]: next } }));
        const opened = picker?.open;
        const focus = picker?.contains(document.activeElement) && document.activeElement.value;
        const title = h('span', {}, label || name);
        let made;
        if (multi) {
            const box = (value, words, checked, next) => h('label', {},
                h('input', { type: 'checkbox', value, checked, onchange: event => choose(next(event.target.checked)) }), words);
            const without = value => { const left = (all ? values : chosen).filter(v => v !== value); return left.length ? left
                : ['$__all']; };
            made = h('details', { class: 'menu', open: opened },
                h('summary', {}, title, h('b', {}, all ? word('all') : chosen.length === 1 ? text(chosen[0])
                : word('chosen', { n: chosen.length }))),
                h('div', { class: 'boxes', role: 'group', 'aria-label': label || name },
                    includeAll && box('$__all', word('all'), all, () => ['$__all']),
                    ...values.map(value => box(value, text(value), !all && chosen.includes(value),
                        on => (on ? [...(all ? [] : chosen), value] : without(value))))));
        } else {
            made = h('label', { class: 'picker' }, title, h('select', { onchange: event => choose([event.target.value]) },
                includeAll && h('option', { value: '$__all', selected: all }, word('all')),
                    ...values.map(value => h('option', { value, selected: chosen.includes(value) }, text(value)))));
        }
        made.dataset.variable = name;
        made.dataset.key = key;
        if (picker) picker.replaceWith(made); else $('variables').append(made);
        if (focus) made.querySelector(`[value="${CSS.escape(focus)}"]`)?.focus();
    }
}

function listen() {
    document.addEventListener('click', event => {
        const link = event.target.closest('a[href^="/d/"], a[href^="/ask"], a.brand');
        if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0) {
            event.preventDefault();
            go(link.classList.contains('brand') ? `/d/${page.list[0].uid}` : link.getAttribute('href'));
        }
        // A click beside an open menu closes it.
        document.querySelectorAll('details.menu[open]').forEach(menu =>
            { if (event.target.isConnected && !menu.contains(event.target)) menu.open = false; });
    });
    document.addEventListener('keydown', event => {
        const menu = event.key === 'Escape' && document.querySelector('details.menu[open]');
        if (menu) { menu.open = false; menu.querySelector('summary').focus(); }
    });
    addEventListener('popstate', open);
    document.addEventListener('visibilitychange', () => {
        // A browser has six connections to a server: tabs that nobody sees hold none.
        if (document.hidden) { wire?.close(); return; }
        connect();
        if (page.refresh !== 'off') ask();
    });
    $('range').addEventListener('change', event => {
        const { value } = event.target;
        if (value === 'this') return;
        if (value !== 'custom') { go(address({ from: value, to: 'now' })); return; }
        const { from, to } = $('custom-form').elements;
        const local = ms => stamp(ms, 'YYYY-MM-DDTHH:mm');
        if (page.answer) Object.assign(from, { value: local(page.answer.from) })
            && Object.assign(to, { value: local(page.answer.to) });
        setText($('custom-text'), word('custom'));
        $('custom-menu').hidden = false;
        // After this click has closed the menus.
        setTimeout(() => { $('custom-menu').open = true; from.focus(); });
    });
    $('custom-form').addEventListener('submit', event => {
        event.preventDefault();
        const [from, to] = ['from', 'to'].map(name => Date.parse(`${event.target.elements[name].value}Z`) - SEOUL);
        if (!(from < to)) { say(word('order'), true); return; }
        $('custom-menu').open = false;
        go(address({ from: String(from), to: String(to) }));
    });
    $('refresh').addEventListener('change', event => {
        page.refresh = event.target.value;
        localStorage.setItem('refresh', page.refresh);
        if (page.refresh === 'off') clearTimeout(page.timer); else ask();
    });
    $('theme').addEventListener('click', () => {
        const theme = document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark';
        localStorage.setItem('theme', theme);
        setTheme(theme);
    });
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change',
        event => { if (!localStorage.getItem('theme')) setTheme(event.matches ? 'dark' : 'light'); });
    $('language').addEventListener('click', () => {
        const next = language.now === 'ko' ? 'en' : 'ko';
        localStorage.setItem('language', next);
        if (asking.isHere()) { setLanguage(next); open(); return; }
        const here = page.dashboard ? base(page.dashboard.uid) : base(uidHere() ?? 'now');
        go(`/d/${here}${next === 'ko' ? '-ko' : ''}${location.search}`);
    });
}

function setTheme(theme) {
    document.documentElement.dataset.theme = theme;
    use(theme === 'dark');
    if (page.answer) draw();
    if (asking.isHere()) asking.redraw();
}

function setLanguage(lang) {
    if (language.now === lang && document.documentElement.lang === lang && $('pause').textContent) return;
    language.now = lang;
    document.documentElement.lang = lang;
    $('language').lang = lang === 'ko' ? 'en' : 'ko';
    translate(document);
    market.translated();
    holds.show();
    holds.alert();
}

// ---- The live wire

let connected = true;
let wire = null;
let epoch = null;   // that of the newest commit point
function connect() {
    wire?.close();
    wire = new EventSource('/api/live');
    wire.addEventListener('open', () => {
        if (!connected) { connected = true; say(word('back')); fetched.clear(); ask(); }
    });
    wire.addEventListener('market', event => market.show(JSON.parse(event.data)));
    wire.addEventListener('holds', event => holds.show(JSON.parse(event.data)));
    wire.addEventListener('alerts', event => holds.alert(JSON.parse(event.data)));
    wire.addEventListener('commit', event => {
        const point = JSON.parse(event.data);
        market.committed(point);
        if (point.epoch === epoch) return;
        epoch = point.epoch;
        if (!document.hidden) asking.committed();
        if (page.refresh === 'live' && !document.hidden) ask();
    });
    wire.addEventListener('error', () => {
        connected = false;
        holds.show({ waits: [], out_of_step: [] });
        holds.alert([]);
        say(word('lost'), true);
        // The browser tries again by itself, unless the server refused.
        if (wire.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
    });
}

use(document.documentElement.dataset.theme === 'dark');
setLanguage(localStorage.getItem('language') ?? (navigator.language.startsWith('ko') ? 'ko' : 'en'));
listen();
asking.begin(say, go);
open();
connect();
market.begin(say);
