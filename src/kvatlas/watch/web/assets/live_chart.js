// Charts over time that grow: the look of the report's charts, drawn anew with every moment. One
// cursor for all of them, and one span of time.
'use strict';

const WIDTH = 1000, HEIGHT = 200, UNIT_AT = 0.93; // the drawing's own units; where the unit stands
const SVG = 'http://www.w3.org/2000/svg';
const UNITS = [[3600, 'h'], [60, 'min'], [1, 's']];

function make(tag, className = '', text = '') {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}
function shape(tag, className, attributes) {
  const element = document.createElementNS(SVG, tag);
  element.setAttribute('class', className);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

export function roundTicks(from, to, most = 6) {
  const rough = (to - from) / most;
  if (!(rough > 0)) return [from];
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = size * [1, 2, 2.5, 5, 10].find((m) => size * m >= rough * 0.999);
  const all = [];
  for (let i = Math.ceil(from / step - 1e-9); i * step <= to * (1 + 1e-9); i++) {
    all.push(+(i * step).toPrecision(12));
  }
  return all;
}
export function showValue(value, share) {
  if (value === null || value === undefined) return '–';
  if (share) return (100 * value).toPrecision(3) + '%';
  return value.toLocaleString('en', {maximumFractionDigits: value < 10 ? 2 : value < 100 ? 1 : 0});
}

function build(spec) {
  const figure = make('figure', 'chart');
  figure.append(make('figcaption', '', spec.title));
  if (spec.note) figure.append(make('p', 'note', spec.note));
  const legend = make('div', 'legend'), outs = [];
  for (const curve of spec.curves) {
    const key = make('span', 'key'), out = make('b');
    key.append(make('i', `c${curve.color} ${curve.look}`), curve.name + ' ', out);
    legend.append(key);
    outs.push(out);
  }
  const at = make('span', 'at');
  legend.append(at);
  const frame = make('div', 'frame'), ys = make('div', 'ys'), xs = make('div', 'xs');
  const plot = make('div', 'plot');
  plot.tabIndex = 0;
  plot.setAttribute('role', 'application');
  plot.setAttribute('aria-label', `${spec.title}: arrow keys move the cursor`);
  const svg = shape('svg', '', {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true',
  });
  const cursor = make('div', 'cursor');
  plot.append(svg, cursor);
  frame.append(ys, plot, xs);
  figure.append(legend, frame);
  return {spec, figure, outs, at, ys, xs, plot, svg, cursor};
}

// A value holds from its interval's start to its end; where it is not known there is a gap.
function lineOf(starts, ends, heights) {
  let path = '', down = false;
  heights.forEach((height, i) => {
    if (height === null) { down = false; return; }
    const at = height.toFixed(1);
    path += (down ? 'V' + at : `M${starts[i].toFixed(1)} ${at}`) + `H${ends[i].toFixed(1)}`;
    down = true;
  });
  return path;
}
function bandOf(starts, ends, lower, upper) {
  if (!upper.length) return '';
  const there = upper.map((height, i) => `V${height.toFixed(1)}H${ends[i].toFixed(1)}`);
  const back = lower.map((height, i) => `V${height.toFixed(1)}H${starts[i].toFixed(1)}`).reverse();
  return `M${starts[0].toFixed(1)} ${lower[0].toFixed(1)}${there.join('')}${back.join('')}Z`;
}

export function liveCharts(box, specs) {
  const charts = specs.map(build);
  for (const {figure} of charts) box.append(figure);
  let history = {start_s: [], end_s: []}, seconds = 0, hover = null;
  let from = 0, to = 1, first = 0, stop = 0; // what is in view: seconds, intervals

  // How often something happened, per second: intervals differ in length.
  function valuesOf({column, perSecond}) {
    const values = history[column] || [];
    return perSecond
      ? values.map((many, i) => many / (history.end_s[i] - history.start_s[i])) : values;
  }

  function draw({spec, figure, ys, xs, svg}) {
    const columns = spec.curves.map((curve) => valuesOf(curve).slice(first, stop));
    figure.hidden = !columns.some((column) => column.some((value) => value !== null));
    if (figure.hidden) return;
    figure.classList.toggle('zoomed', seconds > 0);
    const layers = [];
    let sum = columns[0].map(() => 0);
    spec.curves.forEach((curve, k) => {
      if (curve.look !== 'stack') { layers.push(columns[k]); return; }
      sum = sum.map((below, i) => below + (columns[k][i] ?? 0));
      layers.push(sum);
    });
    let top = spec.top ?? 0;
    for (const layer of layers) for (const value of layer) if (value > top) top = value;
    const ticks = roundTicks(0, top > 0 ? top : spec.share ? 0.01 : 1, 5);
    if (ticks[ticks.length - 1] < top) ticks.push(ticks[ticks.length - 1] + (ticks[1] - ticks[0]));
    top = ticks[ticks.length - 1];
    const x = (second) => (second - from) / (to - from) * WIDTH;
    const y = (value) => (1 - value / top) * HEIGHT;

    const shapes = ticks.map((tick) => shape('line', 'grid', {
      x1: 0, x2: WIDTH, y1: y(tick).toFixed(1), y2: y(tick).toFixed(1),
    }));
    const starts = history.start_s.slice(first, stop).map(x);
    const ends = history.end_s.slice(first, stop).map(x);
    let lower = starts.map(() => HEIGHT);
    spec.curves.forEach((curve, k) => {
      const heights = layers[k].map((value) => value === null ? null : y(value));
      const style = ` c${curve.color}`;
      if (curve.look === 'stack') {
        shapes.push(shape('path', 'stack' + style, {d: bandOf(starts, ends, lower, heights)}));
        lower = heights;
        return;
      }
      if (curve.look === 'area') {
        const filled = heights.map((height) => height ?? HEIGHT);
        const floor = heights.map(() => HEIGHT);
        shapes.push(shape('path', 'area' + style, {d: bandOf(starts, ends, floor, filled)}));
      }
      shapes.push(shape('path', 'line' + style, {d: lineOf(starts, ends, heights)}));
    });
    svg.replaceChildren(...shapes);

    ys.replaceChildren(...ticks.map((tick) => {
      const label = make('span', '', spec.share
        ? +(100 * tick).toPrecision(3) + '%' : showValue(tick, false));
      label.style.top = 100 * (1 - tick / top) + '%';
      return label;
    }));
    const [perUnit, unit] = unitOf();
    const labels = roundTicks(from / perUnit, to / perUnit)
      .filter((tick) => x(tick * perUnit) / WIDTH < UNIT_AT)
      .map((tick) => {
        const label = make('span', '', String(+tick.toPrecision(8)));
        label.style.left = x(tick * perUnit) / WIDTH * 100 + '%';
        return label;
      });
    xs.replaceChildren(...labels, make('em', '', unit));
  }
  function unitOf() { return UNITS.find(([size]) => to >= 2 * size) ?? UNITS[2]; }

  function interval(second) {
    let low = first, high = stop - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (history.end_s[middle] < second) low = middle + 1; else high = middle;
    }
    return low;
  }
  function point() {
    const last = stop - 1;
    const i = hover === null || last < 0 ? -1 : interval(hover);
    const part = (hover - from) / (to - from), [perUnit, unit] = unitOf();
    for (const {spec, outs, at, cursor} of charts) {
      spec.curves.forEach((curve, k) => {
        const value = valuesOf(curve)[i < 0 ? last : i];
        outs[k].textContent = last < 0 ? '' : showValue(value, spec.share);
      });
      cursor.style.display = i >= 0 && part >= 0 && part <= 1 ? 'block' : 'none';
      cursor.style.left = 100 * part + '%';
      at.textContent = i < 0 ? '' : `at ${(hover / perUnit).toFixed(perUnit > 1 ? 2 : 1)} ${unit}`;
    }
  }
  function redraw() {
    const {start_s: starts, end_s: ends} = history;
    stop = ends.length;
    // The newest interval has only begun: it says little yet.
    if (stop > 1 && ends[stop - 1] - starts[stop - 1] < 0.6 * (ends[stop - 2] - starts[stop - 2])) {
      stop--;
    }
    from = stop ? starts[0] : 0;
    to = stop ? ends[stop - 1] : 1;
    if (seconds) from = Math.max(from, to - seconds);
    if (to <= from) to = from + 1;
    first = Math.max(0, ends.findIndex((end) => end > from));
    charts.forEach(draw);
    point();
  }

  for (const {plot} of charts) {
    plot.addEventListener('pointermove', (event) => {
      const box = plot.getBoundingClientRect();
      hover = from + (event.clientX - box.left) / box.width * (to - from);
      point();
    });
    for (const leaving of ['pointerleave', 'blur']) {
      plot.addEventListener(leaving, () => { hover = null; point(); });
    }
    plot.addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !stop) return;
      const last = stop - 1, many = event.shiftKey ? 10 : 1;
      const now = hover === null ? last : interval(hover);
      const go = {
        ArrowLeft: now - many, ArrowRight: now + many, Home: first, End: last,
      }[event.key];
      if (go === undefined) return;
      const to = Math.max(first, Math.min(last, go));
      hover = (history.start_s[to] + history.end_s[to]) / 2;
      point();
      event.preventDefault();
    });
  }
  return {
    show(newest) { history = newest; redraw(); },
    span(wanted) { seconds = wanted; redraw(); },
  };
}
