// What the page says of a moment and of a place in memory.
'use strict';
function deviceWords(page) {
  const {device, moment, map, flame} = page, {data} = device;
  const $ = (id) => document.getElementById(id);
  const ACTIONS = ['allocated', 'free requested', 'free completed', 'segment from the driver',
    'segment back to the driver', 'pages mapped', 'pages unmapped', 'OUT OF MEMORY', 'snapshot', 'mark'];
  const KINDS = ['in use', 'waits for another stream', 'free, stuck', 'free, releasable',
    'free in a private pool'];
  const number = (event) => wholeText(event + data.first);
  const clock = (event) => data.clock ? timeText(device.time(event)) : '';

  // The figures of the moment under the pointer, or else of the one shown.
  function read() {
    const at = page.hovered === null ? page.shown : page.hovered;
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
  function beside(tip, box, canvas, [px, py]) {
    const ratio = ratioOf(canvas), x = px / ratio, y = py / ratio;
    const room = box.clientWidth, wide = tip.offsetWidth, high = tip.offsetHeight;
    tip.style.left = Math.max(0, Math.min(room - wide, x + 18 + wide > room ? x - wide - 18 : x + 18)) + 'px';
    tip.style.top = Math.max(0, y + 18 + high > canvas.clientHeight && y > high ? y - high - 18 : y + 18) + 'px';
  }
  return {number, clock, shareText, ratioOf, read, say, caption, facts, callsList, pairsList, beside};
}
