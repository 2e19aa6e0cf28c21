// How the blocks are drawn: where each square is, how large, in which colour and shape.
'use strict';
function blockView(canvas, frames) {
  const blocks = frames.data.blocks, screen = canvas.getContext('2d');
  const whole = (number) => number.toLocaleString('en');
  const view = {
    scale: 1, // canvas pixels per block; below 1 a power of two, so that pixels are whole squares
    left: 0, top: 0, // of the pool's first block, in canvas pixels
    columns: 1, rows: 1, fitted: 1, byOwner: false, only: null, cursor: -1, keyboard: false,
  };
  let palette = null;
  const sheet = document.createElement('canvas'), context = sheet.getContext('2d');

  // Colours. Owners share eight colours that colour-blind people can tell apart (Okabe and Ito).
  const OWNERS = [[0, 114, 178], [230, 159, 0], [0, 158, 115], [204, 121, 167], [86, 180, 233],
    [213, 94, 0], [220, 205, 50], [120, 94, 160]];
  // Requests that run at once have numbers close together, so these colours tell them apart.
  const ownerColor = (owner) => owner % 8;
  const ownerCss = (owner) => `rgb(${OWNERS[ownerColor(owner)]})`;
  function readPalette() {
    const style = getComputedStyle(document.documentElement);
    const rgb = (name) => {
      const hex = style.getPropertyValue(name).trim().slice(1);
      const wide = hex.length === 3 ? [...hex].map((digit) => digit + digit).join('') : hex;
      return [0, 2, 4].map((at) => parseInt(wide.slice(at, at + 2), 16));
    };
    palette = {
      background: rgb('--bg'), text: rgb('--text'),
      states: ['--empty', '--evictable', '--used', '--null'].map(rgb),
    };
  }
  const mixed = (a, b, share) => a.map((part, i) => part * share + b[i] * (1 - share));
  function colorTable() {
    // [state][owner's colour or 8 for nobody][of the shown owner] -> colour
    return palette.states.map((base, state) => [...OWNERS, null].map((owner) => {
      const plain = !view.byOwner || owner === null || state === 0 || state === 3 ? base
        : state === 2 ? owner : mixed(owner, palette.background, 0.42);
      return [mixed(plain, palette.background, 0.14), plain];
    }));
  }

  function layOut() {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(200, Math.floor(canvas.parentElement.clientWidth * ratio));
    const most = Math.floor(700 * ratio);
    const fits = (scale) => Math.ceil(blocks / Math.floor(width / scale)) * scale <= most;
    let scale = Math.min(Math.round(26 * ratio), width);
    while (scale > 1 && !fits(scale)) scale--;
    while (scale <= 1 && !fits(scale)) scale /= 2;
    view.fitted = view.scale = scale;
    view.columns = Math.min(blocks, Math.floor(width / scale));
    view.rows = Math.ceil(blocks / view.columns);
    view.left = view.top = 0;
    canvas.width = width;
    canvas.height = Math.ceil(view.rows * scale);
    sheet.width = canvas.width;
    sheet.height = canvas.height;
    canvas.style.width = width / ratio + 'px';
    canvas.style.height = canvas.height / ratio + 'px';
  }

  // Draws the blocks on a sheet of their own, and then what changes with the pointer on top.
  function draw() {
    drawBlocks();
    overlay();
  }
  function overlay() {
    screen.drawImage(sheet, 0, 0);
    drawCursor();
  }
  function drawBlocks() {
    const {scale, columns, rows} = view;
    const {width, height} = canvas, {owner, state} = frames;
    const table = colorTable(), background = palette.background;
    context.fillStyle = `rgb(${background})`;
    context.fillRect(0, 0, width, height);
    // A texel is one block, or `many` by `many` blocks when a pixel is larger than a block.
    const many = scale < 1 ? Math.round(1 / scale) : 1, size = Math.max(1, scale);
    const x0 = Math.max(0, Math.floor(-view.left / size)), y0 = Math.max(0, Math.floor(-view.top / size));
    const x1 = Math.min(Math.ceil(columns / many), Math.ceil((width - view.left) / size));
    const y1 = Math.min(Math.ceil(rows / many), Math.ceil((height - view.top) / size));
    if (x1 <= x0 || y1 <= y0) return;
    const image = new ImageData(x1 - x0, y1 - y0), pixels = image.data;
    let p = 0;
    for (let y = y0; y < y1; y++) {
      for (let x = x0; x < x1; x++, p += 4) {
        let r = 0, g = 0, b = 0, n = 0;
        const bottom = Math.min(rows, (y + 1) * many), right = Math.min(columns, (x + 1) * many);
        for (let row = y * many; row < bottom; row++) {
          for (let block = row * columns + x * many; block < row * columns + right; block++) {
            if (block >= blocks) break;
            const who = owner[block];
            const shown = view.only === null || who === view.only ? 1 : 0;
            const color = table[state[block]][who < 0 ? 8 : ownerColor(who)][shown];
            r += color[0]; g += color[1]; b += color[2]; n++;
          }
        }
        if (n === 0) continue;
        pixels[p] = r / n; pixels[p + 1] = g / n; pixels[p + 2] = b / n; pixels[p + 3] = 255;
      }
    }
    const small = new OffscreenCanvas(image.width, image.height);
    small.getContext('2d').putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    const left = view.left + x0 * size, top = view.top + y0 * size;
    context.drawImage(small, left, top, image.width * size, image.height * size);
    if (scale >= 7) drawShapes(x0, y0, x1, y1);
    caption(many);
  }

  // From 7 pixels on states differ in shape, too: a full square, a ring, and hardly anything.
  function drawShapes(x0, y0, x1, y1) {
    const {scale, left, top, columns} = view;
    const gap = Math.max(1, Math.round(scale / 12)), hole = Math.max(2, Math.round(scale * 0.3));
    context.fillStyle = `rgb(${palette.background})`;
    for (let x = x0; x <= x1; x++) {
      context.fillRect(left + x * scale - gap, top + y0 * scale, gap, (y1 - y0) * scale);
    }
    for (let y = y0; y <= y1; y++) {
      context.fillRect(left + x0 * scale, top + y * scale - gap, (x1 - x0) * scale, gap);
    }
    for (let y = y0; y < y1; y++) {
      for (let x = x0; x < x1; x++) {
        const block = y * columns + x;
        if (block >= blocks) break;
        const state = frames.state[block];
        if (state === 2) continue;
        const side = state === 1 ? hole : scale - 2 * gap - 2 * Math.max(1, Math.round(scale / 14));
        const inset = Math.round((scale - gap - side) / 2);
        if (side > 0) context.fillRect(left + x * scale + inset, top + y * scale + inset, side, side);
      }
    }
  }

  function drawCursor() {
    if (view.cursor < 0) return;
    const size = Math.max(view.scale, 5), [x, y] = middleOf(view.cursor);
    screen.lineWidth = 2;
    screen.strokeStyle = `rgb(${palette.background})`;
    screen.strokeRect(x - size / 2 - 3, y - size / 2 - 3, size + 6, size + 6);
    screen.strokeStyle = `rgb(${palette.text})`;
    screen.strokeRect(x - size / 2 - 1, y - size / 2 - 1, size + 2, size + 2);
  }

  function caption(many) {
    const shown = Math.min(blocks, Math.ceil(Math.min(view.columns, canvas.width / view.scale))
      * Math.ceil(Math.min(view.rows, canvas.height / view.scale)));
    document.getElementById('scale').textContent = many > 1
      ? `Each dot stands for ${whole(many * many)} blocks and shows the mixture of their colours: `
        + 'zoom in for single blocks.'
      : view.scale > view.fitted
        ? `Each square is one block; some ${whole(shown)} of ${whole(blocks)} are in view.`
        : 'Each square is one block.';
  }

  function zoomTo(wanted, x, y) {
    const scale = Math.max(view.fitted, Math.min(64, wanted < 1 ? wanted : Math.round(wanted)));
    view.left = x - (x - view.left) * scale / view.scale;
    view.top = y - (y - view.top) * scale / view.scale;
    view.scale = scale;
    clamp();
  }
  function clamp() {
    const wide = view.columns * view.scale, high = view.rows * view.scale;
    view.left = Math.round(Math.min(0, Math.max(canvas.width - wide, view.left)));
    view.top = Math.round(Math.min(0, Math.max(canvas.height - high, view.top)));
  }
  // Moves the view so that a block is in it; says whether it had to.
  function reveal(block) {
    const {left, top, scale} = view;
    const x = block % view.columns * scale, y = Math.floor(block / view.columns) * scale;
    view.left = Math.min(-x + canvas.width - 2 * scale, Math.max(scale - x, left));
    view.top = Math.min(-y + canvas.height - 2 * scale, Math.max(scale - y, top));
    clamp();
    return view.left !== left || view.top !== top;
  }
  const middleOf = (block) => [
    view.left + (block % view.columns + 0.5) * view.scale,
    view.top + (Math.floor(block / view.columns) + 0.5) * view.scale,
  ];
  const blockAt = ([x, y]) => {
    const column = Math.floor((x - view.left) / view.scale);
    const row = Math.floor((y - view.top) / view.scale), block = row * view.columns + column;
    return column >= 0 && column < view.columns && row >= 0 && block < blocks ? block : -1;
  };
  return {
    view, readPalette, layOut, draw, drawBlocks, overlay, clamp, reveal, zoomTo, blockAt, middleOf,
    ownerCss,
  };
}
