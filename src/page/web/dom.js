// Making elements: text stays text, so nothing that comes from the database can become markup.

/** An element with its attributes and children; `on...` attributes are listeners, null ones are left out. */
export function h(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
        if (value === null || value === undefined || value === false) continue;
        if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
        else element.setAttribute(key, value === true ? '' : value);
    }
    element.append(...children.filter(child => child !== null && child !== undefined && child !== false));
    return element;
}

const SVG = 'http://www.w3.org/2000/svg';

/** The same for parts of a drawing. */
export function svg(name, attributes = {}, ...children) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
}

/** Sets a text only where it changes, so that nothing is laid out anew and no selection is lost. */
export function setText(element, text) {
    if (element.textContent !== text) element.textContent = text;
}

const INLINE = /\*\*(.+?)\*\*|__(.+?)__|\*(.+?)\*|`(.+?)`|\[(.+?)\]\((.+?)\)/g;

function inline(text) {
    const parts = [];
    let end = 0;
    for (const match of text.matchAll(INLINE)) {
        const [whole, strong, strong2, em, code, name, url] = match;
        parts.push(text.slice(end, match.index));
        if (code) parts.push(h('code', {}, code));
        else if (em) parts.push(h('em', {}, ...inline(em)));
        else if (strong || strong2) parts.push(h('strong', {}, ...inline(strong || strong2)));
        // Only links that are plainly links: no scheme that runs something.
        else parts.push(/^(https?:\/\/|\/|#)/.test(url) ? h('a', { href: url, rel: 'noopener' }, ...inline(name)) : name);
        end = match.index + whole.length;
    }
    parts.push(text.slice(end));
    return parts.filter(part => part !== '');
}

/** Markdown's paragraphs, headings, lists, emphasis, code and links as elements. */
export function markdown(text) {
    const out = document.createDocumentFragment();
    for (const block of text.split(/\n\s*\n/)) {
        let list = null, paragraph = [];
        const flush = () => { if (paragraph.length) out.append(h('p', {}, ...inline(paragraph.join(' ')))); paragraph = []; };
        for (const line of block.split('\n')) {
            const item = /^\s*(?:[-*]|(\d+)\.)\s+(.*)/.exec(line);
            const heading = /^(#+)\s+(.*)/.exec(line);
            if (item) {
                flush();
                if (!list) out.append((list = h(item[1] ? 'ol' : 'ul')));
                list.append(h('li', {}, ...inline(item[2])));
            } else if (heading) {
                flush();
                out.append(h('h3', {}, ...inline(heading[2])));
            } else if (list && line.trim()) {
                list.lastChild.append(' ', ...inline(line.trim()));
            } else if (line.trim()) paragraph.push(line.trim());
        }
        flush();
    }
    return out;
}
