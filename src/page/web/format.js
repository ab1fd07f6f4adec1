// Numbers, durations and times as people read them, by Grafana's units, in English and in Korean.

const SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR;

/** Seoul's clock is ahead of UTC by this, all year: it has had no summer time since 1988. */
export const SEOUL = 9 * HOUR;

const STEPS = {
    en: [[1e12, 'T'], [1e9, 'B'], [1e6, 'M'], [1e3, 'K']],
    ko: [[1e12, '조'], [1e8, '억'], [1e4, '만']],
};
const DURATIONS = [
    [365 * DAY, 'y', '년'], [DAY, 'd', '일'], [HOUR, 'h', '시간'], [MINUTE, 'min', '분'], [SECOND, 's', '초'], [1, 'ms', 'ms'],
];
const UNITS_OF_TIME = { ms: 1, s: SECOND, m: MINUTE, h: HOUR, d: DAY, dtdurations: SECOND, dtdurationms: 1 };
const RATES = { ops: '/s', reqps: '/s', rps: '/s', wps: '/s', cps: '/s', opm: '/min', cpm: '/min', Bps: 'B/s' };

const formats = new Map();

/** A plain number with thousands separators; without `decimals`, as many as its size asks for. */
export function number(value, decimals) {
    const size = Math.abs(Number(value));
    const most = decimals ?? (Number.isInteger(size) || size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 4);
    const key = `${most},${decimals ?? ''}`;
    if (!formats.has(key)) {
        formats.set(key, new Intl.NumberFormat('en-US', { maximumFractionDigits: most, minimumFractionDigits: decimals ?? 0 }));
    }
    return formats.get(key).format(value === 0 ? 0 : value).replace('-', '−');
}

/** A number in three digits: 1.23M, or 123만 in Korean. */
function compact(value, lang, decimals) {
    const size = Math.abs(value);
    const [step, name] = STEPS[lang].find(([step]) => size >= step * 0.9995) ?? [1, ''];
    if (step === 1) return number(value, decimals);
    const short = value / step;
    const most = Math.abs(short) >= 99.95 ? 0 : Math.abs(short) >= 9.995 ? 1 : 2;
    return number(Number(short.toFixed(most))) + name;
}

function duration(ms, lang, decimals) {
    const [step, en, ko] = DURATIONS.find(([step]) => Math.abs(ms) >= step) ?? DURATIONS[ms === 0 ? 4 : 5];
    const value = ms / step;
    const digits = decimals ?? (Math.abs(value) < 10 && !Number.isInteger(value) ? 1 : 0);
    return number(value, digits) + (lang === 'ko' ? ko : ` ${en}`);
}

/** A duration by its two greatest units: 2 h 5 min. */
function longDuration(ms, lang) {
    const first = DURATIONS.findIndex(([step]) => Math.abs(ms) >= step);
    if (first < 0 || first >= 4) return duration(ms, lang);
    const [step, en, ko] = DURATIONS[first];
    const rest = Math.floor((Math.abs(ms) % step) / DURATIONS[first + 1][0]);
    const word = row => (lang === 'ko' ? row[2] : ` ${row[1]}`);
    return number(Math.trunc(ms / step)) + word([step, en, ko]) + (rest ? ` ${rest}${word(DURATIONS[first + 1])}` : '');
}

function bytes(value) {
    const power = Math.min(4, Math.max(0, Math.floor(Math.log2(Math.abs(value) || 1) / 10)));
    return `${number(Number((value / 1024 ** power).toFixed(1)))} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][power]}`;
}

/** A time in Seoul by a pattern of YYYY, MM, DD, HH, mm, ss. */
export function stamp(ms, pattern) {
    const at = new Date(ms + SEOUL).toISOString();
    const parts = { YYYY: [0, 4], MM: [5, 7], DD: [8, 10], HH: [11, 13], mm: [14, 16], ss: [17, 19] };
    return pattern.replace(/YYYY|MM|DD|HH|mm|ss/g, part => at.slice(...parts[part]));
}

const clocks = new Map();

/** A time in Seoul in words, to the second, the minute or the day. */
export function moment(ms, lang, to = 'second') {
    const key = lang + to;
    if (!clocks.has(key)) {
        const day = { timeZone: 'Asia/Seoul', weekday: 'short', day: 'numeric', month: lang === 'ko' ? 'long' : 'short',
            year: 'numeric' };
        const time = to === 'day' ? {} : { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' };
        if (to === 'second') time.second = '2-digit';
        clocks.set(key, new Intl.DateTimeFormat(lang === 'ko' ? 'ko-KR' : 'en-GB', { ...day, ...time }));
    }
    // The weekday in brackets is how Koreans write a date.
    return clocks.get(key).format(ms).replace(/일 ([일월화수목금토])(?= |$)/, '일 ($1)');
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** Round instants of Seoul's clock for an axis, at most `most` or so, read as UTC. */
export function ticks(from, to, most) {
    const least = (to - from) / most;
    const step = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 7 * 1440,
        14 * 1440].map(m => m * MINUTE).find(s => s >= least);
    const out = [];
    if (step) {
        // Weeks begin on Monday; the epoch was a Thursday.
        const origin = step % (7 * DAY) === 0 ? 4 * DAY : 0;
        for (let at = Math.ceil((from - origin) / step) * step + origin; at <= to; at += step) out.push(at);
        return out;
    }
    const months = [1, 2, 3, 6, 12].find(m => m * 30 * DAY >= least) ?? 12 * Math.ceil(least / (365 * DAY));
    const first = new Date(from);
    for (let month = Math.ceil((first.getUTCFullYear() * 12 + first.getUTCMonth()) / months) * months; ; month += months) {
        const at = Date.UTC(Math.floor(month / 12), month % 12);
        if (at > to) return out;
        if (at >= from) out.push(at);
    }
}

/** The short label of a tick on an axis of time that spans so much. `shifted` is Seoul's time read as UTC. */
export function tick(shifted, span, lang) {
    const at = new Date(shifted);
    const [month, day] = [at.getUTCMonth(), at.getUTCDate()];
    const midnight = shifted % DAY === 0;
    if (span > 200 * DAY && midnight && day === 1) {
        if (month === 0) return String(at.getUTCFullYear());
        return lang === 'ko' ? `${month + 1}월` : MONTHS[month];
    }
    if (midnight) return lang === 'ko' ? `${month + 1}/${day}` : `${day} ${MONTHS[month]}`;
    return at.toISOString().slice(11, span < 5 * MINUTE ? 19 : 16);
}

/**
 * A value in its unit. `style` is `full` (tables and tooltips: every digit), `stat` (a big number: short where it is
 * long) or `axis` (as short as can be).
 */
export function format(value, { unit = 'short', decimals } = {}, lang = 'en', style = 'full') {
    if (value === null || value === undefined) return '';
    if (!['number', 'bigint'].includes(typeof value)) return String(value);
    const digits = (v, d) => {
        const rough = Number(v);
        const short = style === 'axis' ? Math.abs(rough) >= (lang === 'ko' ? 1e4 : 1e3)
            : style === 'stat' && unit !== 'locale' && Math.abs(rough) >= 1e6;
        if (short) return compact(rough, lang, d);
        // Grafana's `none` is for what is counted but not a quantity, such as an order's number.
        return unit === 'none' ? number(v, d).replaceAll(',', '') : number(v, d);
    };
    if (unit === 'currencyKRW' || unit === 'prefix:₩') {
        // Won have no fractions.
        const size = value < 0 ? -value : value;
        const whole = typeof size === 'bigint' ? size : Math.round(size);
        return (value < 0 && whole ? '−₩' : '₩') + (style === 'stat' && whole >= 1e5 ? compact(Number(whole), lang) : digits(whole));
    }
    // Only what is written digit by digit is exact beyond 2^53.
    const exact = value;
    value = Number(value);
    if (unit === 'percent' || unit === 'percentunit') {
        const percent = unit === 'percent' ? value : value * 100;
        return `${number(percent, decimals ?? (style === 'axis' || Number.isInteger(percent) ? undefined : 1))}%`;
    }
    if (unit.startsWith('dtduration')) return longDuration(value * UNITS_OF_TIME[unit], lang);
    if (unit in UNITS_OF_TIME) return duration(value * UNITS_OF_TIME[unit], lang, decimals);
    if (unit === 'bytes' || unit === 'decbytes') return bytes(value);
    if (unit in RATES) return `${digits(exact, decimals)} ${RATES[unit]}`;
    if (unit.startsWith('dateTime')) return stamp(value, 'YYYY-MM-DD HH:mm:ss');
    if (unit.startsWith('time:')) return stamp(value, unit.slice(5));
    if (unit.startsWith('suffix:')) return digits(exact, decimals) + unit.slice(7);
    if (unit.startsWith('prefix:')) return unit.slice(7) + digits(exact, decimals);
    return digits(exact, decimals);
}

/** Whether a unit says that its numbers are instants. */
export const isTime = unit => /^(time:|dateTime)/.test(unit ?? '');
