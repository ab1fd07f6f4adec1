// The notes above the panels: what the analytics wait for that is not theirs, and which partitions the market's time
// waits for or goes on without. They are there for as long as that lasts.

import { h, setText } from './dom.js';
import { format, moment, number } from './format.js';
import { language, word } from './words.js';

let holds = { waits: [], out_of_step: [] };

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

/** Shows the news of them, or the same in another language. */
export function show(news = holds) {
    holds = news;
    const list = document.getElementById('holds');
    const shown = [...holds.waits.map(waitOf), ...holds.out_of_step.map(outOf)];
    // A note that says the same stays, so that it is not read out again.
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
