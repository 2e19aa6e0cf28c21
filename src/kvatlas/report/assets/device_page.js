// The page of a device's snapshot: the moment that is shown, and what answers to it.
'use strict';
(async () => {
  const source = document.getElementById('device');
  if (!source) return;
  const $ = (id) => document.getElementById(id);
  if (typeof DecompressionStream === 'undefined') {
    throw new Error('this browser is too old: it needs DecompressionStream (2023)');
  }
  const parsed = JSON.parse(source.textContent);
  source.textContent = '';
  const device = await DeviceData.open(parsed), {data} = device;
  const palette = devicePalette(device);
  const moment = new DeviceMoment(device);
  const time = deviceTimeline(device, palette);
  const map = deviceMap(device, moment, palette);
  const flame = deviceFlame(device, moment, palette);
  const slider = $('event');
  const ACTIONS = ['allocated', 'free requested', 'free completed', 'segment from the driver',
    'segment back to the driver', 'pages mapped', 'pages unmapped', 'OUT OF MEMORY', 'snapshot', 'mark'];
  const KINDS = ['in use', 'waits for another stream', 'free, stuck', 'free, releasable',
    'free in a private pool'];
  const number = (event) => wholeText(event + data.first);
  const clock = (event) => data.clock ? timeText(device.time(event)) : '';
  let shown = -1, hovered = null, pinned = null;

  // One frame for all that happened since the last one.
  let wanted = null, stale = false;
  function ask(event) {
    const first = wanted === null && !stale;
    wanted = Math.max(0, Math.min(device.events - 1, event));
    if (first) requestAnimationFrame(frame);
  }
  function refresh() {
    const first = wanted === null && !stale;
    stale = true;
    if (first) requestAnimationFrame(frame);
  }
  function frame() {
    const event = wanted === null ? shown : wanted;
    wanted = null;
    stale = false;
    show(event);
  }
  function show(event) {
    shown = event;
    moment.go(event);
    slider.value = event;
    $('when').textContent = `event ${number(event)}${data.clock ? ' · ' + clock(event) : ''}`;
    slider.setAttribute('aria-valuetext', $('when').textContent);
    time.put($('time-pin'), event);
    read();
    say(event);
    flame.weigh();
    for (const picture of [map, flame]) {
      late.add(picture);
      if (fresh || inSight(picture.canvas)) draw(picture);
    }
    fresh = false;
    clearTimeout(rest);
    rest = setTimeout(settle, 150);
    caption();
    rank();
    tell();
  }
  // Pictures that are not in sight are drawn when they come into it, or when nothing moves.
  const late = new Set();
  let fresh = true, rest = null;
  function settle() {
    for (const picture of late) draw(picture);
  }
  window.addEventListener('beforeprint', settle);
  function draw(picture) {
    late.delete(picture);
    picture.draw();
  }
  function inSight(canvas) {
    const {top, bottom} = canvas.getBoundingClientRect();
    return bottom > -100 && top < innerHeight + 100;
  }
  document.addEventListener('scroll', () => {
    for (const picture of late) if (inSight(picture.canvas)) draw(picture);
  }, {passive: true});

  // The figures of the moment under the pointer, or else of the one shown.
  function read() {
    const at = hovered === null ? shown : hovered;
    const {reserved, allocated, active, stuck, releasable, idle} = device;
    const values = {reserved: reserved[at], allocated: allocated[at], waiting: active[at] - allocated[at],
      stuck: stuck[at], releasable: releasable[at], idle: idle[at]};
    for (const [name, units] of Object.entries(values)) {
      const out = $('now-' + name);
      if (out) out.textContent = bytesText(units);
    }
    $('read-at').textContent = `at event ${number(at)}${data.clock ? ' · ' + clock(at) : ''}`;
  }
  // What happened with this event.
  function say(event) {
    const action = device.action[event];
    let text = ACTIONS[action], block = -1;
    if (action <= 2) {
      const when = [device.born, device.freed, device.gone][action];
      block = action === 0 ? last(device.born, event) : when.indexOf(event);
      if (block >= 0) text = `${bytesText(device.units[block])} ${text}`;
    } else if (action === 7) {
      const found = data.failures.find(([at]) => at === event);
      if (found) text += `: ${bytesText(found[1] / UNIT)} asked, ${bytesText(found[2] / UNIT)} free`;
    }
    if (block >= 0 && device.trees.full.leaf[device.stack[block]] >= 0) {
      text += ` for ${device.nameOf(device.stack[block])}`;
    }
    $('happened').textContent = text;
    $('happened').className = action === 7 ? 'alarm' : '';
  }
  function caption() {
    const {perPixel, top, rows} = map.view, all = map.rowsInAll();
    $('map-scale').textContent = `One pixel of width is ${bytesText(perPixel * ratioOf(map.canvas))}`
      + (all > rows ? `; rows ${top + 1} to ${Math.min(all, top + rows)} of ${wholeText(all)}.` : '.');
  }
  const ratioOf = (canvas) => canvas.width / Math.max(1, canvas.clientWidth);

  const shareText = (share) => share > 0 && share < 0.0005 ? '<0.1%' : `${(100 * share).toFixed(1)}%`;
  // The stacks that weigh most, as a table.
  function rank() {
    const weights = flame.view.stuck ? moment.stuck : moment.held;
    const most = [];
    for (let stack = 0; stack < weights.length; stack++) {
      if (weights[stack] <= 0) continue;
      if (most.length === 8 && weights[stack] <= weights[most[7]]) continue;
      most.push(stack);
      most.sort((a, b) => weights[b] - weights[a] || a - b);
      if (most.length > 8) most.pop();
    }
    const total = Math.max(1, flame.view.total);
    const rows = $('ranks').tBodies[0];
    while (rows.rows.length < most.length) {
      const row = rows.insertRow();
      for (const kind of ['n right', 'n right', 'n right', '']) row.insertCell().className = kind;
      const button = document.createElement('button');
      row.cells[3].append(button);
      button.addEventListener('click', () => choose(+button.dataset.node));
    }
    while (rows.rows.length > most.length) rows.deleteRow(-1);
    most.forEach((stack, i) => {
      const cells = rows.rows[i].cells, button = cells[3].firstChild, node = flame.leafOf(stack);
      const texts = [bytesText(weights[stack]), shareText(weights[stack] / total),
        wholeText(moment.count[stack]), device.nameOf(stack)];
      texts.slice(0, 3).forEach((text, k) => { if (cells[k].textContent !== text) cells[k].textContent = text; });
      if (button.textContent !== texts[3]) button.textContent = texts[3];
      button.dataset.node = node;
      button.disabled = node < 0;
      button.setAttribute('aria-pressed', String(node >= 0 && node === chosen));
    });
    $('ranks-none').hidden = most.length > 0;
  }

  // A call that was chosen: its blocks stand out in the map.
  let chosen = -1;
  function choose(node) {
    chosen = node === chosen ? -1 : node;
    map.view.under = flame.stacksUnder(chosen);
    $('only').hidden = chosen < 0;
    if (chosen >= 0) {
      $('only-name').textContent = flame.callOf(chosen).label;
    }
    refresh();
  }

  // What is known of a place of the map, as pairs, and the calls of its block.
  function facts(place) {
    const found = moment.at(place);
    if (!found) {
      return {pairs: [['Address', device.address(place)], ['State', 'not PyTorch\'s at this moment']], calls: [], telling: []};
    }
    const {kind, from, units, block, run} = found, {segment} = device;
    const pairs = [[block >= 0 ? 'Block' : 'Free', `${bytesText(units)} at ${device.address(from)}`],
      ['State', KINDS[kind]]];
    let calls = [], telling = [];
    if (block >= 0) {
      const slack = device.slack[block];
      if (slack) pairs.push(['Asked for', `${wholeText(units * UNIT - slack)} of ${wholeText(units * UNIT)} bytes`]);
      pairs.push(['Allocated', bornText(block)]);
      const freed = device.freed[block];
      pairs.push(['Freed', freed === NEVER ? 'not while it was recorded' : freed < 0 ? 'before the first event shown'
        : `event ${number(freed)}`]);
      calls = device.calls(device.stack[block]);
      telling = device.calls(device.stack[block], 'telling');
    }
    const {units: whole, blocks, stacks} = moment.about(run), flags = segment.flags[run];
    if (block < 0 && kind === STUCK) {
      pairs.push(['Pinned by', `${wholeText(blocks)} ${blocks === 1 ? 'block' : 'blocks'} of ${wholeText(stacks)} `
        + `${stacks === 1 ? 'stack' : 'stacks'}; ${bytesText(moment.kept[run])} stuck in this segment`]);
    }
    const pool = data.pools[segment.pool[run]];
    pairs.push(['Segment', `${bytesText(whole)}, ${flags & 1 ? 'small' : 'large'} pool`
      + (flags & 2 ? ', expandable' : '') + (segment.pool[run] ? `, private pool ${pool.join('.')}` : '')
      + `, stream ${data.deviceStreams[segment.stream[run]]}`]);
    return {pairs, calls, telling};
  }
  function bornText(block) {
    const born = device.born[block];
    if (born >= 0) return `event ${number(born)}${data.clock ? ' · ' + clock(born) : ''}`;
    const since = device.since[block];
    return since ? `event ${wholeText(data.first - since)}` : 'before the recording';
  }
  function callsList(calls, short) {
    const list = document.createElement('ol');
    list.className = 'calls';
    for (const call of calls) {
      const item = document.createElement('li'), name = document.createElement('b');
      name.textContent = short ? call.label.replace(/ \(.*/, '') : call.name;
      item.append(name, call.line ? ` ${flame.shortFile(call.file)}:${call.line}` : '');
      item.title = `${call.file}:${call.line}`;
      list.append(item);
    }
    return list;
  }
  function pairsList(pairs) {
    const list = document.createElement('dl');
    for (const [name, value] of pairs) {
      const term = document.createElement('dt'), said = document.createElement('dd');
      term.textContent = name;
      said.textContent = value;
      list.append(term, said);
    }
    return list;
  }
  // The tip beside the pointer, and the block that was clicked below the map.
  function tell() {
    const tip = $('memory-tip'), {place} = map.view;
    tip.hidden = place < 0;
    if (place >= 0) {
      const {pairs, calls, telling} = facts(place);
      const parts = [pairsList(pairs)];
      if (calls.length) {
        parts.push(callsList(telling.slice(0, 12), true));
        const more = calls.length - Math.min(12, telling.length);
        if (more) parts.push(`and ${more} more calls: click to keep all in view`);
      }
      tip.replaceChildren(...parts);
      beside(tip, $('memory-box'), map.canvas, map.spotOf(place));
    }
    if (pinned !== null) {
      const {pairs, calls} = facts(pinned);
      $('kept').replaceChildren(pairsList(pairs), callsList(calls, false));
    }
    $('kept-box').hidden = pinned === null;
  }
  function beside(tip, box, canvas, [px, py]) {
    const ratio = ratioOf(canvas), x = px / ratio, y = py / ratio;
    const room = box.clientWidth, wide = tip.offsetWidth, high = tip.offsetHeight;
    tip.style.left = Math.max(0, Math.min(room - wide, x + 18 + wide > room ? x - wide - 18 : x + 18)) + 'px';
    tip.style.top = Math.max(0, y + 18 + high > canvas.clientHeight && y > high ? y - high - 18 : y + 18) + 'px';
  }
  function point(place, keyboard) {
    if (place === map.view.place) return;
    map.view.place = place;
    map.draw();
    tell();
    if (keyboard) {
      const {pairs, telling} = facts(place);
      $('said').textContent = [...pairs.map((pair) => pair.join(' ')),
        ...telling.slice(0, 3).map((call) => call.label)].join(', ');
    }
  }
  // From piece to piece of memory, in order of addresses.
  function step(by) {
    const {place} = map.view, found = place < 0 ? null : moment.at(place);
    const edges = [];
    for (let i = 0; i < device.numAlive; i++) edges.push(device.place[device.alive[i]]);
    for (let i = 0; i < device.numThere; i++) edges.push(device.segment.place[device.there[i]]);
    // Where a block ends something free may begin, unless its segment ends there, too.
    const {segment} = device;
    for (let i = 0; i < device.numAlive; i++) {
      const end = device.place[device.alive[i]] + device.units[device.alive[i]];
      const home = device.there[last(moment.places, end, device.numThere)];
      if (end < segment.place[home] + segment.units[home]) edges.push(end);
    }
    const sorted = Float64Array.from(new Set(edges)).sort();
    if (!sorted.length) return;
    const now = place < 0 ? -by : last(sorted, found ? found.from : place);
    const next = sorted[Math.max(0, Math.min(sorted.length - 1, place < 0 ? 0 : now + by))];
    map.reveal(next);
    point(next, true);
    caption();
  }

  function flameTip(node) {
    const tip = $('flame-tip');
    tip.hidden = node < 0;
    if (node < 0) return;
    const call = flame.callOf(node), units = flame.valueOf(node);
    tip.replaceChildren(pairsList([['Call', call.name], ['At', `${call.file}:${call.line}`],
      [flame.view.stuck ? 'Stuck' : 'Held', `${bytesText(units)}, `
        + `${shareText(units / Math.max(1, flame.view.total))} of all`]]));
    const spot = flame.spotOf(node);
    if (spot) beside(tip, $('flame-box'), flame.canvas, spot);
  }
  function flamePoint(node) {
    if (node === flame.view.point) return;
    flame.view.point = node;
    flame.draw();
    flameTip(node);
  }
  function flameRoot(node) {
    flame.view.root = node;
    $('flame-all').hidden = node < 0;
    flame.shrink();
  }

  // Time.
  const go = (event) => ask(event);
  slider.addEventListener('input', () => go(+slider.value));
  $('back').addEventListener('click', () => go(shown - 1));
  $('on').addEventListener('click', () => go(shown + 1));
  time.view.onView = () => {
    slider.min = time.view.from;
    slider.max = time.view.to - 1;
    time.put($('time-pin'), shown);
    if (shown < time.view.from || shown >= time.view.to) go(Math.max(time.view.from, Math.min(time.view.to - 1, shown)));
  };
  time.listen(go, (event) => { hovered = event; read(); });
  const zoomTime = (factor) => {
    const span = (time.view.to - time.view.from) * factor;
    const share = (shown - time.view.from) / (time.view.to - time.view.from);
    time.zoom(shown - span * share, shown + span * (1 - share));
  };
  const marksOf = () => [...time.marks.failures, ...time.marks.releases].sort((a, b) => a - b);
  const timeKeys = (key, many) => ({
    ArrowLeft: () => go(shown - many), ArrowRight: () => go(shown + many),
    ArrowDown: () => go(shown - many), ArrowUp: () => go(shown + many),
    PageDown: () => go(shown - pageOf()), PageUp: () => go(shown + pageOf()),
    Home: () => go(time.view.from), End: () => go(time.view.to - 1),
    ',': () => go(shown - 1), '.': () => go(shown + 1),
    '+': () => zoomTime(0.5), '=': () => zoomTime(0.5), '-': () => zoomTime(2),
    '0': () => time.zoom(0, device.events),
    n: () => { const next = marksOf().find((at) => at > shown); if (next !== undefined) go(next); },
    p: () => { const before = marksOf().filter((at) => at < shown).pop(); if (before !== undefined) go(before); },
  })[key];
  const pageOf = () => Math.max(1, Math.round((time.view.to - time.view.from) / 50));
  for (const element of [slider, $('time-box')]) {
    element.addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const act = timeKeys(event.key, event.shiftKey ? 10 : 1);
      if (act) { act(); event.preventDefault(); }
    });
  }
  for (const button of document.querySelectorAll('[data-event]')) {
    button.addEventListener('click', () => go(+button.dataset.event - data.first));
  }

  // Map.
  const spot = (canvas, event) => {
    const box = canvas.getBoundingClientRect(), ratio = canvas.width / box.width;
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
  };
  const zoomMap = (factor, at) => { map.zoom(factor, at); map.draw(); caption(); };
  const middle = () => map.view.place >= 0 ? map.spotOf(map.view.place)
    : [map.canvas.width / 2, map.canvas.height / 2];
  let held = null;
  map.canvas.addEventListener('pointerdown', (event) => {
    const [x, y] = spot(map.canvas, event);
    held = {x, y, top: map.view.top, moved: false};
    map.canvas.setPointerCapture(event.pointerId);
  });
  map.canvas.addEventListener('pointermove', (event) => {
    const [x, y] = spot(map.canvas, event);
    if (held && Math.abs(y - held.y) > 8) {
      held.moved = true;
      map.view.top = held.top;
      map.scroll(Math.round((held.y - y) / (19 * ratioOf(map.canvas))));
      caption();
    }
    point(map.placeAt([x, y]), false);
    if (held && held.moved) map.draw();
  });
  map.canvas.addEventListener('pointerup', (event) => {
    if (held && !held.moved) {
      const place = map.placeAt(spot(map.canvas, event));
      pinned = moment.at(place) ? place : null;
      tell();
    }
    held = null;
  });
  map.canvas.addEventListener('pointercancel', () => { held = null; });
  map.canvas.addEventListener('pointerleave', () => { if (!held) point(-1, false); });
  map.canvas.addEventListener('blur', () => point(-1, false));
  map.canvas.addEventListener('wheel', (event) => {
    if (event.ctrlKey) {
      zoomMap(event.deltaY < 0 ? 2 : 0.5, spot(map.canvas, event));
      event.preventDefault();
    } else if (map.rowsInAll() > map.view.rows && map.view.perPixel < map.view.fitted) {
      const before = map.view.top;
      map.scroll(Math.sign(event.deltaY) * 2);
      // At its end the page scrolls on.
      if (map.view.top !== before) { map.draw(); caption(); event.preventDefault(); }
    }
  }, {passive: false});
  map.canvas.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const many = event.shiftKey ? 10 : 1;
    const keys = {
      ArrowLeft: () => step(-many), ArrowRight: () => step(many),
      ArrowUp: () => { map.scroll(-many); map.draw(); caption(); },
      ArrowDown: () => { map.scroll(many); map.draw(); caption(); },
      '+': () => zoomMap(2, middle()), '=': () => zoomMap(2, middle()), '-': () => zoomMap(0.5, middle()),
      '0': () => { map.fit(); map.draw(); caption(); },
      Enter: () => { pinned = map.view.place >= 0 && moment.at(map.view.place) ? map.view.place : null; tell(); },
      Escape: () => { pinned = null; point(-1, false); tell(); },
    };
    const act = keys[event.key] || (',.np'.includes(event.key) ? timeKeys(event.key, 1) : null);
    if (act) { act(); event.preventDefault(); }
  });
  const pressed = (id, on) => $(id).setAttribute('aria-pressed', String(on));
  function colorBy(byStack) {
    map.view.byStack = byStack;
    pressed('by-state', !byStack);
    pressed('by-stack', byStack);
    refresh();
  }
  $('by-state').addEventListener('click', () => colorBy(false));
  $('by-stack').addEventListener('click', () => colorBy(true));
  $('closer').addEventListener('click', () => zoomMap(2, middle()));
  $('farther').addEventListener('click', () => zoomMap(0.5, middle()));
  $('fit').addEventListener('click', () => { map.fit(); map.draw(); caption(); });
  $('only-none').addEventListener('click', () => choose(chosen));
  $('kept-close').addEventListener('click', () => { pinned = null; tell(); });

  // Flame graph.
  function weighBy(stuck) {
    flame.view.stuck = stuck;
    pressed('flame-held', !stuck);
    pressed('flame-stuck', stuck);
    $('ranks-title').textContent = stuck ? 'Stacks that keep most stuck' : 'Stacks that hold most';
    flame.shrink();
    rank();
  }
  $('flame-held').addEventListener('click', () => weighBy(false));
  $('flame-stuck').addEventListener('click', () => weighBy(true));
  const takeCalls = (full) => {
    if (chosen >= 0) choose(chosen); // its number is of the other tree
    flame.take(full);
    pressed('flame-telling', !full);
    pressed('flame-full', full);
    flameRoot(-1);
    rank();
  };
  $('flame-telling').addEventListener('click', () => takeCalls(false));
  $('flame-full').addEventListener('click', () => takeCalls(true));
  $('flame-all').addEventListener('click', () => flameRoot(-1));
  flame.canvas.addEventListener('pointermove', (event) => flamePoint(flame.nodeAt(spot(flame.canvas, event))));
  flame.canvas.addEventListener('pointerleave', () => flamePoint(-2));
  flame.canvas.addEventListener('blur', () => flamePoint(-2));
  const flamePick = (node) => {
    if (node < 0) { flameRoot(-1); return; }
    flameRoot(node === flame.view.root ? -1 : node);
    if (node !== chosen) choose(node);
  };
  flame.canvas.addEventListener('click', (event) => {
    const node = flame.nodeAt(spot(flame.canvas, event));
    if (node > -2) flamePick(node);
  });
  flame.canvas.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const order = flame.order().filter((node) => node >= 0), at = order.indexOf(flame.view.point);
    const move = (to) => { if (order.length) flamePoint(order[Math.max(0, Math.min(order.length - 1, to))]); };
    const keys = {
      ArrowRight: () => move(at + 1), ArrowLeft: () => move(at - 1),
      ArrowDown: () => move(at + 1), ArrowUp: () => move(order.indexOf(flame.parentOf(flame.view.point))),
      Home: () => move(0), Enter: () => { if (flame.view.point >= 0) flamePick(flame.view.point); },
      Escape: () => { flameRoot(-1); if (chosen >= 0) choose(chosen); },
    };
    if (keys[event.key]) {
      keys[event.key]();
      event.preventDefault();
      if (flame.view.point >= 0) $('said').textContent = $('flame-tip').textContent;
    }
  });

  function redraw() { palette.read(); time.draw(); refresh(); }
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
  let width = 0;
  const sized = () => {
    if ($('memory-box').clientWidth === width) return;
    width = $('memory-box').clientWidth;
    map.layOut();
    time.draw();
    refresh();
  };
  map.layOut();
  width = $('memory-box').clientWidth;
  palette.read();
  time.draw();
  slider.min = 0;
  slider.max = device.events - 1;
  show(Math.max(0, Math.min(device.events - 1, +slider.dataset.start - data.first)));
  new ResizeObserver(sized).observe($('memory-box'));
  window.kvatlasDevice = {device, moment, time, map, flame, show, facts, go, choose, get shown() { return shown; }};
})().catch((error) => {
  const message = document.getElementById('device-message');
  message.hidden = false;
  message.textContent = `The pictures cannot be drawn: ${error.message}`;
  console.error(error);
});
function devicePalette(device) {
  const palette = {};
  const mixed = (a, b, share) => a.map((part, i) => part * share + b[i] * (1 - share));
  const hue = (degrees, dark) => {
    const s = 0.55, l = dark ? 0.6 : 0.55, k = (n) => (n + degrees / 30) % 12, a = s * Math.min(l, 1 - l);
    return [0, 8, 4].map((n) => 255 * (l - a * Math.max(-1, Math.min(k(n) - 3, 9 - k(n), 1))));
  };
  const css = (color) => `rgb(${color.map(Math.round)})`;
  let stacks = [], calls = [];
  palette.read = () => {
    const style = getComputedStyle(document.documentElement);
    const rgb = (name) => {
      const hex = style.getPropertyValue(name).trim().slice(1);
      const wide = hex.length === 3 ? [...hex].map((digit) => digit + digit).join('') : hex;
      return [0, 2, 4].map((at) => parseInt(wide.slice(at, at + 2), 16));
    };
    palette.background = rgb('--bg');
    palette.text = rgb('--text');
    palette.soft = rgb('--soft');
    palette.line = rgb('--line');
    palette.alarm = rgb('--alarm');
    palette.kinds = ['--used', '--m3', '--stuck', '--empty', '--null'].map(rgb);
    palette.chosen = rgb('--s3');
    palette.dimmed = mixed(palette.kinds[LIVE], palette.background, 0.3);
    const dark = palette.background[0] < 128;
    // Neighbouring numbers get distant hues (golden steps), none like the colour of stuck bytes.
    stacks = Array.from({length: device.stacks}, (_, i) => hue(70 + i * 154.508 % 250, dark));
    // Calls of one file have one hue: yellow to green, away from the colours of states.
    const files = new Map();
    calls = device.frames.map(({file}) => {
      if (!files.has(file)) files.set(file, files.size);
      return css(mixed(hue(35 + files.get(file) * 47 % 150, dark), palette.background, dark ? 0.45 : 0.6));
    });
  };
  palette.ofStack = (stack) => stacks[stack];
  palette.ofCall = (frame) => calls[frame];
  return palette;
}
