// The flame graph of one moment: bytes by stack, the outermost calls on top.
'use strict';
function deviceFlame(device, moment, palette) {
  const canvas = document.getElementById('flame'), screen = canvas.getContext('2d');
  const {frames} = device;
  const HIGH = 19; // CSS pixels
  const view = {stuck: false, full: false, root: -1, point: -2, total: 0, unknown: 0};
  let frame, parent, leaf, nodes, values, starts, next, depths;
  // Takes the calls that tell something, or all of them.
  function take(full) {
    ({frame, parent, leaf} = device.trees[full ? 'full' : 'telling']);
    view.full = full;
    view.root = -1;
    view.point = -2;
    nodes = frame.length;
    [values, starts, next] = [0, 0, 0].map(() => new Float64Array(nodes));
    depths = new Int32Array(nodes);
    for (let i = 0; i < nodes; i++) depths[i] = parent[i] < 0 ? 0 : depths[parent[i]] + 1;
  }
  take(false);
  const ratio = () => window.devicePixelRatio || 1;
  let boxes = []; // [node, x, y, width] of what is drawn; node -1: everything, -2: not known
  const shortFile = (file) => file.split(/[\\/]/).slice(-2).join('/');

  function weigh() {
    const weights = view.stuck ? moment.stuck : moment.held;
    values.fill(0);
    view.total = view.unknown = 0;
    for (let stack = 0; stack < leaf.length; stack++) {
      view.total += weights[stack];
      if (leaf[stack] < 0) view.unknown += weights[stack];
      else values[leaf[stack]] += weights[stack];
    }
    for (let i = nodes - 1; i >= 0; i--) if (parent[i] >= 0) values[parent[i]] += values[i];
    let top = 0;
    for (let i = 0; i < nodes; i++) {
      next[i] = starts[i] = parent[i] < 0 ? top : next[parent[i]];
      if (parent[i] < 0) top += values[i]; else next[parent[i]] += values[i];
    }
  }
  // The calls that everything below a node goes through are one box: the last of them.
  function trunk(from) {
    const wanted = from < 0 ? view.total - view.unknown : values[from];
    let end = from;
    for (let i = from + 1; i < nodes; i++) {
      if (parent[i] === end && values[i] >= wanted * (1 - 1e-9) && wanted > 0) end = i;
    }
    return end;
  }
  function under(node) {
    if (node < 0) return null;
    const found = new Uint8Array(nodes);
    for (let i = node; i < nodes; i++) {
      found[i] = i === node || (parent[i] >= 0 && found[parent[i]]) ? 1 : 0;
    }
    return found;
  }

  // Which stacks go through a node; null: all.
  function stacksUnder(node) {
    const inside = under(node);
    return inside && Uint8Array.from(leaf, (end) => end >= 0 && inside[end] ? 1 : 0);
  }
  const callOf = (node) => frames[frame[node]];
  const leafOf = (stack) => leaf[stack];
  const parentOf = (node) => node < 0 ? -1 : parent[node];
  const valueOf = (node) => values[node];

  function draw() {
    const width = Math.max(100, Math.round(canvas.parentElement.clientWidth * ratio()));
    const root = view.root >= 0 && values[view.root] > 0 ? view.root : -1;
    const base = trunk(root), baseDepth = base < 0 ? -1 : depths[base];
    const from = base < 0 ? 0 : starts[base], known = base < 0 ? view.total - view.unknown : values[base];
    const unknown = root < 0 ? view.unknown : 0, span = known + unknown;
    const inside = under(base);
    boxes = [[base, 0, 0, width]];
    let deepest = 0;
    if (span > 0) {
      for (let i = base < 0 ? 0 : base + 1; i < nodes; i++) {
        if (values[i] <= 0 || (inside && !inside[i])) continue;
        const x = (starts[i] - from) / span * width, wide = values[i] / span * width;
        if (wide < 0.7) continue;
        const row = depths[i] - baseDepth;
        deepest = Math.max(deepest, row);
        boxes.push([i, x, row, wide]);
      }
      if (unknown > 0) {
        const wide = unknown / span * width;
        boxes.push([-2, width - wide, 1, wide]);
        deepest = Math.max(deepest, 1);
      }
    }
    const step = Math.round(HIGH * ratio());
    const height = Math.max(4, deepest + 1) * step;
    if (canvas.width !== width) canvas.width = width;
    // Its height only grows: what stands below must not jump while time moves.
    if (canvas.height < height) canvas.height = height;
    canvas.style.height = canvas.height / ratio() + 'px';
    screen.fillStyle = `rgb(${palette.background})`;
    screen.fillRect(0, 0, width, canvas.height);
    screen.font = `${12 * ratio()}px system-ui, sans-serif`;
    screen.textBaseline = 'middle';
    for (const [node, x, row, wide] of boxes) {
      screen.fillStyle = row === 0 || node < 0 ? `rgb(${palette.line})` : palette.ofCall(frame[node]);
      const gap = wide > 3 ? ratio() : 0;
      screen.fillRect(x, row * step, Math.max(0.5, wide - gap), step - ratio());
      if (node === view.point && view.point !== -2) {
        screen.strokeStyle = `rgb(${palette.text})`;
        screen.lineWidth = 2 * ratio();
        screen.strokeRect(x + ratio(), row * step + ratio(), Math.max(1, wide - 3 * ratio()), step - 3 * ratio());
      }
      if (wide > 34 * ratio()) {
        screen.fillStyle = `rgb(${palette.text})`;
        screen.fillText(clipped(label(node, row), wide - 8 * ratio()), x + 4 * ratio(), (row + 0.5) * step);
      }
    }
    canvas.dataset.boxes = boxes.length;
  }
  function label(node, row) {
    if (node === -2) return 'stack not known';
    if (node < 0) return `all: ${bytesText(view.total)}`;
    const said = frames[frame[node]].label;
    return row === 0 && view.root < 0
      ? `all: ${bytesText(view.total)}, ${depths[node] + 1} calls in common, up to ${said}` : said;
  }
  const widths = new Map(); // of letters, measured once
  function clipped(text, room) {
    const letter = widths.get(screen.font) || screen.measureText('n').width;
    widths.set(screen.font, letter);
    const fits = Math.floor(room / letter);
    return text.length <= fits ? text : fits < 3 ? '' : text.slice(0, fits - 1) + '…';
  }
  // The node at a pixel; -1: everything, -2: nothing.
  function nodeAt([x, y]) {
    const row = Math.floor(y / Math.round(HIGH * ratio()));
    const found = boxes.find(([, left, at, wide]) => at === row && x >= left && x < left + wide);
    return found ? found[0] : -2;
  }
  function spotOf(node) {
    const found = boxes.find((box) => box[0] === node);
    return found ? [found[1] + found[3] / 2, (found[2] + 0.5) * HIGH * ratio()] : null;
  }
  const order = () => boxes.map((box) => box[0]);
  function shrink() { canvas.height = 1; weigh(); draw(); }
  return {
    canvas, view, take, weigh, draw, shrink, nodeAt, spotOf, stacksUnder, order, shortFile, callOf, leafOf,
    parentOf, valueOf,
  };
}
