// The map of device memory at one moment: the tape of all addresses, row below row. A pixel that
// holds many blocks shows the mixture of their colours.
'use strict';
function deviceMap(device, moment, palette) {
  const canvas = document.getElementById('memory'), screen = canvas.getContext('2d');
  const ROW = 16, GAP = 3; // CSS pixels
  const all = device.data.units;
  const view = {
    perPixel: 1, fitted: 1, top: 0, rows: 1, // units in a pixel; rows above the view; rows in it
    byStack: false, under: null, place: -1, // under: which stacks stand out, null: all
  };
  const layer = document.createElement('canvas');
  let sums = new Float32Array(0), cover = new Float32Array(0);
  const ratio = () => window.devicePixelRatio || 1;
  const pitch = () => Math.round((ROW + GAP) * ratio());

  function layOut() {
    const width = Math.max(100, Math.round(canvas.parentElement.clientWidth * ratio()));
    const most = Math.max(4, Math.min(26, Math.ceil(all / (1 << 12) / width * 60)));
    canvas.width = width;
    view.rows = Math.min(most, 26);
    view.fitted = all / (view.rows * width);
    view.perPixel = Math.min(view.fitted, view.perPixel === 1 ? view.fitted : view.perPixel);
    canvas.height = view.rows * pitch();
    canvas.style.height = canvas.height / ratio() + 'px';
    clamp();
  }
  const rowsInAll = () => Math.ceil(all / view.perPixel / canvas.width - 1e-6);
  function clamp() {
    view.top = Math.max(0, Math.min(rowsInAll() - view.rows, Math.round(view.top)));
  }
  function zoom(factor, [x, y]) {
    const row = Math.floor(y / pitch());
    const place = ((view.top + row) * canvas.width + x) * view.perPixel;
    view.perPixel = Math.max(1 / 16, Math.min(view.fitted, view.perPixel / factor));
    view.top = Math.floor(place / view.perPixel / canvas.width) - row;
    clamp();
  }
  function fit() { view.perPixel = view.fitted; view.top = 0; clamp(); }
  function scroll(rows) { view.top += rows; clamp(); }

  const colorOf = (block) => {
    const base = view.byStack ? palette.ofStack(device.stack[block])
      : palette.kinds[device.freed[block] <= moment.event ? WAITING : LIVE];
    if (view.under === null) return base;
    return view.under[device.stack[block]] ? palette.chosen : palette.dimmed;
  };

  // Adds a color to the pixels of [from, from + units), as far as it covers each; what is below
  // is taken away.
  function paint(from, units, color, below) {
    const {perPixel, top} = view, width = canvas.width;
    const first = top * width, past = first + view.rows * width;
    let a = from / perPixel - first, b = (from + units) / perPixel - first;
    if (b <= 0 || a >= past - first) return;
    a = Math.max(0, a);
    b = Math.min(past - first, b);
    let r = color[0], g = color[1], u = color[2];
    if (below) { r -= below[0]; g -= below[1]; u -= below[2]; }
    const end = Math.ceil(b);
    for (let pixel = Math.floor(a); pixel < end; pixel++) {
      const share = Math.min(b, pixel + 1) - Math.max(a, pixel);
      sums[3 * pixel] += share * r;
      sums[3 * pixel + 1] += share * g;
      sums[3 * pixel + 2] += share * u;
      if (!below) cover[pixel] += share;
    }
  }

  function draw() {
    const {there, numThere, alive, numAlive, segment, place, units} = device;
    const {run, kept, home, pages} = moment, width = canvas.width;
    const pixels = view.rows * width, {kinds, background} = palette;
    if (cover.length !== pixels) { sums = new Float32Array(3 * pixels); cover = new Float32Array(pixels); }
    sums.fill(0);
    cover.fill(0);
    const freeKind = (each) =>
      segment.pool[each] !== 0 ? IDLE : kept[run[each]] > 0 ? STUCK : RELEASABLE;
    for (let i = 0; i < numThere; i++) {
      const each = there[i];
      paint(segment.place[each], segment.units[each], kinds[freeKind(each)], null);
    }
    for (const [start, long] of pages) {
      if (kept[run[there[last(moment.places, start, numThere)]]] > 0) {
        paint(start, long, kinds[RELEASABLE], kinds[STUCK]);
      }
    }
    for (let i = 0; i < numAlive; i++) {
      const block = alive[i];
      paint(place[block], units[block], colorOf(block), kinds[freeKind(home[i])]);
    }
    edges();
    const image = new ImageData(width, view.rows), data = image.data;
    for (let pixel = 0, at = 0; pixel < pixels; pixel++, at += 4) {
      const open = Math.max(0, 1 - cover[pixel]);
      data[at] = sums[3 * pixel] + open * background[0];
      data[at + 1] = sums[3 * pixel + 1] + open * background[1];
      data[at + 2] = sums[3 * pixel + 2] + open * background[2];
      data[at + 3] = 255;
    }
    if (layer.width !== width) layer.width = width;
    if (layer.height !== view.rows) layer.height = view.rows;
    layer.getContext('2d').putImageData(image, 0, 0);
    screen.fillStyle = `rgb(${background})`;
    screen.fillRect(0, 0, width, canvas.height);
    screen.imageSmoothingEnabled = false;
    const step = pitch(), high = Math.round(ROW * ratio());
    for (let row = 0; row < view.rows; row++) {
      screen.drawImage(layer, 0, row, width, 1, 0, row * step, width, high);
    }
    outline();
  }

  // Where blocks and segments begin: a line of the background, if they are wide enough for one.
  function edges() {
    const {there, numThere, alive, numAlive, segment, place, units} = device, {background} = palette;
    const first = view.top * canvas.width, past = view.rows * canvas.width;
    const line = (from, long, least, strength) => {
      if (long / view.perPixel < least) return;
      const pixel = Math.floor(from / view.perPixel) - first;
      if (pixel < 0 || pixel >= past) return;
      for (let k = 0; k < 3; k++) {
        const now = sums[3 * pixel + k] + Math.max(0, 1 - cover[pixel]) * background[k];
        sums[3 * pixel + k] = now + strength * (background[k] - now);
      }
      cover[pixel] = 1;
    };
    for (let i = 0; i < numAlive; i++) line(place[alive[i]], units[alive[i]], 4, 0.45);
    for (let i = 0; i < numThere; i++) {
      if (moment.run[there[i]] === there[i]) line(segment.place[there[i]], segment.units[there[i]], 3, 1);
    }
  }

  // A frame around what is pointed at.
  function outline() {
    const found = view.place < 0 ? null : moment.at(view.place);
    if (!found) return;
    const {perPixel, top} = view, width = canvas.width, step = pitch(), high = Math.round(ROW * ratio());
    const a = found.from / perPixel - top * width, b = (found.from + found.units) / perPixel - top * width;
    screen.strokeStyle = `rgb(${palette.text})`;
    screen.lineWidth = 2 * ratio();
    for (let row = Math.max(0, Math.floor(a / width)); row < view.rows && row * width < b; row++) {
      const from = Math.max(0, a - row * width), to = Math.min(width, b - row * width);
      screen.strokeRect(from, row * step, Math.max(2, to - from), high);
    }
  }

  function placeAt([x, y]) {
    const row = Math.floor(y / pitch());
    return Math.min(all - 1, Math.floor(((view.top + row) * canvas.width + x) * view.perPixel));
  }
  function spotOf(place) {
    const pixel = place / view.perPixel, row = Math.floor(pixel / canvas.width);
    return [pixel - row * canvas.width, (row - view.top + 0.5) * pitch()];
  }
  // Scrolls a place into view.
  function reveal(place) {
    const row = Math.floor(place / view.perPixel / canvas.width);
    if (row < view.top || row >= view.top + view.rows) { view.top = row - (view.rows >> 1); clamp(); }
  }
  return {canvas, view, layOut, draw, zoom, fit, scroll, placeAt, spotOf, reveal, rowsInAll};
}
