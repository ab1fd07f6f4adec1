// The panels: a heading, a body that is drawn by the panel's type, and what it says where there is nothing or an error.

import { canvas, chartOf, isChart, swatch } from './charts.js';
import { h, markdown, svg } from './dom.js';
import { SEOUL } from './format.js';
import { colorOf, columnsOf, exactly, inkOf, nameOf, read, reduced, severity, written } from './fields.js';
import { ground, inkOn, palette, shade, theme } from './colors.js';

const marks = { 1: ['▲', 'warning'], 2: ['◆', 'alarm'] };

/** The colour of a threshold as a shape, for those who do not see it as a colour. */
function mark(value, field, word) {
    const [sign, name] = marks[severity(value, field)] ?? [];
    return sign && h('span', { class: 'mark', role: 'img', 'aria-label': word(name), title: word(name) }, sign);
}

/** A value's link with its variables filled in from the row. */
function linked(field, row, columns, content) {
    const [link] = field.links ?? [];
    if (!link) return content;
    const raw = column => encodeURIComponent((row && column && exactly(row, column)) ?? '');
    const url = link.url.replace(/\$\{__data\.fields\.(?:"([^"]+)"|([^}]+))\}/g,
        (_, quoted, name) => raw(columns.find(c => c.name === (quoted ?? name))))
        .replace(/\$\{__value\.raw\}/g, raw(field));
    return /^(https?:\/\/|\/)/.test(url) ? h('a', { href: url, title: link.title, rel: 'noopener' }, content) : content;
}

function sparkline(values, color) {
    const known = values.filter(v => v !== null);
    if (known.length < 3) return null;
    const min = Math.min(0, ...known), max = Math.max(...known);
    const points = values.map((v, i) => [(100 * i) / (values.length - 1), 30 - (28 * ((v ?? min) - min)) / (max - min || 1)]);
    const path = points.map(([x, y]) => `${x.toFixed(2)},${y.toFixed(2)}`).join('L');
    return svg('svg', { class: 'spark', viewBox: '0 0 100 30', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
        svg('path', { d: `M${path}L100,30L0,30Z`, fill: color, opacity: 0.14 }),
        svg('path', { d: `M${path}`, fill: 'none', stroke: color, 'stroke-width': 1.5, 'vector-effect': 'non-scaling-stroke' }));
}

function drawStat(view, result, context) {
    const { options = {} } = view.panel;
    const columns = columnsOf(view.panel, result);
    const stats = reduced(view.panel, result);
    if (!stats.some(stat => stat.value !== null && stat.value !== undefined)) return 'empty';
    const named = options.textMode !== 'value' && options.textMode !== 'none'
        && (stats.length > 1 || !['auto', undefined].includes(options.textMode));
    const list = h('dl', { class: `stats ${options.orientation === 'horizontal' ? 'rows' : options.orientation === 'vertical' ? 'columns' : ''}` }, ...stats.map(({ title, value, exact, field, series, row }) => {
        const text = written(exact, field, context.lang, 'stat');
        const ink = options.colorMode === 'none' ? null : inkOf(value, field);
        const big = h('dd', { class: 'stat-value', 'data-value': exact, 'data-field': field.name,
            title: written(exact, field, context.lang) },
            linked(field, row, columns, text), options.colorMode !== 'none' && mark(value, field, context.word));
        const cell = h('div', { class: 'stat' }, h('dt', { class: named ? '' : 'hidden' }, title), big,
            options.graphMode === 'area' && sparkline(series, colorOf(value, field) ?? palette(0)));
        if (ink && options.colorMode === 'background') { cell.classList.add('ground'); cell.style.setProperty('--ground',
            ink); } else if (ink) big.style.color = ink;
        return cell;
    }));
    // All of a panel in one size: the longest has to fit.
    list.style.setProperty('--letters', Math.max(5,
        ...stats.map(({ exact, field }) => written(exact, field, context.lang, 'stat').length)));
    view.show(list);
    return 'drawn';
}

/** A point on a gauge's arc: three quarters of a circle, open below. */
const onArc = (share, radius) => {
    const angle = Math.PI * (0.75 + 1.5 * share);
    return `${(60 + radius * Math.cos(angle)).toFixed(2)},${(58 + radius * Math.sin(angle)).toFixed(2)}`;
};
const arc = (from, to, radius, width, color) => svg('path', {
    d: `M${onArc(from, radius)}A${radius},${radius} 0 ${(to - from) * 1.5 > 1 ? 1 : 0} 1 ${onArc(to, radius)}`, fill: 'none',
    stroke: color, 'stroke-width': width,
});

function drawGauge(view, result, context) {
    const gauges = reduced(view.panel, result);
    if (!gauges.some(gauge => typeof gauge.value === 'number')) return 'empty';
    view.show(h('dl', { class: 'stats columns gauges' }, ...gauges.map(({ title, value, field }) => {
        const [min, max] = [field.min ?? 0, field.max ?? 100];
        const share = v => Math.min(1, Math.max(0, (v - min) / (max - min || 1)));
        const { mode, steps = [] } = field.thresholds ?? {};
        const at = steps.map(({ value: v }, i) => (i === 0 ? 0 : mode === 'percentage' ? v / 100 : share(v)));
        const text = written(value, field, context.lang, 'stat');
        const [sign, bad] = marks[severity(value, field)] ?? [];
        const dial = svg('svg', { viewBox: '0 0 120 104', role: 'img',
            'aria-label': `${title}: ${text}${bad ? ` (${context.word(bad)})` : ''}` }, arc(0, 1, 44, 11, theme.grid));
        if (value !== null) dial.append(arc(0, Math.max(0.004, share(value)), 44, 11, colorOf(value, field) ?? palette(0)));
        steps.forEach(({ color }, i) => { if (steps.length > 1) dial.append(arc(at[i], at[i + 1] ?? 1, 53, 2.5, shade(color))); });
        const letters = (y, size, content) =>
            dial.append(svg('text', { x: 60, y, 'text-anchor': 'middle', class: 'gauge-value',
            fill: inkOf(value, field) ?? theme.text, 'font-size': size }, content));
        letters(64, Math.min(21, 105 / text.length), text);
        if (sign) letters(84, 11, sign);
        return h('div', { class: 'stat' }, h('dd', { class: 'dial', 'data-value': value, 'data-field': field.name }, dial),
            h('dt', { class: gauges.length > 1 ? '' : 'hidden' }, title));
    })));
    return 'drawn';
}

/** Times of whole days or minutes are written without what is always zero. */
function timesOf(times) {
    const whole = unit => times.every(time => (time + SEOUL) % unit === 0);
    return `time:YYYY-MM-DD${whole(86_400_000) ? '' : whole(60_000) ? ' HH:mm' : ' HH:mm:ss'}`;
}

const compare = (a, b) => (a === null) - (b === null)
    || (['number', 'bigint'].includes(typeof a) ? (a > b) - (a < b) : String(a).localeCompare(String(b)));

function drawTable(view, result, context) {
    if (!result.rows.length) return 'empty';
    const columns = columnsOf(view.panel, result);
    const shown = columns.filter(c => !c.custom.hidden && !c.custom.hideFrom?.viz);
    const wanted = view.panel.options?.sortBy?.[0];
    const sort = view.sort ?? (wanted && { by: shown.find(c => c.title === wanted.displayName
        || c.name === wanted.displayName)?.name, desc: wanted.desc });
    const by = columns.find(c => c.name === sort?.by);
    const rows = by ? result.rows.toSorted((a, b) => compare(exactly(a, by), exactly(b, by)) * (sort.desc ? -1 : 1)) : result.rows;
    for (const column of shown.filter(c => c.type === 'time'
        && (c.unit ?? 'dateTimeAsIso') === 'dateTimeAsIso')) column.unit = timesOf(rows.map(row => row[column.index]));
    const right = c => (c.custom.align && c.custom.align !== 'auto' ? c.custom.align : c.type === 'number' ? 'right' : 'left');
    const cell = (row, column) => {
        const value = row[column.index];
        const kind = column.custom.cellOptions?.type ?? 'auto';
        const exact = exactly(row, column);
        const text = written(exact, column, context.lang);
        const td = h('td', { class: `${right(column)}${text.length > 24 ? ' long' : ''}`,
            'data-value': typeof value === 'string' ? null : exact }, linked(column, row, columns, text));
        const found = /^color|gauge/.test(kind) || mapped(column) ? colorOf(value, column) : null;
        const color = /^#.{6}$/.test(found) ? found : null;
        if (kind === 'gauge' && typeof value === 'number') {
            const values = rows.map(r => r[column.index]);
            const [min, max] = [column.min ?? 0, column.max ?? Math.max(...values)];
            const bar = h('i', { class: 'cell-gauge', 'aria-hidden': 'true' });
            bar.style.setProperty('--share', Math.min(1, Math.max(0, (value - min) / (max - min || 1))));
            bar.style.background = color ?? palette(0);
            td.classList.add('gauged');
            td.prepend(bar);
        } else if (kind === 'color-background' && color) {
            const back = ground(color, nameOf(value, column));
            td.style.background = back;
            td.style.color = inkOn(back);
        } else if (color) {
            td.style.color = inkOf(value, column);
            td.classList.add('strong');
        }
        // Only a mapped word: a number says by itself how bad it is.
        const sign = color && typeof value !== 'number' && mark(value, column, context.word);
        if (sign) td.prepend(sign, ' ');
        return td;
    };
    const head = h('tr', {}, ...shown.map(column => h('th',
        { scope: 'col', class: right(column), 'aria-sort': by === column ? (sort.desc ? 'descending' : 'ascending') : null },
        h('button', { type: 'button', onclick: () => {
            view.sort = { by: column.name, desc: by === column ? !sort.desc : column.type === 'number' };
            view.redraw();
        } }, column.title, h('span', { class: 'order', 'aria-hidden': 'true' }, by === column ? (sort.desc ? '▾' : '▴') : '')))));
    // The scroller stays, so that a table that is read further down is not thrown back to its top.
    if (!view.scroller?.isConnected) {
        view.scroller = h('div', { class: 'scroller', tabindex: 0, role: 'group', 'aria-label': view.panel.title });
        view.show(view.scroller);
    }
    view.scroller.replaceChildren(h('table', { class: shown.length > 9 ? 'tight' : null },
        h('caption', { class: 'hidden' }, view.panel.title), h('thead', {}, head),
        h('tbody', {}, ...rows.map(row => h('tr', {}, ...shown.map(column => cell(row, column)))))));
    return 'drawn';
}

const mapped = column => column.mappings?.length && column.mappings.some(m => JSON.stringify(m).includes('"color"'));

function drawLegend(view, chart, context) {
    const { placement, displayMode } = view.panel.options?.legend ?? {};
    view.frame.classList.toggle('beside', placement === 'right');
    const key = JSON.stringify([chart.legend, chart.scale, [...view.hidden]]);
    if (view.legendKey === key) return;
    view.legendKey = key;
    view.legend.hidden = !chart.legend.length && !chart.scale;
    view.legend.classList.toggle('lines', displayMode === 'table' && placement === 'right');
    if (chart.scale) {
        const bar = h('i', { class: 'scale', 'aria-hidden': 'true' });
        bar.style.background = `linear-gradient(90deg, ${chart.scale.stops.join(', ')})`;
        view.legend.replaceChildren(h('span', { class: 'scale-row' }, chart.scale.name, ' ', chart.scale.min, bar,
            chart.scale.max));
        return;
    }
    view.legend.replaceChildren(...chart.legend.map(({ key: name, name: title, color, shape, values }) => h('button', {
        type: 'button', 'aria-pressed': String(!view.hidden.has(name)), title: context.word('hide'),
        onclick: () => { view.hidden[view.hidden.has(name) ? 'delete' : 'add'](name); view.redraw(); },
    }, swatch(color, shape), h('span', { class: 'legend-name' }, title),
        ...values.map(({ label, text }) => h('span', { class: 'legend-value' },
        label && h('span', { class: 'legend-label' }, label, ' '), text)))));
}

function drawChart(view, result, context) {
    const size = () => ({ width: view.plot.clientWidth, height: view.plot.clientHeight });
    if (!view.frame) {
        view.plot = h('div', { class: 'plot', role: 'img' });
        view.legend = h('div', { class: 'legend' });
        view.frame = h('div', { class: 'frame' }, view.plot, view.legend);
    }
    const build = () => chartOf(view.panel, result, { ...context, ...size(), hidden: view.hidden });
    if (!view.frame.isConnected) view.show(view.frame);
    let { width, height } = size();
    let chart = build();
    if (!chart) return 'empty';
    drawLegend(view, chart, context);
    // The legend takes its room from the plot.
    if (size().width !== width || size().height !== height) chart = build();
    ({ width, height } = size());
    view.canvas ??= canvas(view.plot);
    if (view.size && (view.size.width !== width || view.size.height !== height)) view.canvas.resize();
    view.size = { width, height };
    view.canvas.draw(chart.option);
    view.plot.setAttribute('aria-label', `${view.panel.title}. ${chart.summary}`);
    view.root.dataset.sum = JSON.stringify(chart.sums);
    if (!view.watch) {
        view.watch = new ResizeObserver(() => {
            const now = size();
            if (now.width && view.plot.isConnected
                && (now.width !== view.size.width || now.height !== view.size.height)) view.redraw();
        });
        view.watch.observe(view.plot);
    }
    return 'drawn';
}

const DRAW = { stat: drawStat, gauge: drawGauge, table: drawTable };
let ids = 0;

/** The (i) after a title: what the panel shows, on hover, on focus and on a tap. */
function about(panel, word) {
    const id = `about-${(ids += 1)}`;
    const text = h('div', { class: 'about', role: 'tooltip', id }, markdown(panel.description));
    const close = open => text.classList.toggle('open', open);
    return [h('button', {
        type: 'button', class: 'info', 'aria-label': word('about', { title: panel.title }), 'aria-describedby': id,
        onmouseenter: () => close(true), onmouseleave: () => close(false), onfocus: () => close(true), onblur: () => close(false),
        onclick: () => close(true), onkeydown: event => { if (event.key === 'Escape') close(false); },
    }, 'i'), text];
}

/** A panel on the page. `draw` takes its part of an answer; nothing is touched where nothing has changed. */
export function makePanel(panel, word) {
    const { x, y, w, h: high } = panel.gridPos;
    const body = h('div', { class: 'body' });
    const root = h(panel.type === 'row' ? 'div' : 'section',
        { class: `panel type-${panel.type}`, 'data-panel': panel.id, 'data-type': panel.type,
        'aria-label': panel.type === 'row' ? null : panel.title });
    for (const [name, value] of Object.entries({ '--x': x + 1, '--y': y + 1, '--w': w,
        '--h': high })) root.style.setProperty(name, value);
    const view = { panel, root, hidden: new Set(), show: (...nodes) => body.replaceChildren(...nodes) };
    if (panel.type === 'row') {
        root.append(h('h2', {}, panel.title));
    } else if (panel.title) {
        const flip = isChart(panel.type) && h('button',
            { type: 'button', class: 'flip', 'aria-pressed': 'false', title: word('asTable'),
            'aria-label': `${word('asTable')}: ${panel.title}`,
            onclick: () => { view.asTable = !view.asTable; flip.setAttribute('aria-pressed',
                String(view.asTable)); view.redraw(); } }, '▤');
        root.append(h('header', {}, h('h2', {}, panel.title), ...(panel.description ? about(panel, word) : []), flip), body);
    } else root.append(body);
    const say = (state, text) => view.show(h('p', { class: state, role: state === 'error' ? 'alert' : null }, text));
    const draw = () => {
        const { answer, context } = view;
        if (answer.error) { say('error', answer.error); return 'error'; }
        const state = (view.asTable ? drawTable : DRAW[panel.type] ?? drawChart)(view, answer, context);
        if (state === 'empty') say('empty', panel.fieldConfig?.defaults?.noValue ?? context.word('nothing'));
        return state;
    };
    view.redraw = () => {
        if (!view.answer) return;
        // Who stands on a link or a button of the panel stays there.
        const inside = () => [...body.querySelectorAll('a, button')];
        const focus = inside().indexOf(document.activeElement);
        root.dataset.state = draw();
        if (focus >= 0 && !body.contains(document.activeElement)) inside()[focus]?.focus({ preventScroll: true });
    };
    view.draw = (answer, context) => {
        root.dataset.epoch = context.epoch ?? '';
        if (panel.type === 'text' || panel.type === 'row') {
            if (panel.type === 'text' && !root.dataset.state) view.show(markdown(panel.options?.content ?? ''));
            root.dataset.state = 'drawn';
            return;
        }
        const given = answer ?? { error: context.word('noAnswer') };
        const time = ['timeseries', 'heatmap'].includes(panel.type) ? [context.from, context.to] : 0;
        const key = JSON.stringify([given.error, given.fields, given.rows, time, context.lang, theme.dark]);
        view.context = context;
        if (key === view.key) return;
        Object.assign(view, { key, answer: read(given) });
        view.redraw();
    };
    view.dispose = () => { view.watch?.disconnect(); view.canvas?.dispose(); };
    return view;
}
