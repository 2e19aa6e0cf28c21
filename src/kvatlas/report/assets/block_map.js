// The block map: a canvas with a square per block, a time slider, and what is under the pointer.
'use strict';
(async () => {
  const source = document.getElementById('frames');
  if (!source) return;
  const $ = (id) => document.getElementById(id);
  const canvas = $('blocks'), slider = $('moment');
  const message = (text) => { $('map-message').hidden = false; $('map-message').textContent = text; };
  if (typeof DecompressionStream === 'undefined') {
    message('This browser is too old to show the map: it needs DecompressionStream (2023).');
    return;
  }
  const data = JSON.parse(source.textContent);
  source.textContent = '';
  const frames = await BlockFrames.open(data);
  const blocks = data.blocks, last = frames.count - 1;
  const STATES = ['empty', 'cached, free to evict', 'in use', 'null block'];
  const whole = (number) => number.toLocaleString('en');

  const {
    view, readPalette, layOut, draw, drawBlocks, overlay, clamp, reveal, zoomTo, blockAt, middleOf,
    ownerCss,
  } = blockView(canvas, frames);

  // Legend with counts: nothing is said by colour alone.
  function legend() {
    const counts = [0, 0, 0, 0], held = new Uint32Array(data.requests);
    for (let block = 0; block < blocks; block++) {
      counts[frames.state[block]]++;
      if (frames.owner[block] >= 0) held[frames.owner[block]]++;
    }
    const box = $('map-legend');
    box.replaceChildren();
    const key = (color, shape, text, value, owner) => {
      const item = document.createElement(owner === undefined ? 'span' : 'button');
      item.className = 'key';
      const swatch = document.createElement('i');
      swatch.className = 'cell ' + shape;
      swatch.style.color = color;
      const number = document.createElement('b');
      number.textContent = value;
      item.append(swatch, text + ' ', number);
      if (owner !== undefined) {
        item.setAttribute('aria-pressed', String(view.only === owner));
        item.addEventListener('click', () => only(view.only === owner ? null : owner));
      }
      box.append(item);
    };
    const share = (count) => `${whole(count)} (${(100 * count / blocks).toFixed(1)}%)`;
    if (!view.byOwner) {
      key('var(--used)', 'full', 'in use', share(counts[2]));
      key('var(--evictable)', 'ring', 'cached, free to evict', share(counts[1]));
      key('var(--empty)', 'hollow', 'empty', share(counts[0]));
      if (counts[3]) key('var(--null)', 'hollow', 'null block (a placeholder of vLLM)', '1');
    } else {
      const owners = [...held.keys()].filter((who) => held[who] > 0);
      const most = [...owners].sort((a, b) => held[b] - held[a] || a - b).slice(0, 6);
      if (view.only !== null && !most.includes(view.only)) most.push(view.only);
      for (const who of most) {
        key(ownerCss(who), 'full', nameOf(who), whole(held[who]), who);
      }
      const rest = document.createElement('span');
      rest.textContent = `${whole(owners.length)} owners in 8 colours; pale: left in the cache by `
        + 'its last owner. Click a name or a block to see only its owner.';
      box.append(rest);
    }
  }

  const nameOf = (request) => {
    const name = data.names[request];
    return name && name !== String(request) ? `request ${request} (${name})` : `request ${request}`;
  };
  function span(seconds) {
    if (seconds < 1) return `${Math.round(1000 * seconds)} ms`;
    if (seconds < 100) return `${seconds.toFixed(1)} s`;
    const minutes = Math.floor(seconds / 60);
    if (minutes < 60) return `${minutes} min ${Math.round(seconds % 60)} s`;
    return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  }
  const clock = (second) => {
    const total = (frames.second(data.ticks[last]) - data.start) / data.perUnit;
    const places = Math.max(0, Math.min(3, 2 - Math.floor(Math.log10(Math.max(total, 1e-9)))));
    return `${(second / data.perUnit).toFixed(places)} ${data.unit}`;
  };

  // What is known of a block, as pairs.
  function facts(block) {
    const state = frames.state[block], owner = frames.owner[block];
    const now = frames.second(data.ticks[frames.frame]);
    const pairs = [['Block', whole(block)], ['State', STATES[state]]];
    if (state === 3) return [...pairs, ['What', 'vLLM keeps block 0 as a placeholder; nobody owns it']];
    if (owner >= 0) pairs.push([state === 2 ? 'Owner' : 'Last owner', nameOf(owner)]);
    pairs.push(['Ref count', whole(frames.refCount[block])
      + (frames.refCount[block] > 1 ? ' (shared; the owner named took it last)' : '')]);
    if (data.hasTimes) {
      const age = Math.max(0, now - frames.second(frames.since[block]));
      pairs.push(['Age', `${span(age)} in this state`]);
    }
    const key = frames.key[block];
    if (data.hasKeys) pairs.push(['Hash', key === frames.none ? 'none (not cached)' : hex(key)]);
    if (data.hasTimes && state !== 0) {
      const next = frames.nextUse[block];
      pairs.push(['Next use', next === 0 ? 'never hit again'
        : `hit in ${span(Math.max(0, frames.second(next - 1) - now))}`]);
    }
    return pairs;
  }
  function hex(key) {
    const digits = BigInt.asUintN(64, BigInt(key)).toString(16);
    return digits.length > 8 ? digits.padStart(16, '0').slice(0, 8) + '…' : digits.padStart(8, '0');
  }
  function mixture(first) {
    // At less than a pixel per block: what is in the dot that holds this block.
    const many = Math.round(1 / view.scale), counts = [0, 0, 0, 0];
    const x = Math.floor(first % view.columns / many) * many;
    const y = Math.floor(Math.floor(first / view.columns) / many) * many;
    for (let row = y; row < y + many; row++) {
      for (let column = x; column < Math.min(view.columns, x + many); column++) {
        const block = row * view.columns + column;
        if (block < blocks) counts[frames.state[block]]++;
      }
    }
    const said = [2, 1, 0].filter((state) => counts[state])
      .map((state) => `${counts[state]} ${STATES[state]}`);
    return [['This dot', said.join(', ')]];
  }

  function tell() {
    const tip = $('tip');
    tip.hidden = view.cursor < 0;
    if (view.cursor < 0) { $('said').textContent = ''; return; }
    const pairs = facts(view.cursor);
    if (view.scale < 1) pairs.unshift(...mixture(view.cursor));
    const list = document.createElement('dl');
    for (const [name, value] of pairs) {
      const term = document.createElement('dt'), said = document.createElement('dd');
      term.textContent = name;
      said.textContent = value;
      list.append(term, said);
    }
    tip.replaceChildren(list);
    $('said').textContent = view.keyboard ? pairs.map((pair) => pair.join(' ')).join(', ') : '';
    const ratio = canvas.width / canvas.clientWidth;
    const [x, y] = middleOf(view.cursor).map((pixel) => pixel / ratio);
    const room = $('map-box').clientWidth, wide = tip.offsetWidth, high = tip.offsetHeight;
    tip.style.left = Math.max(0, Math.min(room - wide, x + 18 + wide > room ? x - wide - 18 : x + 18)) + 'px';
    tip.style.top = Math.max(0, y + 18 + high > canvas.clientHeight ? y - high - 18 : y + 18) + 'px';
  }

  function point(block, keyboard) {
    view.cursor = block;
    view.keyboard = keyboard;
    overlay();
    tell();
  }
  function only(owner) {
    view.only = owner;
    if (owner !== null && !view.byOwner) color(true);
    draw();
    legend();
  }
  function color(byOwner) {
    view.byOwner = byOwner;
    $('by-state').setAttribute('aria-pressed', String(!byOwner));
    $('by-owner').setAttribute('aria-pressed', String(byOwner));
    draw();
    legend();
  }

  function zoom(factor, x, y) { zoomTo(view.scale * factor, x, y); draw(); tell(); }
  function fit() { zoomTo(view.fitted, 0, 0); draw(); tell(); }

  // Time.
  let timer = null;
  function go(frame) {
    frames.go(Math.max(0, Math.min(last, frame)));
    slider.value = frames.frame;
    const second = frames.second(data.ticks[frames.frame]);
    $('when').textContent = `${clock(second)} · moment ${frames.frame + 1} of ${last + 1}`;
    slider.setAttribute('aria-valuetext', clock(second));
    timeAxis.pin(second);
    draw();
    legend();
    tell();
  }
  function play(on) {
    if (on === (timer !== null)) return;
    clearInterval(timer);
    timer = on ? setInterval(() => {
      if (frames.frame === last) play(false); else go(frames.frame + 1);
    }, 300) : null;
    if (on && frames.frame === last) go(0);
    $('play').textContent = on ? '❚❚' : '▶';
    $('play').setAttribute('aria-label', on ? 'Pause' : 'Play');
  }
  const seconds = data.ticks.map((tick) => frames.second(tick));
  timeAxis.onPick = (second) => {
    play(false);
    let best = 0;
    seconds.forEach((each, i) => {
      if (Math.abs(each - second) < Math.abs(seconds[best] - second)) best = i;
    });
    go(best);
  };
  slider.addEventListener('input', () => { play(false); go(+slider.value); });
  $('play').addEventListener('click', () => play(timer === null));
  $('back').addEventListener('click', () => { play(false); go(frames.frame - 1); });
  $('on').addEventListener('click', () => { play(false); go(frames.frame + 1); });
  $('by-state').addEventListener('click', () => { view.only = null; color(false); });
  $('by-owner').addEventListener('click', () => color(true));
  $('closer').addEventListener('click', () => zoom(2, canvas.width / 2, canvas.height / 2));
  $('farther').addEventListener('click', () => zoom(0.5, canvas.width / 2, canvas.height / 2));
  $('fit').addEventListener('click', fit);

  // Pointer.
  let held = null;
  const place = (event) => {
    const box = canvas.getBoundingClientRect(), ratio = canvas.width / box.width;
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
  };
  canvas.addEventListener('pointerdown', (event) => {
    const [x, y] = place(event);
    held = {x, y, left: view.left, top: view.top, moved: false};
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener('pointermove', (event) => {
    const [x, y] = place(event);
    if (held && Math.hypot(x - held.x, y - held.y) > 5) held.moved = true;
    if (held && held.moved) {
      view.left = held.left + x - held.x;
      view.top = held.top + y - held.y;
      clamp();
      drawBlocks();
    }
    point(blockAt([x, y]), false);
  });
  canvas.addEventListener('pointerup', (event) => {
    const block = blockAt(place(event));
    if (held && !held.moved && block >= 0) choose(block);
    held = null;
  });
  canvas.addEventListener('pointercancel', () => { held = null; });
  canvas.addEventListener('pointerleave', () => { if (!held && !view.keyboard) point(-1, false); });
  canvas.addEventListener('wheel', (event) => {
    // With a mouse or two fingers the page scrolls on where there is nothing to zoom out of.
    if (event.deltaY > 0 && view.scale <= view.fitted) return;
    if (event.deltaY < 0 && view.scale >= 64) return;
    event.preventDefault();
    zoom(event.deltaY < 0 ? 2 : 0.5, ...place(event));
  }, {passive: false});
  canvas.addEventListener('blur', () => { if (view.keyboard) point(-1, false); });
  function choose(block) {
    const owner = frames.owner[block];
    only(owner < 0 || view.only === owner ? null : owner);
  }

  // Keys.
  canvas.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const many = event.shiftKey ? 10 : 1;
    const move = (by) => {
      const from = view.cursor < 0 ? 0 : view.cursor + by;
      const block = Math.max(0, Math.min(blocks - 1, from));
      if (reveal(block)) drawBlocks();
      point(block, true);
    };
    const middle = () => view.cursor < 0 ? [canvas.width / 2, canvas.height / 2] : middleOf(view.cursor);
    const keys = {
      ArrowLeft: () => move(-many), ArrowRight: () => move(many),
      ArrowUp: () => move(-many * view.columns), ArrowDown: () => move(many * view.columns),
      '+': () => zoom(2, ...middle()), '=': () => zoom(2, ...middle()), '-': () => zoom(0.5, ...middle()),
      '0': fit, Enter: () => { if (view.cursor >= 0) choose(view.cursor); },
      Escape: () => { only(null); point(-1, false); },
    };
    if (keys[event.key]) { keys[event.key](); event.preventDefault(); }
  });
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const on = document.activeElement;
    const here = on === document.body || on === canvas || on === slider;
    if (!here) return;
    const keys = {
      ' ': () => play(timer === null),
      ',': () => { play(false); go(frames.frame - 1); }, '.': () => { play(false); go(frames.frame + 1); },
    };
    if (on !== document.body) {
      keys.Home = () => { play(false); go(0); };
      keys.End = () => { play(false); go(last); };
    }
    if (on === slider) {
      keys.ArrowLeft = keys.ArrowDown = keys[','];
      keys.ArrowRight = keys.ArrowUp = keys['.'];
    }
    if (keys[event.key]) { keys[event.key](); event.preventDefault(); }
  });

  function redraw() { readPalette(); draw(); legend(); }
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
  let width = 0;
  new ResizeObserver(() => {
    if ($('map-box').clientWidth === width) return;
    width = $('map-box').clientWidth;
    layOut();
    draw();
    tell();
  }).observe($('map-box'));
  readPalette();
  layOut();
  width = $('map-box').clientWidth;
  go(+slider.value);
  window.kvatlasMap = {frames, view, facts, go}; // for tests and the curious
})().catch((error) => {
  const message = document.getElementById('map-message');
  message.hidden = false;
  message.textContent = `The map cannot be drawn: ${error.message}`;
  console.error(error);
});
