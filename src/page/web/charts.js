// The charts: what a panel and its rows mean as an option of the chart library, with a legend and a summary in words.

import { init } from './vendor/echarts.js';
import { colorOf, columnsOf, drawn, reduce, reduced, written } from './fields.js';
import { SEOUL, format, isTime, moment, number, tick, ticks } from './format.js';
import { inkOn, palette, ramp, shade, theme } from './colors.js';
import { h } from './dom.js';

const DAY = 86_400_000;
const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans KR", sans-serif';

/** The tooltip of all charts: a heading and a line for each series. It is built of elements, never of markup. */
function tooltip(trigger, content) {
    return {
        trigger, confine: false, appendTo: 'body', transitionDuration: 0, padding: 0, borderWidth: 0, className: 'tip',
            extraCssText: '',
        backgroundColor: 'transparent', axisPointer: { type: 'line', lineStyle: { color: theme.muted, type: 'solid', width: 1 },
            shadowStyle: { color: theme.grid } },
        formatter: params => {
            const { heading, rows } = content(params);
            return h('div', { class: 'tip-box' }, h('b', {}, heading), ...rows.map(({ color, name, text }) =>
                h('div', { class: 'tip-row' }, swatch(color), h('span', {}, name), h('b', {}, text))));
        },
    };
}

export function swatch(color, shape = 'bar') {
    const mark = h('i', { class: `swatch ${shape}`, 'aria-hidden': 'true' });
    mark.style.background = color;
    return mark;
}

const label = () => ({ color: theme.muted, fontSize: 11, fontFamily: FONT, hideOverlap: true });
const category = more => ({ type: 'category', axisTick: { show: false }, axisLine: { lineStyle: { color: theme.line } }, ...more,
    axisLabel: { ...label(), ...more.axisLabel } });

const stackOf = column => (['normal', 'percent'].includes(column.custom.stacking?.mode)
    ? column.custom.stacking.group ?? 'A' : undefined);

/** The axis of the values of some columns. */
function valueAxis(id, columns, context, more) {
    const [first] = columns;
    const bound = (key, pick) => { const known = columns.map(c => c[key]).filter(Number.isFinite); return known.length
        ? pick(...known) : undefined; };
    const softMax = first?.custom.axisSoftMax;
    const bars = columns.some(c => c.custom.drawStyle === 'bars');
    return {
        id, type: 'value', min: bound('min', Math.min),
            max: bound('max', Math.max) ?? (softMax && (v => (v.max < softMax ? softMax : null))),
        scale: !bars && first?.custom.axisSoftMin === undefined && !columns.some(stackOf),
        splitNumber: context.height < 150 ? 2 : 4, minInterval: first?.decimals === 0 && !/percent/.test(first.unit) ? 1 : 0,
        axisLabel: { ...label(), formatter: value => format(value, { ...first, decimals: undefined }, context.lang, 'axis') },
        splitLine: { lineStyle: { color: theme.grid } }, axisLine: { show: false }, axisTick: { show: false },
        name: first?.custom.axisLabel, nameGap: 8, nameTextStyle: { ...label() }, ...more,
    };
}

/** Which axis each column belongs to: left, right, or one of its own that is not shown. */
function placed(columns) {
    const place = column => {
        const wanted = column.custom.axisPlacement ?? 'auto';
        return wanted === 'auto' ? ((column.unit ?? '') === (columns[0].unit ?? '') ? 'left' : 'right') : wanted;
    };
    return columns.map(place);
}

function thresholdLines(column) {
    if (!/line|dashed/.test(column.custom.thresholdsStyle?.mode ?? '')) return undefined;
    return {
        silent: true, symbol: 'none', label: { show: false },
        data: (column.thresholds?.steps ?? []).slice(1).map(({ value, color }) =>
            ({ yAxis: value, lineStyle: { color: shade(color), type: 'dashed', width: 1 } })),
    };
}

function legendOf(panel, entries, context) {
    const { showLegend = true, calcs = [] } = panel.options?.legend ?? {};
    if (!showLegend || (entries.length < 2 && !calcs.length)) return [];
    return entries.map(({ column, color, values, shape }) => ({
        key: column.name, name: column.title, color, shape,
        values: calcs.map(calc => ({ label: context.word(calc),
            text: written(reduce(calc, values), column, context.lang, 'axis') })),
    }));
}

const sumOf = values => values.reduce((sum, value) => sum + (value ?? 0), 0);
const newest = (entries, lang) => entries.map(({ column, values }) =>
    `${column.title} ${written(reduce('lastNotNull', values), column, lang, 'stat')}`).join(', ');

/** The whole numbers of an axis that are written, at least so far apart. */
function multiples(first, last, least) {
    const step = [1, 2, 3, 6, 12, 24, 48].find(each => each >= least) ?? Math.ceil(least);
    return Array.from({ length: Math.floor(last / step) - Math.ceil(first / step) + 1 },
        (_, i) => (Math.ceil(first / step) + i) * step);
}

/** timeseries and trend: lines and bars over time or over another number. */
function series(panel, result, context) {
    const columns = columnsOf(panel, result);
    const x = panel.options?.xField ? columns.find(c => c.name === panel.options.xField)
        : columns.find(c => c.type === 'time') ?? columns[0];
    const shown = drawn(columns).filter(c => c !== x);
    const time = x.type === 'time' || isTime(x.unit);
    const xs = result.rows.map(row => row[x.index]);
    // A few months are steps of equal width, each with its label.
    const steps = panel.type === 'trend' && time && xs.length <= 40;
    const entries = shown.map((column, i) => {
        const values = result.rows.map(row => row[column.index]);
        const bars = (column.custom.drawStyle ?? 'line') === 'bars';
        return { column, values, bars, shape: bars ? 'bar' : 'line',
            color: colorOf(reduce('lastNotNull', values), column, i) ?? palette(i) };
    });
    const visible = entries.filter(e => !context.hidden.has(e.column.name));
    const places = placed(shown);
    const used = [...new Set((visible.length ? visible : entries).map(e => places[shown.indexOf(e.column)]))].sort();
    const first = Math.min(...xs), last = Math.max(...xs), gap = xs.length > 1 ? (last - first) / (xs.length - 1) : 0;
    // The range chosen, unless the panel looks elsewhere: then what it has.
    let [from, to] = time && first >= context.from - 1.5 * gap && last <= context.to + gap && panel.type !== 'trend'
        ? [context.from, context.to] : [first, last];
    // Room for the halves of the first and the last bar.
    if (entries.some(e => e.bars)) [from, to] = [Math.min(from, first - gap / 2), Math.max(to, last + gap / 2)];
    const shift = time ? SEOUL : 0;
    const whole = Number.isInteger(first) && Number.isInteger(last) && last - first <= 200;
    const round = steps ? undefined : time ? ticks(from + shift, to + shift, Math.max(2, context.width / 80))
        : whole ? multiples(first, last, (last - first) / Math.max(2, context.width / 40)) : undefined;
    const heading = at => (time && !isTime(x.unit) ? moment(at, context.lang, gap >= DAY * 0.9 ? 'day' : 'minute')
        : `${isTime(x.unit) ? '' : `${x.title} `}${format(at, x, context.lang)}`);
    const names = shown.some(c => c.custom.axisLabel);
    const option = {
        useUTC: true,
        grid: { left: places.includes('left') ? 50 : 14, right: places.includes('right') ? 54 : 14, top: names ? 28 : 12,
            bottom: 26, outerBoundsMode: 'none' },
        tooltip: tooltip('axis', params => {
            const row = result.rows[params[0].dataIndex];
            return { heading: heading(row[x.index]),
                rows: visible.map(({ column, color }) =>
                ({ color, name: column.title, text: written(row[column.index], column, context.lang) })) };
        }),
        xAxis: steps
            ? category({ id: 'x', data: xs.map(at => format(at, x, context.lang)), boundaryGap: entries.some(e => e.bars) })
            : { id: 'x', type: time ? 'time' : 'value', min: from + shift, max: to + shift,
                splitNumber: Math.max(2, Math.round(context.width / 110)),
                axisLine: { show: true, lineStyle: { color: theme.line } },
                axisTick: { show: time, customValues: round, lineStyle: { color: theme.line } },
                splitLine: { show: false }, name: '',
                axisLabel: { ...label(), customValues: round,
                    formatter: at => (time ? tick(at, to - from, context.lang) : format(at, x, context.lang, 'axis')) } },
        yAxis: used.map((place, i) => valueAxis(place, shown.filter((_, j) => places[j] === place), context, {
            position: place === 'right' ? 'right' : 'left', show: place !== 'hidden', alignTicks: i > 0,
            ...(i > 0 && { splitLine: { show: false } }),
            nameTextStyle: { ...label(), align: place === 'right' ? 'right' : 'left',
                padding: place === 'right' ? [0, -50, 0, 0] : [0, 0, 0, -46] },
        })),
        series: visible.map(({ column, values, bars, color }) => {
            const { custom } = column;
            const points = custom.showPoints === 'always' || custom.drawStyle === 'points'
                || (custom.showPoints !== 'never' && xs.length < 32);
            const lonely = !bars && values.some((v, i) => v !== null && (values[i - 1] ?? null) === null
                && (values[i + 1] ?? null) === null);
            const fill = (custom.fillOpacity ?? (bars ? 80 : 0)) / 100;
            return {
                id: column.name, name: column.title, type: bars ? 'bar' : 'line', animation: false,
                yAxisId: places[shown.indexOf(column)], z: bars ? 2 : 3, emphasis: { disabled: true },
                stack: stackOf(column) && stackOf(column) + places[shown.indexOf(column)],
                data: steps ? values : values.map((v, i) => [xs[i] + shift, v]),
                itemStyle: { color, opacity: bars ? Math.max(0.35, fill) : 1, borderRadius: bars ? [2, 2, 0, 0] : 0 },
                markLine: thresholdLines(column),
                ...(bars ? { barMaxWidth: 32, barCategoryGap: '25%', barGap: '10%' } : {
                    lineStyle: { color, width: custom.drawStyle === 'points' ? 0 : custom.lineWidth ?? 1.5,
                        type: custom.lineStyle?.fill === 'dash' ? 'dashed'
                        : custom.lineStyle?.fill === 'dot' ? 'dotted' : 'solid' },
                    areaStyle: fill ? { color, opacity: fill } : undefined,
                    smooth: custom.lineInterpolation === 'smooth' ? 0.3 : false, smoothMonotone: 'x',
                    step: { stepBefore: 'start', stepAfter: 'end' }[custom.lineInterpolation] ?? false,
                    connectNulls: Boolean(custom.spanNulls),
                    showSymbol: points || lonely, symbol: 'circle', symbolSize: points ? custom.pointSize ?? 5 : 3,
                }),
            };
        }),
    };
    return { option, legend: legendOf(panel, entries, context), summary: newest(entries, context.lang),
        sums: Object.fromEntries(entries.map(e => [e.column.name, sumOf(e.values)])) };
}

/** barchart: bars by a word, upright or lying. */
function bars(panel, result, context) {
    const { options = {} } = panel;
    const columns = columnsOf(panel, result);
    const x = columns.find(c => c.name === options.xField) ?? columns.find(c => c.type === 'string') ?? columns[0];
    const shown = drawn(columns).filter(c => c !== x);
    const lying = options.orientation === 'horizontal' || (options.orientation !== 'vertical' && result.rows.length > 12);
    const entries = shown.map((column, i) => {
        const values = result.rows.map(row => row[column.index]);
        const each = /thresholds|continuous/.test(column.color?.mode) || options.colorByField;
        return { column, values, shape: 'bar', color: each ? palette(i) : colorOf(null, column, i) ?? palette(i),
            colors: each && values.map((v, j) => (options.colorByField ? palette(j) : colorOf(v, column, i))) };
    });
    const visible = entries.filter(e => !context.hidden.has(e.column.name));
    const names = result.rows.map(row => written(row[x.index], x, context.lang));
    const stacked = options.stacking === 'normal' || options.stacking === 'percent';
    const thickness = (lying ? context.height - 40 : context.width - 70) / Math.max(1,
        names.length * (stacked ? 1 : visible.length));
    const values = options.showValue === 'always' || (options.showValue !== 'never' && !stacked && thickness > (lying ? 15 : 40));
    const room = context.width * 0.32, slot = (context.width - 70) / names.length;
    const option = {
        grid: { left: 4, right: lying && values ? 52 : 10, top: values && !lying ? 20 : 10, bottom: lying ? 2 : 4,
            outerBoundsMode: 'same', outerBoundsContain: 'axisLabel' },
        tooltip: { ...tooltip('axis', params => ({
            heading: names[params[0].dataIndex],
            rows: visible.map(e => ({ color: e.colors?.[params[0].dataIndex] ?? e.color, name: e.column.title,
                text: written(e.values[params[0].dataIndex], e.column, context.lang) })),
        })), axisPointer: { type: 'shadow', shadowStyle: { color: theme.grid, opacity: 0.5 } } },
        [lying ? 'yAxis' : 'xAxis']: category({ id: 'names', data: names, inverse: lying, axisLabel: lying
            ? { color: theme.text, interval: context.height / names.length > 15 ? 0 : 'auto', width: room, overflow: 'truncate' }
            // Where the words have no room side by side, some are left out; only very long ones are cut.
            : { width: Math.max(90, slot - 4), overflow: 'truncate',
                interval: Math.max(...names.map(name => name.length)) * 6.5 < slot ? 0 : 'auto' } }),
        [lying ? 'xAxis' : 'yAxis']: valueAxis('values', shown, context,
            { scale: false, splitNumber: lying ? Math.max(2, Math.round(context.width / 120)) : 4 }),
        series: visible.map(({ column, values: data, color, colors }) => ({
            id: column.name, name: column.title, type: 'bar', animation: false, emphasis: { disabled: true },
            stack: stacked ? 'all' : undefined, barMaxWidth: 38, barCategoryGap: '28%', barGap: '8%',
            data: colors ? data.map((value, i) => ({ value, itemStyle: { color: colors[i] ?? color } })) : data,
            itemStyle: { color, opacity: Math.max(0.5, (column.custom.fillOpacity ?? 85) / 100),
                borderRadius: stacked ? 0 : lying ? [0, 2, 2, 0] : [2, 2, 0, 0] },
            label: { show: values, position: lying ? 'right' : 'top', color: theme.muted, fontSize: 11, fontFamily: FONT,
                formatter: ({ value }) => written(value ?? null, column, context.lang, 'axis') },
        })),
    };
    const summary = names.slice(0, 8).map((name,
        i) => `${name} ${written(entries[0]?.values[i], entries[0]?.column, context.lang, 'stat')}`).join(', ');
    return { option, legend: legendOf(panel, entries, context), summary,
        sums: Object.fromEntries(entries.map(e => [e.column.name, sumOf(e.values)])) };
}

/** piechart: shares of a whole, with the whole in the middle of a donut. */
function pie(panel, result, context) {
    const { options = {} } = panel;
    let slices = reduced(panel, result).map((slice,
        i) => ({ ...slice, key: slice.title, color: (slice.field.color || !options.reduceOptions?.values
        ? colorOf(slice.value, slice.field, i) : null) ?? palette(i) }));
    if (options.sort === 'desc') slices = slices.toSorted((a, b) => b.value - a.value);
    const visible = slices.filter(slice => !context.hidden.has(slice.key));
    const total = sumOf(visible.map(slice => slice.value));
    const percent = value => `${number((100 * value) / (total || 1), 1)}%`;
    const donut = options.pieType === 'donut';
    const size = Math.min(context.width, context.height);
    const ring = { animation: false, center: ['50%', '50%'], type: 'pie', percentPrecision: 1 };
    const option = {
        tooltip: tooltip('item', ({ data }) =>
            ({ heading: data.name, rows: [{ color: data.itemStyle.color, name: percent(data.value),
            text: written(data.value, data.field, context.lang) }] })),
        series: [{
            ...ring, id: 'pie', radius: [donut ? '58%' : 0, '94%'], emphasis: { scale: false }, labelLine: { show: false },
            label: { show: true, position: 'inside', fontSize: 11, fontFamily: FONT,
                formatter: ({ data }) => (data.value / total >= 0.08 && size > 130 ? percent(data.value) : '') },
            data: visible.map(({ title, value, color, field }) =>
                ({ name: title, value, field, itemStyle: { color, borderColor: theme.panel, borderWidth: 1.5 },
                label: { color: inkOn(color) } })),
        }, {
            ...ring, id: 'whole', radius: [0, 0], silent: true, tooltip: { show: false },
                label: { show: donut, position: 'center', fontSize: Math.max(13, size / 12), fontWeight: 600, fontFamily: FONT,
                color: theme.text },
            data: [{ value: 1, name: visible.length
                ? written(total, { ...visible[0].field, mappings: [] }, context.lang, size < 170 ? 'axis' : 'stat') : '',
                itemStyle: { color: 'transparent' } }],
        }],
    };
    const shown = options.legend?.values ?? ['value', 'percent'];
    const texts = ({ value, field }) => [shown.includes('value') && written(value, field, context.lang, 'stat'),
        shown.includes('percent') && percent(value)];
    const legend = options.legend?.showLegend === false ? []
        : slices.map(slice => ({ key: slice.key, name: slice.title, color: slice.color, shape: 'bar',
        values: texts(slice).filter(Boolean).map(text => ({ text })) }));
    const summary = slices.map(slice => `${slice.title} ${texts(slice).filter(Boolean).join(' ')}`).join(', ');
    const sums = {};
    for (const { field, value } of slices) sums[field.name] = (sums[field.name] ?? 0) + (value ?? 0);
    return { option, legend, summary, sums };
}

/** heatmap: the first column goes across, each other column is a row. */
function heat(panel, result, context) {
    const { options = {} } = panel;
    const columns = columnsOf(panel, result);
    const [x] = columns;
    const rows = drawn(columns).filter(c => c !== x);
    // Grafana's first row is at the bottom unless reversed.
    const lines = options.yAxis?.reverse ? rows : rows.toReversed();
    const unit = { ...panel.fieldConfig?.defaults, ...options.cellValues };
    const cells = lines.flatMap((column, y) => result.rows.map((row, i) => [i, y, row[column.index]])).filter(([, , value]) =>
        value !== null);
    const values = cells.map(([, , value]) => value);
    const [min, max] = [options.color?.min ?? reduce('min', values) ?? 0, options.color?.max ?? reduce('max', values) ?? 1];
    const names = result.rows.map(row => (x.type === 'time' ? tick(row[x.index] + SEOUL, context.to - context.from, context.lang)
        : written(row[x.index], x, context.lang)));
    const paint = value => ramp(options.color?.scheme, (value - min) / (max - min || 1));
    const text = (value, style) => written(value, unit, context.lang, style);
    const wide = (context.width - 60) / names.length, high = (context.height - 34) / lines.length;
    const digits = options.showValue !== 'never' && wide > 34 && high > 15;
    const option = {
        grid: { left: 4, right: 8, top: 6, bottom: 2, outerBoundsMode: 'same', outerBoundsContain: 'axisLabel' },
        tooltip: tooltip('item', ({ value: [i, y, value] }) =>
            ({ heading: `${lines[y].title} · ${x.title} ${names[i]}`,
            rows: [{ color: paint(value), name: options.rowsFrame?.value ?? '', text: text(value) }] })),
        xAxis: category({ id: 'x', data: names, axisLine: { show: false } }),
        yAxis: category({ id: 'y', data: lines.map(c => c.title), inverse: Boolean(options.yAxis?.reverse),
            axisLine: { show: false }, axisLabel: { interval: high > 12 ? 0 : 'auto' } }),
        series: [{
            id: 'cells', type: 'heatmap', animation: false, emphasis: { itemStyle: { borderColor: theme.text, borderWidth: 1.5 } },
            label: { show: digits, fontSize: 11, fontFamily: FONT, formatter: ({ value }) => text(value[2], 'axis') },
            data: cells.map(cell => { const color = paint(cell[2]);
                return { value: cell, itemStyle: { color, borderColor: theme.panel, borderWidth: 1 },
                    label: { color: inkOn(color) } }; }),
        }],
    };
    const peak = cells.reduce((best, cell) => (!best || cell[2] > best[2] ? cell : best), null);
    const summary = peak ? `${context.word('most')}: ${lines[peak[1]].title} ${names[peak[0]]}, ${text(peak[2])}` : '';
    const scale = { stops: [0, 0.2, 0.4, 0.6, 0.8, 1].map(share => ramp(options.color?.scheme, share)),
        min: format(min, { unit: unit.unit }, context.lang, 'axis'), max: format(max, { unit: unit.unit }, context.lang, 'axis'),
        name: options.rowsFrame?.value ?? '' };
    return { option, legend: [], scale: options.legend?.show === false ? null : scale, summary,
        sums: Object.fromEntries(rows.map(c => [c.name, sumOf(result.rows.map(row => row[c.index]))])) };
}

const KINDS = { timeseries: series, trend: series, barchart: bars, piechart: pie, heatmap: heat };
export const isChart = type => type in KINDS;

/** What is drawn for a panel and its rows, or null where there is nothing to draw. */
export function chartOf(panel, result, context) {
    const shown = panel.type === 'piechart' ? reduced(panel, result).map(slice => slice.value)
        : drawn(columnsOf(panel, result)).filter(c => c.name !== panel.options?.xField).flatMap(c =>
            result.rows.map(row => row[c.index]));
    return shown.some(value => value !== null) ? KINDS[panel.type](panel, result, context) : null;
}

/** A canvas for charts. */
export function canvas(element) {
    const chart = init(element, null, { renderer: 'canvas' });
    return {
        // The parts that are no longer named go; the others change in place, and an open tooltip stays open.
        draw: option => chart.setOption({ animation: false, ...option },
            { replaceMerge: ['series', 'xAxis', 'yAxis'], silent: true }),
        resize: () => chart.resize(),
        dispose: () => chart.dispose(),
    };
}
