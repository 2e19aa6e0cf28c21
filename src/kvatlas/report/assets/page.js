// The charts' shared axes: those over time have one, those over capacity another. One cursor for
// all charts of an axis, zoom by dragging, keys. Without this script the page loses nothing else.
'use strict';
function chartAxis(selector, resetSelector, scale) {
  const charts = [...document.querySelectorAll(selector)].map((figure) => ({
    figure,
    data: JSON.parse(figure.querySelector('script').textContent),
    plot: figure.querySelector('.plot'),
    svg: figure.querySelector('.plot svg'),
    labels: figure.querySelector('.xs'),
    at: figure.querySelector('.at'),
    outs: figure.querySelectorAll('.key b'),
    cursor: figure.querySelector('.cursor'),
    pin: figure.querySelector('.pin'),
    band: figure.querySelector('.band'),
    uprights: figure.querySelectorAll('.upright'),
  }));
  const resets = [...document.querySelectorAll(resetSelector)];
  const first = Math.min(...charts.map((chart) => chart.data.start));
  const last = Math.max(...charts.map((chart) => chart.data.end[chart.data.end.length - 1]));
  const axis = {
    first, last, from: first, to: last,
    hover: null, // the place under the pointer or the keyboard's cursor: a second, a capacity
    pinned: null, // the second that the rest of the page shows
    onPick: null, // called with a second that was clicked
    pin(place) { axis.pinned = place; update(); },
    zoom(from, to) {
      const least = (last - first) / 5000;
      if (to - from < least) return;
      axis.from = Math.max(first, from);
      axis.to = Math.min(last, to);
      rescale();
    },
    describe: (place) => describe(charts.length ? charts[0].data : null, place),
  };

  function digits(value) {
    return value.toLocaleString('en', {maximumFractionDigits: value < 10 ? 2 : 1});
  }
  function show(value, share) {
    if (value === null || value === undefined) return '–';
    return share ? (100 * value).toPrecision(3) + '%' : digits(value);
  }
  function describe(data, place) {
    return data === null ? '' : scale.describe(data, interval(data, place), place, axis);
  }
  function interval(data, place) {
    let low = 0, high = data.end.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (data.end[middle] >= place) high = middle; else low = middle + 1;
    }
    return low;
  }
  // Where values stand at single places, the cursor jumps to the nearest of them.
  const snapped = (data, place) => data.at ? data.at[interval(data, place)] : place;
  const part = (place) => (place - axis.from) / (axis.to - axis.from);

  function put(element, place) {
    const at = place === null ? -1 : part(place);
    const inside = at >= -1e-9 && at <= 1 + 1e-9;
    element.style.display = inside ? 'block' : 'none';
    if (inside) element.style.left = 100 * at + '%';
  }
  function update() {
    const place = axis.hover === null ? axis.pinned : axis.hover;
    for (const chart of charts) {
      put(chart.cursor, axis.hover === null ? null : snapped(chart.data, axis.hover));
      put(chart.pin, axis.pinned);
      chart.at.textContent = place === null ? '' : 'at ' + describe(chart.data, place);
      const i = place === null ? -1 : interval(chart.data, place);
      chart.data.values.forEach((values, k) => {
        chart.outs[k].textContent = place === null ? '' : show(values[i], chart.data.share);
      });
    }
  }
  function rescale() {
    const zoomed = axis.from > first || axis.to < last;
    for (const {figure, data, svg, labels, uprights} of charts) {
      const own = data.end[data.end.length - 1] - data.start;
      const x = 1000 * (axis.from - data.start) / own;
      svg.setAttribute('viewBox', `${x} 0 ${1000 * (axis.to - axis.from) / own} 200`);
      figure.classList.toggle('zoomed', zoomed);
      for (const upright of uprights) put(upright, +upright.dataset.at);
      for (const label of labels.querySelectorAll('span')) label.remove();
      for (const [place, ...lines] of scale.ticks(data, axis.from, axis.to)) {
        const at = part(place);
        if (at > scale.unitAt) continue; // there stands the unit
        const label = document.createElement('span');
        label.style.left = 100 * at + '%';
        lines.forEach((line, k) => {
          if (k) label.append(document.createElement('br'));
          label.append(line);
        });
        labels.append(label);
      }
    }
    for (const button of resets) button.hidden = !zoomed;
    update();
  }
  function zoomAround(place, factor) {
    const span = (axis.to - axis.from) * factor;
    const from = Math.max(first, Math.min(last - span, place - span * part(place)));
    axis.zoom(from, Math.min(last, from + span));
  }

  for (const {plot, band, data} of charts) {
    let down = null;
    const placeAt = (event) => {
      const box = plot.getBoundingClientRect();
      const at = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
      return axis.from + at * (axis.to - axis.from);
    };
    plot.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      down = {place: placeAt(event), x: event.clientX, dragged: false};
      plot.setPointerCapture(event.pointerId);
    });
    plot.addEventListener('pointermove', (event) => {
      axis.hover = placeAt(event);
      if (down !== null && Math.abs(event.clientX - down.x) > 6) down.dragged = true;
      if (down !== null && down.dragged) {
        const [a, b] = [part(down.place), part(axis.hover)].sort((p, q) => p - q);
        band.style.display = 'block';
        band.style.left = 100 * a + '%';
        band.style.width = 100 * (b - a) + '%';
      }
      update();
    });
    plot.addEventListener('pointerup', (event) => {
      band.style.display = 'none';
      if (down === null) return;
      const place = placeAt(event);
      if (down.dragged) axis.zoom(Math.min(place, down.place), Math.max(place, down.place));
      else if (axis.onPick) axis.onPick(place);
      down = null;
    });
    plot.addEventListener('pointercancel', () => { down = null; band.style.display = 'none'; });
    plot.addEventListener('pointerleave', () => { axis.hover = null; update(); });
    plot.addEventListener('blur', () => { axis.hover = null; update(); });
    plot.addEventListener('dblclick', () => axis.zoom(first, last));
    plot.addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const now = axis.hover ?? axis.pinned ?? axis.from;
      const move = (by) => {
        const i = Math.min(data.end.length - 1, Math.max(0, interval(data, now) + by));
        const start = i ? data.end[i - 1] : data.start;
        axis.hover = data.at ? data.at[i] : (start + data.end[i]) / 2;
        if (axis.hover < axis.from || axis.hover > axis.to) {
          const span = axis.to - axis.from;
          const from = Math.min(last - span, Math.max(first, axis.hover - span / 2));
          axis.zoom(from, from + span);
        }
        update();
      };
      const many = event.shiftKey ? 10 : 1;
      const keys = {
        ArrowLeft: () => move(-many), ArrowRight: () => move(many),
        Home: () => { axis.hover = axis.from; update(); },
        End: () => { axis.hover = axis.to; update(); },
        '+': () => zoomAround(now, 0.5), '=': () => zoomAround(now, 0.5),
        '-': () => zoomAround(now, 2), '0': () => axis.zoom(first, last),
        Escape: () => axis.zoom(first, last),
        Enter: () => { if (axis.onPick) axis.onPick(now); },
      };
      if (keys[event.key]) { keys[event.key](); event.preventDefault(); }
    });
  }
  for (const button of resets) button.addEventListener('click', () => axis.zoom(first, last));
  return axis;
}

function roundTicks(from, to) {
  const rough = (to - from) / 6, size = 10 ** Math.floor(Math.log10(rough));
  const step = size * [1, 2, 2.5, 5, 10].find((m) => size * m >= rough * 0.999);
  const all = [];
  for (let i = Math.ceil(from / step - 1e-9); i * step <= to; i++) all.push(i * step);
  return all;
}

const timeAxis = chartAxis('figure.chart:not(.capacity)', '[data-whole-run]', {
  unitAt: 0.93,
  describe({perUnit, unit}, i, second, axis) {
    const span = (axis.to - axis.from) / perUnit;
    const places = Math.min(4, Math.max(1, 2 - Math.floor(Math.log10(span))));
    return (second / perUnit).toFixed(places) + ' ' + unit;
  },
  ticks({perUnit}, from, to) {
    return roundTicks(from / perUnit, to / perUnit)
      .map((tick) => [tick * perUnit, String(+tick.toPrecision(8))]);
  },
});

const countScale = (noun) => {
  const three = (value) => value < 1000 ? +value.toPrecision(3) : Math.round(value);
  function short(number, step, letters) {
    let k = 0;
    while (k < letters.length - 1 && number >= 0.9995 * step) { number /= step; k++; }
    return (three(number) + ' ' + letters[k]).trim();
  }
  const blocks = (number) => short(number, 1000, ['', 'k', 'M', 'G', 'T']);
  const bytes = (number) => short(number, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB']);
  return {
    unitAt: 0.88,
    describe({blocks: all, blockSize, bytesPerBlock}, i) {
      const one = all[i] === 1 ? noun.slice(0, -1) : noun;
      const said = [all[i].toLocaleString('en') + ' ' + one];
      if (noun === 'blocks') said.push(blocks(all[i] * blockSize) + ' tokens');
      if (bytesPerBlock) said.push(bytes(all[i] * bytesPerBlock));
      return said.join(' · ');
    },
    ticks({log, bytesPerBlock}, from, to) {
      let ticks = roundTicks(log ? 10 ** from : from, log ? 10 ** to : to);
      if (log && to - from > 0.9) {
        for (const steps of [[1, 2, 5], [1, 3], [1]]) {
          ticks = [];
          for (let d = Math.max(0, Math.floor(from)); d <= Math.ceil(to); d++) {
            ticks.push(...steps.map((step) => step * 10 ** d));
          }
          ticks = ticks.filter((tick) => tick >= 10 ** from && tick <= 10 ** to);
          if (ticks.length <= 7) break;
        }
      }
      return ticks.filter((tick) => Number.isInteger(tick) && tick >= 0).map((tick) => {
        const lines = [blocks(tick), ...(bytesPerBlock ? [bytes(tick * bytesPerBlock)] : [])];
        return [log ? Math.log10(tick) : tick, ...lines];
      });
    },
  };
};
const capacityAxis = chartAxis(
  'figure.chart.capacity:not(.runs)', '[data-whole-curve]', countScale('blocks'));
const runsAxis = chartAxis('figure.chart.capacity.runs', '[data-whole-runs]', countScale('runs'));
