// Bytes over events: who holds them, stacked up to the reserved ones, and the stuck ones by
// themselves. A column of pixels stands for many events and shows the fullest of them.
'use strict';
function bytesText(units) {
  let bytes = units * UNIT, k = 0;
  while (k < 4 && bytes >= 1023.5) { bytes /= 1024; k++; }
  const digits = k === 0 ? 0 : bytes < 9.995 ? 2 : bytes < 99.95 ? 1 : 0;
  return `${+bytes.toFixed(digits)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][k]}`;
}
const wholeText = (number) => Math.round(number).toLocaleString('en');
function timeText(microseconds) {
  const seconds = microseconds / 1e6;
  if (Math.abs(seconds) < 1e-3) return `${wholeText(microseconds)} µs`;
  if (Math.abs(seconds) < 1) return `${(1000 * seconds).toPrecision(3)} ms`;
  if (Math.abs(seconds) < 100) return `${seconds.toPrecision(3)} s`;
  const minutes = Math.floor(seconds / 60);
  return `${minutes} min ${Math.floor(seconds % 60)} s`;
}

// For each of the columns over [from, to), the event with the most, found by batches of 64.
class Fullest {
  constructor(values) {
    this.values = values;
    this.best = new Int32Array(Math.ceil(values.length / 64));
    for (let batch = 0; batch < this.best.length; batch++) {
      this.best[batch] = this.scan(64 * batch, Math.min(values.length, 64 * batch + 64));
    }
  }
  scan(from, to) {
    const {values} = this;
    let best = from;
    for (let i = from + 1; i < to; i++) if (values[i] > values[best]) best = i;
    return best;
  }
  of(from, to) {
    const first = Math.ceil(from / 64), past = Math.floor(to / 64);
    if (first >= past) return this.scan(from, to);
    const {values, best} = this;
    let found = from < 64 * first ? this.scan(from, 64 * first) : best[first];
    for (let batch = first; batch < past; batch++) {
      if (values[best[batch]] > values[found]) found = best[batch];
    }
    if (64 * past < to) {
      const end = this.scan(64 * past, to);
      if (values[end] > values[found]) found = end;
    }
    return found;
  }
}

function deviceTimeline(device, palette) {
  const $ = (id) => document.getElementById(id);
  const canvas = $('timeline'), lower = $('stuck-line'), small = $('overview');
  const fullest = new Fullest(device.active), mostStuck = new Fullest(device.stuck);
  const everything = device.events, marks = {failures: [], releases: []};
  for (let i = 0; i < everything; i++) {
    if (device.action[i] === 7) marks.failures.push(i);
    if (device.action[i] === 4 || device.action[i] === 6) marks.releases.push(i);
  }
  const view = {from: 0, to: everything, onView: null};
  const x = (event, width) => (event - view.from) / (view.to - view.from) * width;

  function fit(element) {
    const ratio = window.devicePixelRatio || 1, box = element.getBoundingClientRect();
    const width = Math.max(50, Math.round(box.width * ratio));
    const height = Math.max(8, Math.round(box.height * ratio));
    if (element.width !== width || element.height !== height) {
      element.width = width;
      element.height = height;
    }
    return element.getContext('2d');
  }
  // The event that each column of pixels shows.
  function samples(width, of) {
    const events = new Int32Array(width), span = view.to - view.from;
    for (let column = 0; column < width; column++) {
      const from = Math.floor(view.from + span * column / width);
      const to = Math.max(from + 1, Math.floor(view.from + span * (column + 1) / width));
      events[column] = of.of(Math.min(from, everything - 1), Math.min(to, everything));
    }
    return events;
  }
  function stacked(element, top) {
    const context = fit(element), {width, height} = element;
    context.clearRect(0, 0, width, height);
    const events = samples(width, fullest);
    const y = (units) => height - units / top * height;
    const base = new Float64Array(width);
    const bands = [[palette.kinds[LIVE], (e) => device.allocated[e]],
      [palette.kinds[WAITING], (e) => device.active[e] - device.allocated[e]],
      [palette.kinds[STUCK], (e) => device.stuck[e]],
      [palette.kinds[IDLE], (e) => device.idle[e]],
      [palette.kinds[RELEASABLE], (e) => device.releasable[e]]];
    for (const [color, units] of bands) {
      context.fillStyle = `rgb(${color})`;
      for (let column = 0; column < width; column++) {
        const more = units(events[column]);
        if (more <= 0) continue;
        const low = y(base[column]), high = y(base[column] + more);
        context.fillRect(column, high, 1, low - high + 0.5);
        base[column] += more;
      }
    }
    context.strokeStyle = `rgb(${palette.text})`;
    context.lineWidth = Math.max(1, (window.devicePixelRatio || 1));
    context.beginPath();
    for (let column = 0; column < width; column++) context.lineTo(column + 0.5, y(base[column]));
    context.stroke();
    return context;
  }
  function below(top) {
    const context = fit(lower), {width, height} = lower;
    context.clearRect(0, 0, width, height);
    const events = samples(width, mostStuck);
    context.fillStyle = `rgb(${palette.kinds[STUCK]})`;
    for (let column = 0; column < width; column++) {
      const high = device.stuck[events[column]] / top * height;
      if (high > 0) context.fillRect(column, height - Math.max(1, high), 1, Math.max(1, high));
    }
  }
  function uprights(context, color, events, from, to) {
    const {width, height} = context.canvas, seen = new Set();
    context.fillStyle = color;
    const ratio = window.devicePixelRatio || 1;
    for (let i = last(events, view.from); i < events.length && events[i] < view.to; i++) {
      const at = Math.round(x(events[i] + 0.5, width));
      if (events[i] < view.from || seen.has(at)) continue;
      seen.add(at);
      context.fillRect(at - ratio / 2, from * height, 1.5 * ratio, (to - from) * height);
    }
  }
  function ticksOf(top, most) {
    const rough = top / most, size = 2 ** Math.floor(Math.log2(rough));
    const step = [1, 2, 4].map((m) => size * m).find((each) => each >= rough * 0.999);
    const ticks = [];
    for (let at = step; at <= top; at += step) ticks.push(at);
    return ticks;
  }
  function labels(element, top, most) {
    element.replaceChildren(...ticksOf(top, most).map((units) => {
      const label = document.createElement('span');
      label.textContent = bytesText(units);
      label.style.bottom = 100 * units / top + '%';
      return label;
    }));
  }
  function draw() {
    const top = 1.06 * Math.max(1, device.reserved[new Fullest(device.reserved).of(0, everything)]);
    const stuckTop = 1.15 * Math.max(1, device.stuck[mostStuck.of(0, everything)]);
    const context = stacked(canvas, top);
    uprights(context, `rgb(${palette.soft})`, marks.releases, 0.95, 1);
    uprights(context, `rgb(${palette.alarm})`, marks.failures, 0, 1);
    below(stuckTop);
    labels($('time-labels'), top, 4);
    labels($('stuck-labels'), stuckTop, 2);
    stacked(small, top);
    uprights(small.getContext('2d'), `rgb(${palette.alarm})`, marks.failures, 0, 1);
    axis();
  }
  function axis() {
    const rough = (view.to - view.from) / 6, size = 10 ** Math.floor(Math.log10(rough));
    const step = Math.max(1, size * [1, 2, 5, 10].find((m) => size * m >= rough * 0.999));
    const ticks = [], first = device.data.first;
    for (let at = Math.ceil((view.from + first) / step) * step; at < view.to + first; at += step) {
      const place = (at - first - view.from) / (view.to - view.from);
      if (place > 0.93) continue; // there stands the unit
      const label = document.createElement('span');
      label.style.left = 100 * place + '%';
      label.textContent = wholeText(at);
      ticks.push(label);
    }
    const unit = document.createElement('em');
    unit.textContent = 'events';
    $('time-axis').replaceChildren(...ticks, unit);
  }
  function put(element, event) {
    const at = event === null ? -1 : (event + 0.5 - view.from) / (view.to - view.from);
    element.style.display = at >= 0 && at <= 1 ? 'block' : 'none';
    if (at >= 0 && at <= 1) element.style.left = 100 * at + '%';
  }
  function zoom(from, to) {
    const least = Math.min(everything, 10);
    from = Math.max(0, Math.floor(from));
    to = Math.min(everything, Math.ceil(to));
    if (to - from < least) { from = Math.max(0, Math.min(from, everything - least)); to = from + least; }
    view.from = from;
    view.to = to;
    $('whole-time').hidden = from === 0 && to === everything;
    draw();
    if (view.onView) view.onView();
  }

  const box = $('time-box'), band = $('time-band'), cursor = $('time-cursor');
  const eventAt = (pointer) => {
    const {left, width} = box.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (pointer.clientX - left) / width));
    return Math.min(view.to - 1, Math.floor(view.from + share * (view.to - view.from)));
  };
  // pick(event) when a moment is chosen, read(event or null) when one is pointed at.
  function listen(pick, read) {
    let down = null;
    box.addEventListener('pointerdown', (pointer) => {
      if (pointer.button !== 0) return;
      down = {event: eventAt(pointer), x: pointer.clientX, dragged: false};
      box.setPointerCapture(pointer.pointerId);
    });
    box.addEventListener('pointermove', (pointer) => {
      const event = eventAt(pointer);
      if (down && Math.abs(pointer.clientX - down.x) > 6) down.dragged = true;
      if (down && down.dragged) {
        const [a, b] = [down.event, event].sort((p, q) => p - q);
        const span = view.to - view.from;
        band.style.display = 'block';
        band.style.left = 100 * (a - view.from) / span + '%';
        band.style.width = 100 * (b - a) / span + '%';
      }
      put(cursor, event);
      read(event);
    });
    box.addEventListener('pointerup', (pointer) => {
      band.style.display = 'none';
      if (down === null) return;
      const event = eventAt(pointer), from = down;
      down = null;
      if (from.dragged) zoom(Math.min(event, from.event), Math.max(event, from.event));
      else pick(event);
    });
    box.addEventListener('pointercancel', () => { down = null; band.style.display = 'none'; });
    box.addEventListener('pointerleave', () => { put(cursor, null); read(null); });
    box.addEventListener('dblclick', () => zoom(0, everything));
    $('whole-time').addEventListener('click', () => zoom(0, everything));
  }
  return {view, marks, draw, zoom, put, listen, fullest, mostStuck};
}
