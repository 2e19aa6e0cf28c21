// The charts' shared time axis: one cursor for all, zoom by dragging, keys. Without this script
// the page loses nothing else.
'use strict';
const timeAxis = (() => {
  const charts = [...document.querySelectorAll('figure.chart')].map((figure) => ({
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
  }));
  const resets = [...document.querySelectorAll('[data-whole-run]')];
  const first = Math.min(...charts.map((chart) => chart.data.start));
  const last = Math.max(...charts.map((chart) => chart.data.end[chart.data.end.length - 1]));
  const axis = {
    first, last, from: first, to: last,
    hover: null, // the second under the pointer or the keyboard's cursor
    pinned: null, // the second that the rest of the page shows
    onPick: null, // called with a second that was clicked
    pin(second) { axis.pinned = second; update(); },
    zoom(from, to) {
      const least = (last - first) / 5000;
      if (to - from < least) return;
      axis.from = Math.max(first, from);
      axis.to = Math.min(last, to);
      rescale();
    },
    describe,
  };

  function digits(value) {
    return value.toLocaleString('en', {maximumFractionDigits: value < 10 ? 2 : 1});
  }
  function show(value, share) {
    if (value === null || value === undefined) return '–';
    return share ? (100 * value).toPrecision(3) + '%' : digits(value);
  }
  function describe(second) {
    const {perUnit, unit} = charts.length ? charts[0].data : {perUnit: 1, unit: 's'};
    const span = (axis.to - axis.from) / perUnit;
    const places = Math.min(4, Math.max(1, 2 - Math.floor(Math.log10(span))));
    return (second / perUnit).toFixed(places) + ' ' + unit;
  }
  function interval(data, second) {
    let low = 0, high = data.end.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (data.end[middle] >= second) high = middle; else low = middle + 1;
    }
    return low;
  }
  const part = (second) => (second - axis.from) / (axis.to - axis.from);

  function place(element, second) {
    const at = second === null ? -1 : part(second);
    const inside = at >= 0 && at <= 1;
    element.style.display = inside ? 'block' : 'none';
    if (inside) element.style.left = 100 * at + '%';
  }
  function update() {
    const second = axis.hover === null ? axis.pinned : axis.hover;
    for (const chart of charts) {
      place(chart.cursor, axis.hover);
      place(chart.pin, axis.pinned);
      chart.at.textContent = second === null ? '' : 'at ' + describe(second);
      const i = second === null ? -1 : interval(chart.data, second);
      chart.data.values.forEach((values, k) => {
        chart.outs[k].textContent = second === null ? '' : show(values[i], chart.data.share);
      });
    }
  }
  function rescale() {
    const zoomed = axis.from > first || axis.to < last;
    for (const {figure, data, svg, labels} of charts) {
      const own = data.end[data.end.length - 1] - data.start;
      const x = 1000 * (axis.from - data.start) / own;
      svg.setAttribute('viewBox', `${x} 0 ${1000 * (axis.to - axis.from) / own} 200`);
      figure.classList.toggle('zoomed', zoomed);
      for (const label of labels.querySelectorAll('span')) label.remove();
      const from = axis.from / data.perUnit, to = axis.to / data.perUnit;
      for (const tick of ticks(from, to)) {
        const at = (tick - from) / (to - from);
        if (at > 0.93) continue;
        const label = document.createElement('span');
        label.style.left = 100 * at + '%';
        label.textContent = +tick.toPrecision(8);
        labels.append(label);
      }
    }
    for (const button of resets) button.hidden = !zoomed;
    update();
  }
  function ticks(from, to) {
    const rough = (to - from) / 6, size = 10 ** Math.floor(Math.log10(rough));
    const step = size * [1, 2, 2.5, 5, 10].find((m) => size * m >= rough * 0.999);
    const all = [];
    for (let i = Math.ceil(from / step - 1e-9); i * step <= to; i++) all.push(i * step);
    return all;
  }
  function zoomAround(second, factor) {
    const span = (axis.to - axis.from) * factor;
    const from = Math.max(first, Math.min(last - span, second - span * part(second)));
    axis.zoom(from, Math.min(last, from + span));
  }

  for (const {plot, band, data} of charts) {
    let down = null;
    const secondAt = (event) => {
      const box = plot.getBoundingClientRect();
      const at = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
      return axis.from + at * (axis.to - axis.from);
    };
    plot.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      down = {second: secondAt(event), x: event.clientX, dragged: false};
      plot.setPointerCapture(event.pointerId);
    });
    plot.addEventListener('pointermove', (event) => {
      axis.hover = secondAt(event);
      if (down !== null && Math.abs(event.clientX - down.x) > 6) down.dragged = true;
      if (down !== null && down.dragged) {
        const [a, b] = [part(down.second), part(axis.hover)].sort((p, q) => p - q);
        band.style.display = 'block';
        band.style.left = 100 * a + '%';
        band.style.width = 100 * (b - a) + '%';
      }
      update();
    });
    plot.addEventListener('pointerup', (event) => {
      band.style.display = 'none';
      if (down === null) return;
      const second = secondAt(event);
      if (down.dragged) axis.zoom(Math.min(second, down.second), Math.max(second, down.second));
      else if (axis.onPick) axis.onPick(second);
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
        axis.hover = (start + data.end[i]) / 2;
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
})();
