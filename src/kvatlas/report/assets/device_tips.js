// What stands beside the pictures: tips, the block that was clicked, the stacks that weigh most.
'use strict';
function deviceTips(page) {
  const {device, moment, map, flame} = page;
  const $ = (id) => document.getElementById(id);

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
      const texts = [bytesText(weights[stack]), page.shareText(weights[stack] / total),
        wholeText(moment.count[stack]), device.nameOf(stack)];
      texts.slice(0, 3).forEach((text, k) => { if (cells[k].textContent !== text) cells[k].textContent = text; });
      if (button.textContent !== texts[3]) button.textContent = texts[3];
      button.dataset.node = node;
      button.disabled = node < 0;
      button.setAttribute('aria-pressed', String(node >= 0 && node === page.chosen));
    });
    $('ranks-none').hidden = most.length > 0;
  }

  // A call that was chosen: its blocks stand out in the map.
  function choose(node) {
    page.chosen = node === page.chosen ? -1 : node;
    map.view.under = flame.stacksUnder(page.chosen);
    $('only').hidden = page.chosen < 0;
    if (page.chosen >= 0) {
      $('only-name').textContent = flame.callOf(page.chosen).label;
    }
    page.refresh();
  }

  // The tip beside the pointer, and the block that was clicked below the map.
  function tell() {
    const tip = $('memory-tip'), {place} = map.view;
    tip.hidden = place < 0;
    if (place >= 0) {
      const {pairs, calls, telling} = page.facts(place);
      const parts = [page.pairsList(pairs)];
      if (calls.length) {
        parts.push(page.callsList(telling.slice(0, 12), true));
        const more = calls.length - Math.min(12, telling.length);
        if (more) parts.push(`and ${more} more calls: click to keep all in view`);
      }
      tip.replaceChildren(...parts);
      page.beside(tip, $('memory-box'), map.canvas, map.spotOf(place));
    }
    if (page.pinned !== null) {
      const {pairs, calls} = page.facts(page.pinned);
      $('kept').replaceChildren(page.pairsList(pairs), page.callsList(calls, false));
    }
    $('kept-box').hidden = page.pinned === null;
  }
  function point(place, keyboard) {
    if (place === map.view.place) return;
    map.view.place = place;
    map.draw();
    tell();
    if (keyboard) {
      const {pairs, telling} = page.facts(place);
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
    page.caption();
  }

  function flameTip(node) {
    const tip = $('flame-tip');
    tip.hidden = node < 0;
    if (node < 0) return;
    const call = flame.callOf(node), units = flame.valueOf(node);
    tip.replaceChildren(page.pairsList([['Call', call.name], ['At', `${call.file}:${call.line}`],
      [flame.view.stuck ? 'Stuck' : 'Held', `${bytesText(units)}, `
        + `${page.shareText(units / Math.max(1, flame.view.total))} of all`]]));
    const spot = flame.spotOf(node);
    if (spot) page.beside(tip, $('flame-box'), flame.canvas, spot);
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
  return {rank, choose, tell, point, step, flamePoint, flameRoot};
}
