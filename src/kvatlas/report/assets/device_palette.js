// Colours of the page's pictures, light and dark.
'use strict';
function devicePalette(device) {
  const palette = {};
  const mixed = (a, b, share) => a.map((part, i) => part * share + b[i] * (1 - share));
  const hue = (degrees, dark) => {
    const s = 0.55, l = dark ? 0.6 : 0.55, k = (n) => (n + degrees / 30) % 12, a = s * Math.min(l, 1 - l);
    return [0, 8, 4].map((n) => 255 * (l - a * Math.max(-1, Math.min(k(n) - 3, 9 - k(n), 1))));
  };
  const css = (color) => `rgb(${color.map(Math.round)})`;
  let stacks = [], calls = [];
  palette.read = () => {
    const style = getComputedStyle(document.documentElement);
    const rgb = (name) => {
      const hex = style.getPropertyValue(name).trim().slice(1);
      const wide = hex.length === 3 ? [...hex].map((digit) => digit + digit).join('') : hex;
      return [0, 2, 4].map((at) => parseInt(wide.slice(at, at + 2), 16));
    };
    palette.background = rgb('--bg');
    palette.text = rgb('--text');
    palette.soft = rgb('--soft');
    palette.line = rgb('--line');
    palette.alarm = rgb('--alarm');
    palette.kinds = ['--used', '--m3', '--stuck', '--empty', '--null'].map(rgb);
    palette.chosen = rgb('--s3');
    palette.dimmed = mixed(palette.kinds[LIVE], palette.background, 0.3);
    const dark = palette.background[0] < 128;
    // Neighbouring numbers get distant hues (golden steps), none like the colour of stuck bytes.
    stacks = Array.from({length: device.stacks}, (_, i) => hue(70 + i * 154.508 % 250, dark));
    // Calls of one file have one hue: yellow to green, away from the colours of states.
    const files = new Map();
    calls = device.frames.map(({file}) => {
      if (!files.has(file)) files.set(file, files.size);
      return css(mixed(hue(35 + files.get(file) * 47 % 150, dark), palette.background, dark ? 0.45 : 0.6));
    });
  };
  palette.ofStack = (stack) => stacks[stack];
  palette.ofCall = (frame) => calls[frame];
  return palette;
}
