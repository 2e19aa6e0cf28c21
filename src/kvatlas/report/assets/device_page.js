// The page of a device's snapshot: the moment that is shown, and what answers to it.
'use strict';
(async () => {
  const source = document.getElementById('device');
  if (!source) return;
  const $ = (id) => document.getElementById(id);
  if (typeof DecompressionStream === 'undefined') {
    throw new Error('this browser is too old: it needs DecompressionStream (2023)');
  }
  const parsed = JSON.parse(source.textContent);
  source.textContent = '';
  const device = await DeviceData.open(parsed), {data} = device;
  const palette = devicePalette(device);
  const moment = new DeviceMoment(device);
  const time = deviceTimeline(device, palette);
  const map = deviceMap(device, moment, palette);
  const flame = deviceFlame(device, moment, palette);
  const slider = $('event');
  const page = {
    device, moment, time, map, flame, show, ask, refresh,
    shown: -1, hovered: null, // events
    pinned: null, // the place in memory that was clicked
    chosen: -1, // the call whose blocks stand out in the map
  };
  Object.assign(page, deviceWords(page));
  Object.assign(page, deviceTips(page));

  // One frame for all that happened since the last one.
  let wanted = null, stale = false;
  function ask(event) {
    const first = wanted === null && !stale;
    wanted = Math.max(0, Math.min(device.events - 1, event));
    if (first) requestAnimationFrame(frame);
  }
  function refresh() {
    const first = wanted === null && !stale;
    stale = true;
    if (first) requestAnimationFrame(frame);
  }
  function frame() {
    const event = wanted === null ? page.shown : wanted;
    wanted = null;
    stale = false;
    show(event);
  }
  function show(event) {
    page.shown = event;
    moment.go(event);
    slider.value = event;
    $('when').textContent = `event ${page.number(event)}${data.clock ? ' · ' + page.clock(event) : ''}`;
    slider.setAttribute('aria-valuetext', $('when').textContent);
    time.put($('time-pin'), event);
    page.read();
    page.say(event);
    flame.weigh();
    for (const picture of [map, flame]) {
      late.add(picture);
      if (fresh || inSight(picture.canvas)) draw(picture);
    }
    fresh = false;
    clearTimeout(rest);
    rest = setTimeout(settle, 150);
    page.caption();
    page.rank();
    page.tell();
  }
  // Pictures that are not in sight are drawn when they come into it, or when nothing moves.
  const late = new Set();
  let fresh = true, rest = null;
  function settle() {
    for (const picture of late) draw(picture);
  }
  window.addEventListener('beforeprint', settle);
  function draw(picture) {
    late.delete(picture);
    picture.draw();
  }
  function inSight(canvas) {
    const {top, bottom} = canvas.getBoundingClientRect();
    return bottom > -100 && top < innerHeight + 100;
  }
  document.addEventListener('scroll', () => {
    for (const picture of late) if (inSight(picture.canvas)) draw(picture);
  }, {passive: true});

  deviceControls(page);
  function redraw() { palette.read(); time.draw(); refresh(); }
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
  let width = 0;
  const sized = () => {
    if ($('memory-box').clientWidth === width) return;
    width = $('memory-box').clientWidth;
    map.layOut();
    time.draw();
    refresh();
  };
  map.layOut();
  width = $('memory-box').clientWidth;
  palette.read();
  time.draw();
  slider.min = 0;
  slider.max = device.events - 1;
  show(Math.max(0, Math.min(device.events - 1, +slider.dataset.start - data.first)));
  new ResizeObserver(sized).observe($('memory-box'));
  window.kvatlasDevice = page; // for tests and the curious
})().catch((error) => {
  const message = document.getElementById('device-message');
  message.hidden = false;
  message.textContent = `The pictures cannot be drawn: ${error.message}`;
  console.error(error);
});
