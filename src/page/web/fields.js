// What a panel's fieldConfig says about a column: its name, unit, colour, thresholds and mappings, defaults and overrides together.

import { format } from './format.js';
import { onLight, palette, ramp, shade } from './colors.js';

/** The configuration of one column. */
export function fieldOf(panel, name) {
    const { defaults = {}, overrides = [] } = panel.fieldConfig ?? {};
    const field = { ...defaults, custom: { ...defaults.custom }, name };
    for (const { matcher, properties } of overrides) {
        if (matcher.id !== 'byName' || matcher.options !== name) continue;
        for (const { id, value } of properties) {
            if (id.startsWith('custom.')) field.custom[id.slice(7)] = value;
            else field[id] = value;
        }
    }
    field.title = field.displayName || name;
    return field;
}

/** The columns of an answer with their configuration and their index in a row. */
export function columnsOf(panel, result) {
    return result.fields.map((field, index) => ({ ...fieldOf(panel, field.name), type: field.type, index }));
}

/**
 * An answer as it is drawn. Whole numbers beyond 2^53 come as texts, since a browser's numbers would lose their last digits:
 * here they are numbers like others, and beside them, in the row's `exact`, what is written.
 */
export function read(answer) {
    const numbers = (answer.fields ?? []).flatMap((field, index) => (field.type === 'number' ? [index] : []));
    const rows = answer.rows?.map(row => {
        const long = numbers.filter(index => typeof row[index] === 'string');
        if (!long.length) return row;
        const read = row.map((value, index) => (long.includes(index) ? Number(value) : value));
        read.exact = Object.fromEntries(long.map(index => [index, BigInt(row[index])]));
        return read;
    });
    return { ...answer, rows };
}

/** A value of a row with all its digits. */
export const exactly = (row, column) => row.exact?.[column.index] ?? row[column.index];

/** The columns that are drawn: numbers that are not hidden. */
export const drawn = columns => columns.filter(c => c.type === 'number' && !c.custom.hideFrom?.viz && !c.custom.hidden);

/** The mapping that a value falls under: { text, color }, or nothing. */
export function mapped(value, field) {
    for (const { type, options } of field.mappings ?? []) {
        if (type === 'value' && value !== null && Object.hasOwn(options, String(value))) return options[String(value)];
        if (type === 'range' && ['number', 'bigint'].includes(typeof value) && value >= (options.from ?? -Infinity)
            && value <= (options.to ?? Infinity)) {
            return options.result;
        }
        if (type === 'special') {
            const is = { null: value === null, nan: Number.isNaN(value), 'null+nan': value === null || Number.isNaN(value),
                true: value === true, false: value === false, empty: value === '' };
            if (is[options.match]) return options.result;
        }
    }
    return undefined;
}

/** A value as it is written. */
export function written(value, field, lang, style) {
    const text = mapped(value, field)?.text;
    if (text) return text;
    if (value === null || value === undefined) return field.noValue && style === 'stat' ? field.noValue : '–';
    if (field.type === 'time') return format(value, { unit: field.unit ?? 'dateTimeAsIso' }, lang, style);
    return format(value, field, lang, style);
}

/** The index of the threshold that a value has reached. */
export function step(value, field) {
    const { mode, steps = [] } = field.thresholds ?? {};
    const [min, max] = [field.min ?? 0, field.max ?? 100];
    const reached = mode === 'percentage' ? ((value - min) / (max - min)) * 100 : value;
    let index = 0;
    steps.forEach((each, i) => { if (i > 0 && reached >= each.value) index = i; });
    return index;
}

/** The colour of a value or, with its place in the palette, of a series; null is the text's own. */
export function colorOf(value, field, place) {
    const own = mapped(value, field)?.color;
    if (own) return shade(own);
    const mode = field.color?.mode ?? (place === undefined ? 'thresholds' : 'palette-classic');
    if (mode === 'fixed') return shade(field.color.fixedColor ?? 'text');
    if (mode === 'thresholds') {
        const steps = field.thresholds?.steps;
        return steps?.length && typeof value === 'number' ? shade(steps[step(value, field)].color) : null;
    }
    if (mode.startsWith('continuous-') && typeof value === 'number') {
        const [min, max] = [field.min ?? 0, field.max ?? 100];
        return ramp(mode.slice(11), (value - min) / (max - min || 1));
    }
    return place === undefined ? null : palette(place);
}

/** The name that the dashboard gives the colour of a value in its thresholds or mappings. */
export const nameOf = (value, field) => mapped(value, field)?.color ?? (field.color?.mode === 'fixed' ? field.color.fixedColor
    : field.color?.mode?.startsWith('continuous-') ? '' : field.thresholds?.steps?.[step(value, field)]?.color) ?? '';

/** A colour for letters: enough contrast on the panel. */
export const inkOf = (value, field) => {
    const color = colorOf(value, field);
    return color && onLight(color);
};

/** How bad a value's threshold is where they go up to red: 0, 1 (orange or yellow), 2 (red). A mark says it beside the colour. */
export function severity(value, field) {
    if (!/"color":"[a-z-]*red"/.test(JSON.stringify([field.thresholds, field.mappings]))) return 0;
    const color = mapped(value, field)?.color ?? (typeof value === 'number' && field.thresholds?.steps?.length
        && (field.color?.mode ?? 'thresholds') === 'thresholds' ? field.thresholds.steps[step(value, field)].color : '');
    return /red/.test(color) ? 2 : /orange|yellow/.test(color) ? 1 : 0;
}

const REDUCE = {
    lastNotNull: values => values.at(-1), last: values => values.at(-1), first: values => values[0],
    firstNotNull: values => values[0],
    mean: values => values.reduce((a, b) => a + b, 0) / values.length, sum: values => values.reduce((a, b) => a + b, 0),
    // Not by Math.max(...), whose number of arguments is limited, and which knows no exact values.
    min: values => values.reduce((a, b) => (b < a ? b : a)), max: values => values.reduce((a, b) => (b > a ? b : a)),
    count: values => values.length, range: values => REDUCE.max(values) - REDUCE.min(values),
    diff: values => values.at(-1) - values[0],
};

/** One number for many, by the name of one of Grafana's calculations; null of nothing. */
export function reduce(calc, values) {
    const known = values.filter(value => value !== null && value !== undefined);
    return known.length ? (REDUCE[calc] ?? REDUCE.lastNotNull)(known) : null;
}

/**
 * The values that a stat, a gauge or a pie shows, by its reduceOptions: of each row each column, or of each column one.
 * @returns {{title: string, value: any, exact: any, field: object, series: any[], row: any[]}[]}
 */
export function reduced(panel, result) {
    const { values, calcs = [], limit, fields = '' } = panel.options?.reduceOptions ?? {};
    const columns = columnsOf(panel, result);
    let shown = drawn(columns);
    if (fields.startsWith('/')) {
        const pattern = new RegExp(fields.slice(1, fields.lastIndexOf('/')));
        shown = columns.filter(c => !c.custom.hideFrom?.viz && (pattern.test(c.name) || pattern.test(c.title)));
    } else if (fields) {
        shown = columns.filter(c => c.name === fields || c.title === fields);
    }
    if (values) {
        const label = columns.find(c => c.type === 'string' && !shown.includes(c));
        return result.rows.slice(0, limit ?? 25).flatMap(row => shown.map(field => ({
            title: label && row[label.index] !== null
                ? (shown.length > 1 ? `${written(row[label.index], label)} · ${field.title}` : written(row[label.index], label))
                    : field.title,
            value: row[field.index], exact: exactly(row, field), field, series: [], row,
        })));
    }
    return shown.map(field => {
        const series = result.rows.map(row => row[field.index]);
        const calc = calcs[0] ?? 'lastNotNull';
        const value = reduce(calc, series);
        // What is one of the values has all its digits; what is reckoned from them is rounded.
        const exact = /^(last|first|min|max)/.test(calc) ? reduce(calc, result.rows.map(row => exactly(row, field))) : value;
        return { title: field.title, value, exact, field, series, row: result.rows.at(-1) };
    });
}
