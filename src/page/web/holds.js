// The notes above the panels: what the analytics wait for that is not theirs, and which partitions the market's time
// waits for or goes on without; and the alerts of standing views. They are there for as long as that lasts.

import { h, setText } from './dom.js';
import { format, moment, number } from './format.js';
import { language, word } from './words.js';

let holds = { waits: [], out_of_step: [] };
let alerts = [];

const span = seconds => format(seconds, { unit: 'dtdurations' }, language.now);

/** One that is waited for, as words; how long is for the eyes only, as it changes each second. */
function waitOf({ what, place, seconds, offset, records, told }) {
    const values = { place, offset: number(offset ?? 0), n: number(records ?? 0), told: told ?? '',
        said: told ? `: ${told}` : '.' };
    return h('li', { 'data-hold': what }, word(`wait-${what}`, values), ' ',
        h('span', { 'aria-hidden': 'true' }, word('waitsFor', { span: span(seconds) })));
}

function outOf({ partition, left_out: left, reached, behind }) {
    const said = reached === null ? word('reachedNone') : word('reached', { at: moment(reached, language.now),
        span: span(behind ?? 0) });
    return h('li', { 'data-hold': left ? 'left-out' : 'held-back' },
        word(left ? 'leftOut' : 'heldBack', { place: `orders-${partition}`, said }));
}

/** Shows notes in a list. One that says the same stays, so that it is not read out again. */
function fill(list, shown) {
    const before = [...list.children];
    shown.forEach((note, place) => {
        const known = before[place];
        if (!known) list.append(note);
        else if (known.firstChild.data !== note.firstChild.data) known.replaceWith(note);
        else if (known.lastElementChild) setText(known.lastElementChild, note.lastElementChild.textContent);
    });
    before.slice(shown.length).forEach(note => note.remove());
    list.hidden = shown.length === 0;
}

/** Shows the news of them, or the same in another language. */
export function show(news = holds) {
    holds = news;
    fill(document.getElementById('holds'), [...holds.waits.map(waitOf), ...holds.out_of_step.map(outOf)]);
}

/** Shows the alerts of standing views, or the same in another language. */
export function alert(news = alerts) {
    alerts = news;
    const note = ({ name, since, text }) => h('li', { 'data-alert': name }, `${name}: ${text} `,
        h('span', {}, since === null ? '' : word('since', { at: moment(since, language.now) })));
    fill(document.getElementById('alerts'), alerts.map(note));
}
