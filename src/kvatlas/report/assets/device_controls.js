// Pointer, buttons and keys of the page.
'use strict';
function deviceControls(page) {
  const {device, moment, time, map, flame} = page, {data} = device;
  const $ = (id) => document.getElementById(id);
  const slider = $('event');

  // Time.
  const go = page.ask;
  slider.addEventListener('input', () => go(+slider.value));
  $('back').addEventListener('click', () => go(page.shown - 1));
  $('on').addEventListener('click', () => go(page.shown + 1));
  time.view.onView = () => {
    slider.min = time.view.from;
    slider.max = time.view.to - 1;
    time.put($('time-pin'), page.shown);
    if (page.shown < time.view.from || page.shown >= time.view.to) go(Math.max(time.view.from, Math.min(time.view.to - 1, page.shown)));
  };
  time.listen(go, (event) => { page.hovered = event; page.read(); });
  const zoomTime = (factor) => {
    const span = (time.view.to - time.view.from) * factor;
    const share = (page.shown - time.view.from) / (time.view.to - time.view.from);
    time.zoom(page.shown - span * share, page.shown + span * (1 - share));
  };
  const marksOf = () => [...time.marks.failures, ...time.marks.releases].sort((a, b) => a - b);
  const timeKeys = (key, many) => ({
    ArrowLeft: () => go(page.shown - many), ArrowRight: () => go(page.shown + many),
    ArrowDown: () => go(page.shown - many), ArrowUp: () => go(page.shown + many),
    PageDown: () => go(page.shown - pageOf()), PageUp: () => go(page.shown + pageOf()),
    Home: () => go(time.view.from), End: () => go(time.view.to - 1),
    ',': () => go(page.shown - 1), '.': () => go(page.shown + 1),
    '+': () => zoomTime(0.5), '=': () => zoomTime(0.5), '-': () => zoomTime(2),
    '0': () => time.zoom(0, device.events),
    n: () => { const next = marksOf().find((at) => at > page.shown); if (next !== undefined) go(next); },
    p: () => { const before = marksOf().filter((at) => at < page.shown).pop(); if (before !== undefined) go(before); },
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
  const zoomMap = (factor, at) => { map.zoom(factor, at); map.draw(); page.caption(); };
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
      map.scroll(Math.round((held.y - y) / (19 * page.ratioOf(map.canvas))));
      page.caption();
    }
    page.point(map.placeAt([x, y]), false);
    if (held && held.moved) map.draw();
  });
  map.canvas.addEventListener('pointerup', (event) => {
    if (held && !held.moved) {
      const place = map.placeAt(spot(map.canvas, event));
      page.pinned = moment.at(place) ? place : null;
      page.tell();
    }
    held = null;
  });
  map.canvas.addEventListener('pointercancel', () => { held = null; });
  map.canvas.addEventListener('pointerleave', () => { if (!held) page.point(-1, false); });
  map.canvas.addEventListener('blur', () => page.point(-1, false));
  map.canvas.addEventListener('wheel', (event) => {
    if (event.ctrlKey) {
      zoomMap(event.deltaY < 0 ? 2 : 0.5, spot(map.canvas, event));
      event.preventDefault();
    } else if (map.rowsInAll() > map.view.rows && map.view.perPixel < map.view.fitted) {
      const before = map.view.top;
      map.scroll(Math.sign(event.deltaY) * 2);
      // At its end the page scrolls on.
      if (map.view.top !== before) { map.draw(); page.caption(); event.preventDefault(); }
    }
  }, {passive: false});
  map.canvas.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const many = event.shiftKey ? 10 : 1;
    const keys = {
      ArrowLeft: () => page.step(-many), ArrowRight: () => page.step(many),
      ArrowUp: () => { map.scroll(-many); map.draw(); page.caption(); },
      ArrowDown: () => { map.scroll(many); map.draw(); page.caption(); },
      '+': () => zoomMap(2, middle()), '=': () => zoomMap(2, middle()), '-': () => zoomMap(0.5, middle()),
      '0': () => { map.fit(); map.draw(); page.caption(); },
      Enter: () => { page.pinned = map.view.place >= 0 && moment.at(map.view.place) ? map.view.place : null; page.tell(); },
      Escape: () => { page.pinned = null; page.point(-1, false); page.tell(); },
    };
    const act = keys[event.key] || (',.np'.includes(event.key) ? timeKeys(event.key, 1) : null);
    if (act) { act(); event.preventDefault(); }
  });
  const pressed = (id, on) => $(id).setAttribute('aria-pressed', String(on));
  function colorBy(byStack) {
    map.view.byStack = byStack;
    pressed('by-state', !byStack);
    pressed('by-stack', byStack);
    page.refresh();
  }
  $('by-state').addEventListener('click', () => colorBy(false));
  $('by-stack').addEventListener('click', () => colorBy(true));
  $('closer').addEventListener('click', () => zoomMap(2, middle()));
  $('farther').addEventListener('click', () => zoomMap(0.5, middle()));
  $('fit').addEventListener('click', () => { map.fit(); map.draw(); page.caption(); });
  $('only-none').addEventListener('click', () => page.choose(page.chosen));
  $('kept-close').addEventListener('click', () => { page.pinned = null; page.tell(); });

  // Flame graph.
  function weighBy(stuck) {
    flame.view.stuck = stuck;
    pressed('flame-held', !stuck);
    pressed('flame-stuck', stuck);
    $('ranks-title').textContent = stuck ? 'Stacks that keep most stuck' : 'Stacks that hold most';
    flame.shrink();
    page.rank();
  }
  $('flame-held').addEventListener('click', () => weighBy(false));
  $('flame-stuck').addEventListener('click', () => weighBy(true));
  const takeCalls = (full) => {
    if (page.chosen >= 0) page.choose(page.chosen); // its number is of the other tree
    flame.take(full);
    pressed('flame-telling', !full);
    pressed('flame-full', full);
    page.flameRoot(-1);
    page.rank();
  };
  $('flame-telling').addEventListener('click', () => takeCalls(false));
  $('flame-full').addEventListener('click', () => takeCalls(true));
  $('flame-all').addEventListener('click', () => page.flameRoot(-1));
  flame.canvas.addEventListener('pointermove', (event) => page.flamePoint(flame.nodeAt(spot(flame.canvas, event))));
  flame.canvas.addEventListener('pointerleave', () => page.flamePoint(-2));
  flame.canvas.addEventListener('blur', () => page.flamePoint(-2));
  const flamePick = (node) => {
    if (node < 0) { page.flameRoot(-1); return; }
    page.flameRoot(node === flame.view.root ? -1 : node);
    if (node !== page.chosen) page.choose(node);
  };
  flame.canvas.addEventListener('click', (event) => {
    const node = flame.nodeAt(spot(flame.canvas, event));
    if (node > -2) flamePick(node);
  });
  flame.canvas.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const order = flame.order().filter((node) => node >= 0), at = order.indexOf(flame.view.point);
    const move = (to) => { if (order.length) page.flamePoint(order[Math.max(0, Math.min(order.length - 1, to))]); };
    const keys = {
      ArrowRight: () => move(at + 1), ArrowLeft: () => move(at - 1),
      ArrowDown: () => move(at + 1), ArrowUp: () => move(order.indexOf(flame.parentOf(flame.view.point))),
      Home: () => move(0), Enter: () => { if (flame.view.point >= 0) flamePick(flame.view.point); },
      Escape: () => { page.flameRoot(-1); if (page.chosen >= 0) page.choose(page.chosen); },
    };
    if (keys[event.key]) {
      keys[event.key]();
      event.preventDefault();
      if (flame.view.point >= 0) $('said').textContent = $('flame-tip').textContent;
    }
  });
}
