// The colours: Grafana's names in shades that keep their contrast on either theme and that colour-blind people can tell apart.

// [on light, on dark]
const NAMED = {
    blue: ['#2f6fb5', '#6ea8ec'], orange: ['#d2691e', '#f0975a'], green: ['#17866a', '#4fc3a1'], purple: ['#7d55b0', '#b795ea'],
    yellow: ['#c79500', '#e7c250'], red: ['#c4314b', '#f2768a'], cyan: ['#2a94b0', '#6ccbe4'], pink: ['#b8508f', '#e58cc4'],
    brown: ['#8a6242', '#c49a77'], gray: ['#77808d', '#9ba5b3'],
};
const CLASSIC = ['blue', 'orange', 'green', 'purple', 'yellow', 'cyan', 'red', 'brown', 'pink', 'gray'];
const RAMPS = {
    // From little to much: towards the ground's opposite, so that the most is what strikes the eye.
    light: ['#eef5f7', '#c3e1e2', '#82c3c8', '#3f9bb5', '#256ba0', '#1f3d7c'],
    dark: ['#1b232c', '#1d3f56', '#1f6582', '#2f92a0', '#6bc2ac', '#d3edb5'],
};
const SCALES = { GrYlRd: ['green', 'yellow', 'red'], RdYlGr: ['red', 'yellow', 'green'], BlYlRd: ['blue', 'yellow', 'red'],
    YlRd: ['yellow', 'red'] };

/** The theme in force; `use` sets it. Charts are drawn on a canvas, so they cannot take their colours from the style sheet. */
export const theme = { dark: false };

export function use(dark) {
    const style = getComputedStyle(document.documentElement);
    const read = name => style.getPropertyValue(name).trim();
    Object.assign(theme, { dark, text: read('--text'), muted: read('--muted'), grid: read('--grid'), line: read('--line'),
        panel: read('--panel') });
}

const rgb = hex => [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16));
const hex = parts => `#${parts.map(p => Math.round(p).toString(16).padStart(2, '0')).join('')}`;
const mix = (a, b, share) => { const [x, y] = [rgb(a), rgb(b)]; return hex(x.map((v, i) => v + (y[i] - v) * share)); };

/** A colour by Grafana's name (`semi-dark-blue`) or as it is (`#b0b7c3`). */
export function shade(name) {
    if (name === 'text') return theme.text;
    if (name === 'transparent') return '#00000000';
    const [, tone, base] = /^(super-light-|light-|semi-dark-|dark-)?(\w+)$/.exec(name) ?? [];
    const color = NAMED[base === 'grey' ? 'gray' : base]?.[theme.dark ? 1 : 0];
    if (!color) return name;
    // A tone says how strong, not how bright, so that a scale of tones goes the same way on both themes.
    const share = { 'super-light-': [theme.panel, 0.7], 'light-': [theme.panel, 0.4], 'semi-dark-': [theme.text, 0.15],
        'dark-': [theme.text, 0.3] }[tone];
    return share ? mix(color, ...share) : color;
}

/** The colour at a place of the palette. */
export const palette = place => shade(CLASSIC[place % CLASSIC.length]);

/** The colour at a share of 0 to 1 of a continuous scale; the heat map's own where the name is none of the scales. */
export function ramp(name, share) {
    const stops = SCALES[name]?.map(shade) ?? (theme.dark ? RAMPS.dark : RAMPS.light);
    const at = Math.min(1, Math.max(0, share || 0)) * (stops.length - 1);
    const below = Math.min(stops.length - 2, Math.floor(at));
    return mix(stops[below], stops[below + 1], at - below);
}

const luminance = color => {
    const [r, g, b] = rgb(color).map(v => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};

/** Black or white, whichever reads better on a colour. */
export const inkOn = color => (luminance(color) > 0.18 ? '#0b0e12' : '#ffffff');

/** A colour as the ground of a cell: named ones soft; those given by number as they are, on the dark theme of inverse lightness. */
export function ground(color, name) {
    if (!name.startsWith('#')) return mix(theme.panel, color, 0.5);
    if (!theme.dark) return color;
    const parts = rgb(color);
    // The hue and the distance from gray stay.
    const shift = 255 - Math.max(...parts) - Math.min(...parts);
    return hex(parts.map(part => Math.min(255, Math.max(0, part + shift))));
}

/** A colour for letters on the panel: darkened on the light theme until it reads. */
export function onLight(color) {
    let ink = color;
    while (!theme.dark && /^#.{6}$/.test(ink) && 1.05 / (luminance(ink) + 0.05) < 4.6) ink = mix(ink, '#000000', 0.08);
    return ink;
}
