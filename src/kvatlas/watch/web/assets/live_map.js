// The block map of the last moment: a canvas with a square per cell, and what is under the pointer.
'use strict';

// Owners share eight colours that colour-blind people can tell apart (Okabe and Ito), as in reports.
const OWNERS = [[0, 114, 178], [230, 159, 0], [0, 158, 115], [204, 121, 167], [86, 180, 233],
  [213, 94, 0], [220, 205, 50], [120, 94, 160]];
const NOBODY = -1, SEVERAL = -2;
const MOST_HIGH = 520, LARGEST = 22; // CSS pixels: of the map, of a cell
export const ownerCss = (owner) => `rgb(${OWNERS[owner % OWNERS.length]})`;
const whole = (number) => number.toLocaleString('en');

export function liveMap(canvas, {box, legend, tip, said, scale: caption}) {
  const screen = canvas.getContext('2d');
  let cells = null, pool = null, top = [], byOwner = false, only = null, cursor = -1, keyboard = false;
  let size = 8, columns = 1, palette = {};

  function readPalette() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ['bg', 'text', 'used', 'evictable', 'empty', 'null']) {
      palette[name] = style.getPropertyValue('--' + name).trim();
    }
  }
  const mixed = (css, share) => `color-mix(in srgb, ${css} ${100 * share}%, ${palette.empty})`;

  // The share of a cell's blocks that are in use; null where none is.
  const usedShare = (code) => code === '#' ? 1 : code >= '1' && code <= '9' ? +code / 10 : null;
  function colorOf(code, owner) {
    const share = usedShare(code);
    if (code === 'x') return palette.null;
    if (share === null) {
      const base = code === '=' ? palette.evictable : code === ':' ? mixed(palette.evictable, .5)
        : palette.empty;
      return only === null ? base : mixed(base, .25);
    }
    if (!byOwner) return share === 1 ? palette.used : mixed(palette.used, .25 + .65 * share);
    const base = owner >= 0 ? ownerCss(owner) : palette.null;
    if (only !== null && owner !== only) return mixed(base, .15);
    return share === 1 ? base : mixed(base, .25 + .65 * share);
  }

  function layOut() {
    if (cells === null) return;
    const ratio = window.devicePixelRatio || 1, many = cells.codes.length;
    const width = Math.max(160, box.clientWidth);
    size = LARGEST;
    while (size > 2 && Math.ceil(many / Math.floor(width / size)) * size > MOST_HIGH) size--;
    columns = Math.max(1, Math.min(many, Math.floor(width / size)));
    const high = Math.ceil(many / columns) * size;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(high * ratio);
    canvas.style.height = high + 'px';
    screen.setTransform(ratio, 0, 0, ratio, 0, 0);
  }
  function draw() {
    if (cells === null) return;
    screen.fillStyle = palette.bg;
    screen.fillRect(0, 0, canvas.width, canvas.height);
    const gap = size >= 6 ? 1 : 0, side = size - gap;
    for (let i = 0; i < cells.codes.length; i++) {
      const x = i % columns * size, y = Math.floor(i / columns) * size, code = cells.codes[i];
      screen.fillStyle = colorOf(code, cells.owners[i]);
      screen.fillRect(x, y, side, side);
      if (size < 7 || usedShare(code) !== null) continue;
      // Shapes, too: nothing is said by colour alone. Cached is a ring, empty is a frame.
      const inset = code === '.' || code === 'x' ? 1 : Math.round(size * .32);
      screen.fillStyle = palette.bg;
      screen.fillRect(x + inset, y + inset, side - 2 * inset, side - 2 * inset);
    }
    if (cursor >= 0) {
      screen.lineWidth = 2;
      screen.strokeStyle = palette.text;
      const x = cursor % columns * size, y = Math.floor(cursor / columns) * size;
      screen.strokeRect(x, y, side, side);
    }
  }

  function key(color, form, text, value, owner) {
    const item = document.createElement(owner === undefined ? 'span' : 'button');
    const swatch = document.createElement('i'), number = document.createElement('b');
    item.className = 'key';
    swatch.className = 'cell ' + form;
    swatch.style.color = color;
    number.textContent = value;
    item.append(swatch, text + ' ', number);
    if (owner !== undefined) {
      item.setAttribute('aria-pressed', String(only === owner));
      item.addEventListener('click', () => choose(owner));
    }
    return item;
  }
  const clipped = (name) => name.length > 28 ? name.slice(0, 27) + '…' : name;
  function nameOf(owner) {
    const row = top.find((request) => request.row === owner);
    return row && row.name ? `${owner} (${clipped(row.name)})` : `request ${owner}`;
  }
  let shownLegend = '';
  function drawLegend() {
    const share = (count) => `${whole(count)} (${(100 * count / pool.total_blocks).toFixed(1)}%)`;
    const items = byOwner
      ? top.filter((row) => row.blocks > 0).slice(0, 7)
        .map((row) => [ownerCss(row.row), 'full', nameOf(row.row), whole(row.blocks), row.row])
      : [
        [palette.used, 'full', 'in use', share(pool.used_blocks)],
        [palette.evictable, 'ring', 'cached, free to evict', share(pool.evictable_blocks)],
        [palette.empty, 'hollow', 'empty', share(pool.empty_blocks)],
      ];
    // Buttons stay while nothing changes, so that they can be clicked and keep the focus.
    const now = JSON.stringify([items, only]);
    if (now === shownLegend) return;
    shownLegend = now;
    legend.replaceChildren(...items.map((item) => key(...item)));
    if (byOwner) legend.append(key(palette.null, 'full', 'several owners in one cell', ''));
  }

  function facts(at) {
    const first = cells.first + at * cells.per_cell, code = cells.codes[at];
    const last = Math.min(cells.stop, first + cells.per_cell) - 1;
    const share = usedShare(code), owner = cells.owners[at];
    const state = code === 'x' ? 'vLLM’s null block: nobody owns it'
      : share === 1 ? 'in use' : share !== null ? `some ${100 * share}% in use`
      : {'=': 'cached, free to evict', '.': 'empty', ':': 'cached and empty ones'}[code];
    const pairs = [first === last ? ['Block', whole(first)]
      : ['Blocks', `${whole(first)} to ${whole(last)}`], ['State', state]];
    if (share !== null) {
      pairs.push(['Owner', owner === SEVERAL ? 'several requests'
        : owner === NOBODY ? 'not in any block table' : nameOf(owner)]);
    }
    return pairs;
  }
  function tell() {
    tip.hidden = cursor < 0 || cells === null;
    if (tip.hidden) { said.textContent = ''; return; }
    const list = document.createElement('dl'), pairs = facts(cursor);
    for (const [name, value] of pairs) {
      const term = document.createElement('dt'), told = document.createElement('dd');
      term.textContent = name;
      told.textContent = value;
      list.append(term, told);
    }
    tip.replaceChildren(list);
    if (keyboard) said.textContent = pairs.map((pair) => pair.join(' ')).join(', ');
    const x = (cursor % columns + .5) * size, y = (Math.floor(cursor / columns) + .5) * size;
    const wide = tip.offsetWidth, room = box.clientWidth;
    tip.style.left = Math.max(0, x + 16 + wide > room ? x - wide - 16 : x + 16) + 'px';
    tip.style.top = y + 14 + 'px';
  }
  function point(cell, byKey) {
    cursor = cell;
    keyboard = byKey;
    draw();
    tell();
  }
  function choose(owner) {
    only = only === owner || owner < 0 ? null : owner;
    draw();
    drawLegend();
  }

  const cellAt = (event) => {
    const frame = canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - frame.left) / size);
    const cell = Math.floor((event.clientY - frame.top) / size) * columns + column;
    return cells !== null && column < columns && cell >= 0 && cell < cells.codes.length ? cell : -1;
  };
  canvas.addEventListener('pointermove', (event) => point(cellAt(event), false));
  canvas.addEventListener('pointerleave', () => { if (!keyboard) point(-1, false); });
  canvas.addEventListener('blur', () => point(-1, false));
  canvas.addEventListener('click', (event) => {
    const cell = cellAt(event);
    if (byOwner && cell >= 0) choose(cells.owners[cell]);
  });
  canvas.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || cells === null) return;
    const many = event.shiftKey ? 10 : 1;
    const by = {
      ArrowLeft: -many, ArrowRight: many, ArrowUp: -many * columns, ArrowDown: many * columns,
    }[event.key];
    if (event.key === 'Escape') { only = null; drawLegend(); point(-1, false); return; }
    if (by === undefined) return;
    const last = cells.codes.length - 1;
    point(cursor < 0 ? 0 : Math.max(0, Math.min(last, cursor + by)), true);
    event.preventDefault();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    readPalette();
    draw();
    shownLegend = '';
    if (pool) drawLegend();
  });
  new ResizeObserver(() => { layOut(); draw(); }).observe(box);
  readPalette();

  return {
    show(moment) {
      const many = cells === null ? -1 : cells.codes.length;
      ({cells, pool, top} = moment);
      if (cells === null) return;
      if (cells.codes.length !== many) layOut();
      caption.textContent = cells.per_cell === 1 ? 'each square is one block'
        : `each square is ${whole(cells.per_cell)} neighbouring blocks`;
      if (cursor >= cells.codes.length) cursor = -1;
      draw();
      drawLegend();
      tell();
    },
    color(wanted) {
      byOwner = wanted;
      only = null;
      draw();
      if (pool) drawLegend();
    },
    facts: (cell) => facts(cell),
    get size() { return {size, columns}; },
  };
}
