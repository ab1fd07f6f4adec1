// The strip on top: the market's clock and speed, its running scenarios, and the controls to start, stop and pause.

import { h, setText } from './dom.js';
import { format, moment, number, stamp } from './format.js';
import { language, scenarioAbout, scenarioName, word } from './words.js';

const $ = id => document.getElementById(id);
const SPEEDS = [1, 10, 60, 600];
const still = matchMedia('(prefers-reduced-motion: reduce)');

let market = null;      // the newest news of the market
let results = null;     // the newest commit point: its epoch, the market time of the results, the records that wait
let heard = 0;          // when it came, by performance.now()
let shown = 0;          // market time that the clock shows
let scenarios = [];

/** The market's time by its last news and its speed: it goes on between the events and does not step back for a late one. */
function now() {
    const { clock, speed, paused, live } = market;
    const run = paused || !live || !speed ? clock : clock + Math.min(performance.now() - heard, 5000) * speed;
    const behind = shown - run;
    return behind > 0 && behind < 3000 * Math.max(1, speed ?? 1) ? shown : run;
}

function tick() {
    if (!market) return;
    shown = now();
    setText($('clock'), moment(shown, language.now, market.speed > 60 ? 'minute' : 'second'));
}

let timer = 0;
function wind() {
    clearInterval(timer);
    timer = setInterval(tick, still.matches ? 1000 : 100);
}

/** Sends a wish to the market; what the server answers is said as a sentence. */
async function send(wish, said) {
    try {
        const response = await fetch('/api/market',
            { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(wish) });
        const answer = await response.json().catch(() => ({}));
        if (!response.ok) announce(word('failed', { error: answer.error ?? response.statusText }), true);
        else if (said) announce(said);
        return response.ok;
    } catch {
        announce(word('unreachable'), true);
        return false;
    }
}

let announce = () => {};

function chips() {
    const key = JSON.stringify([market.scenarios, language.now]);
    if ($('running').dataset.key === key) return;
    $('running').dataset.key = key;
    const focus = document.activeElement?.dataset?.stop;
    $('running').replaceChildren(...market.scenarios.map(scenario => {
        const { name, strength, until } = scenario;
        const stop = h('button', { type: 'button', 'data-stop': name, 'aria-label': word('stop', { name: scenarioName(name) }),
            title: word('stop', { name: scenarioName(name) }),
            onclick: () => send({ stop: { name } }, word('stopped', { name: scenarioName(name) })) }, '✕');
        const at = until && (until - market.clock > 86_400_000 ? stamp(until, 'MM-DD HH:mm') : stamp(until, 'HH:mm'));
        return h('span', { class: 'chip', title: scenarioAbout(scenario) }, h('b', {}, scenarioName(name)), ` ×${number(strength)}`,
            at && h('span', {}, ` ${word('until', { at })}`), stop);
    }));
    if (focus) $('running').querySelector(`[data-stop="${CSS.escape(focus)}"]`)?.focus();
}

/** How far the results are behind the market, in ms of its time; 0 where that is no more than a commit and its way take. */
function behind() {
    if (!results?.now || !market?.live) return 0;
    const late = market.clock - results.now;
    return late > 300_000 + 10_000 * (market.speed ?? 0) ? late : 0;
}

/** Says how the market stands, and whether the results follow it. */
function stand() {
    const late = behind();
    const none = market?.live && results && !results.now && results.waiting > 0;
    const state = !market ? 'away' : !market.live ? 'history' : late || none ? 'behind' : market.paused ? 'paused' : 'live';
    $('market').dataset.state = state;
    const waiting = results?.waiting ? word('waiting', { n: number(results.waiting) }) : '';
    const pace = market?.speed ? `${number(market.speed)}×` : word('fastest');
    const span = format(late / 1000, { unit: 'dtdurations' }, language.now);
    const said = { away: [word('away'), waiting], history: [word('history')], behind: [late ? word('behind', { span }) : word('none'), waiting] };
    setText($('state'), (said[state] ?? [word(state), pace]).filter(Boolean).join(' · '));
}

/** Takes note of a commit point, and of what it does not hold. */
export function committed(point) {
    results = point;
    stand();
}

/** Shows the news of the market. */
export function show(news) {
    const before = market;
    market = news;
    for (const button of $('market').querySelectorAll('button')) button.disabled = !news;
    if (!news) {
        stand();
        return;
    }
    heard = performance.now();
    // A change of speed or of the market itself may step back.
    if (before && (before.speed !== news.speed || before.paused !== news.paused || before.live !== news.live)) shown = 0;
    stand();
    setText($('totals'), ['orders', 'customers',
        'products'].map(name => `${language.now === 'ko' ? `${word(name)} ` : ''}${number(news[name] ?? 0)}${language.now === 'ko' ? '' : ` ${word(name)}`}`).join(' · '));
    setText($('pause'), word(news.paused ? 'resume' : 'pause'));
    $('pause').disabled = !news.live;
    $('start-form').querySelector('button').disabled = !news.live;
    $('black-friday').disabled = !news.live || news.scenarios.some(s => s.name === 'black-friday');
    $('speeds').hidden = !news.live;
    $('speeds').querySelectorAll('button').forEach(button => button.setAttribute('aria-pressed',
        String(Number(button.dataset.speed) === news.speed)));
    $('progress').hidden = news.live;
    if (!news.live) {
        const share = Math.max(0, Math.min(1, (news.clock - news.origin) / (news.start - news.origin || 1)));
        $('progress-bar').value = share;
        setText($('progress-text'), `${word('history')}: ${number(Math.floor(share * 100))} %`);
    }
    chips();
    tick();
}

function describe() {
    const chosen = scenarios.find(s => s.name === $('start-form').elements.name.value);
    if (!chosen) return;
    setText($('scenario-about'), `${scenarioAbout(chosen)}${chosen.categories?.length ? ` (${chosen.categories.join(', ')})` : ''}`);
    $('start-form').elements.strength.value = chosen.strength;
    $('start-form').elements.strength.title = word('strengthHint', { n: chosen.strength });
}

/** Writes everything anew in the language in force. */
export function translated() {
    const { name } = $('start-form').elements;
    const chosen = name.value || 'black-friday';
    name.replaceChildren(...scenarios.map(s => h('option', { value: s.name }, scenarioName(s.name))));
    if (scenarios.some(s => s.name === chosen)) name.value = chosen;
    describe();
    if (market) show(market);
}

/** Makes the strip work. `say(sentence, isError)` tells people what came of their wishes. */
export async function begin(say) {
    announce = say;
    $('speeds').replaceChildren(...SPEEDS.map(speed => h('button',
        { type: 'button', 'data-speed': speed, 'aria-pressed': 'false', onclick: () => send({ speed }) }, `${speed}×`)));
    $('pause').addEventListener('click', () => send({ pause: !market?.paused }));
    $('black-friday').addEventListener('click',
        () => send({ start: { name: 'black-friday', for_ms: 7_200_000, strength: null } },
        word('started', { name: scenarioName('black-friday') })));
    $('start-form').elements.name.addEventListener('change', describe);
    $('start-form').addEventListener('submit', async event => {
        event.preventDefault();
        const { name, for: time, strength } = event.target.elements;
        const usual = scenarios.find(s => s.name === name.value)?.strength;
        const wish = { name: name.value, for_ms: time.value ? Number(time.value) : null,
            strength: strength.value && Number(strength.value) !== usual ? Number(strength.value) : null };
        if (await send({ start: wish }, word('started', { name: scenarioName(name.value) }))) $('start-menu').open = false;
    });
    still.addEventListener('change', wind);
    wind();
    await learn();
}

/** Learns which scenarios there are; where the server cannot say yet, once more later. */
async function learn() {
    try {
        const response = await fetch('/api/scenarios');
        scenarios = response.ok ? await response.json() : [];
    } catch { scenarios = []; }
    if (!scenarios.length) setTimeout(learn, 5000);
    translated();
}
