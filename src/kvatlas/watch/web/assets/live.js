// The live page: listens to the stream, hands moments to the parts, reconnects, steers a recording.
'use strict';
import {liveCharts} from './live_chart.js';
import {liveMap, ownerCss} from './live_map.js';
import {showAlerts, showCards, showHealth, showTables, span} from './live_parts.js';

const $ = (id) => document.getElementById(id);
const SILENCE_MS = 15000, RETRY_MS = 2000;
const CHARTS = [
  {title: 'Blocks of the pool', share: true, top: 1, note: 'Mean shares. A cache should be full; '
    + 'worry when blue fills it all: then requests wait or are preempted.', curves: [
    {column: 'usage', name: 'in use', color: 5, look: 'stack'},
    {column: 'evictable', name: 'cached, free to evict', color: 6, look: 'stack'}]},
  {title: 'Token hit rate', share: true, note: 'Prompt tokens found in the cache, of those asked '
    + 'for in the interval.', curves: [
    {column: 'hit_rate', name: 'in the interval', color: 3, look: 'area'}]},
  {title: 'Slots held that hold no token', share: true, note: 'The unfilled ends of block tables.',
    curves: [{column: 'waste', name: 'internal waste', color: 2, look: 'area'}]},
  {title: 'Requests', note: 'Worry when the queue grows and does not drain.', curves: [
    {column: 'running', name: 'running', color: 1, look: 'line'},
    {column: 'waiting', name: 'waiting', color: 2, look: 'line'}]},
  {title: 'Tokens per second', note: 'Computed, on the engine’s clock.', curves: [
    {column: 'tokens_per_s', name: 'tokens / s', color: 1, look: 'area'}]},
  {title: 'Preemptions per second', note: 'Worry when they do not stop.', curves: [
    {column: 'preemptions', name: 'preemptions', color: 2, look: 'area', perSecond: true}]},
  {title: 'Refused allocations per second', note: 'Beside a growing queue: the pool is too '
    + 'small.', curves: [
    {column: 'failures', name: 'refused', color: 2, look: 'area', perSecond: true}]},
  {title: 'Evictions per second', note: 'Normal for a full cache; they cost what is asked for '
    + 'again.', curves: [
    {column: 'evictions', name: 'evicted blocks', color: 4, look: 'area', perSecond: true}]},
];
const SPANS = [['all', 0], ['1 h', 3600], ['10 min', 600], ['1 min', 60]];
const SPEEDS = [0.25, 0.5, 1, 2, 5, 10, 60, 0];

const map = liveMap($('blocks'), {
  box: $('map-box'), legend: $('map-legend'), tip: $('tip'), said: $('said'), scale: $('scale'),
});
const charts = liveCharts($('charts'), CHARTS);
let history = null, moment = null, shown = null, chosen = null, broken = '';
let source = null, heardMs = 0, retry = null, dragging = false;

function state(text, kind) {
  $('state').textContent = text;
  $('state').className = 'state ' + kind;
  $('all').classList.toggle('stale', kind === 'away');
}
function trouble(text) {
  $('trouble').hidden = !text;
  $('trouble').textContent = text;
}

// The course so far: the server sends its new end, and all of it at first and now and then.
function extend(part, anew) {
  if (anew || history === null) { history = part; return; }
  if (!part.start_s.length) return;
  let keep = history.start_s.findIndex((start) => start >= part.start_s[0]);
  if (keep < 0) keep = history.start_s.length;
  for (const name of Object.keys(history)) {
    history[name] = history[name].slice(0, keep).concat(part[name]);
  }
}

const isOver = () => !moment.playback.paused && ['ended', 'cut off'].includes(moment.health.state);
function showPlayer({playback}) {
  $('player').hidden = playback === null;
  if (playback === null) return;
  const {paused, speed, position_s: at, first_s: first, last_s: last} = playback;
  $('play').textContent = isOver() ? '↻' : paused ? '▶' : '❚❚';
  $('play').setAttribute('aria-label', isOver() ? 'Play again' : paused ? 'Play' : 'Pause');
  if (!dragging) {
    $('seek').value = last > first ? 1000 * (at - first) / (last - first) : 0;
    $('seek').setAttribute('aria-valuetext', span(at));
    $('clock').textContent = `${span(at)} of ${span(last)}`;
  }
  const speeds = SPEEDS.includes(speed) ? SPEEDS : [speed, ...SPEEDS];
  if ($('speed').children.length !== speeds.length) {
    $('speed').replaceChildren(...speeds.map((each) => {
      const option = document.createElement('option');
      option.value = each;
      option.textContent = each === 0 ? 'fastest' : `${each}×`;
      return option;
    }));
  }
  if (document.activeElement !== $('speed')) $('speed').value = speed;
}
const WORDS = {live: 'live', quiet: 'idle', ended: 'ended', 'cut off': 'cut off', playing: 'playing'};
function onMoment(newest) {
  extend(newest.history, newest.whole || moment === null);
  moment = newest;
  const {health, playback} = moment;
  const paused = playback !== null && playback.paused;
  state(paused ? 'paused' : WORDS[health.state] ?? health.state,
    paused ? 'paused' : health.state.replace(' ', '-'));
  trouble(broken ? `This engine cannot be shown: ${broken}`
    : health.fault ? `The recording cannot be read on: ${health.fault}` : health.partial);
  $('title').textContent = moment.engine;
  document.title = `${moment.engine} · kvatlas`;
  const said = [moment.version, `step ${moment.step.toLocaleString('en')}`,
    `${moment.events.toLocaleString('en')} events`, `at ${span(moment.time_s)}`];
  if (moment.wall_unix_s !== null) {
    said.push(new Date(1000 * moment.wall_unix_s).toLocaleTimeString());
  }
  if (!moment.caching) said.push('prefix caching off');
  $('facts').textContent = said.join(' · ');
  $('all').hidden = false;
  showPlayer(moment);
  showAlerts($('alerts'), moment);
  showCards($('cards'), moment);
  map.show(moment);
  charts.show(history);
  showTables($('tables'), moment, ownerCss);
  showHealth($('health'), moment);
}

function onEngines({engines, shown: key, waiting}) {
  shown = key;
  $('report').href = '/report' + (key === null ? '' : '?engine=' + encodeURIComponent(key));
  broken = engines.find((engine) => engine.key === key)?.trouble ?? '';
  if (broken) trouble(`This engine cannot be shown: ${broken}`);
  $('chooser').hidden = engines.length < 2;
  const options = engines.map((engine) => {
    const option = document.createElement('option');
    option.value = engine.key;
    option.textContent = `${engine.label} (${WORDS[engine.state] ?? engine.state})`;
    return option;
  });
  if (document.activeElement !== $('engines')
      || options.length !== $('engines').children.length) {
    $('engines').replaceChildren(...options.reverse());
    if (key !== null) $('engines').value = key;
  }
  if (key === null) {
    state('waiting', 'quiet');
    $('title').textContent = 'waiting';
    $('facts').textContent = waiting;
  }
}

function connect() {
  clearTimeout(retry);
  retry = null;
  if (source) source.close();
  heardMs = Date.now();
  const query = chosen === null ? '' : '?engine=' + encodeURIComponent(chosen);
  source = new EventSource('/api/stream' + query);
  const listen = (name, act) => source.addEventListener(name, (event) => {
    heardMs = Date.now();
    act(JSON.parse(event.data));
  });
  listen('engines', onEngines);
  listen('moment', onMoment);
  listen('beat', () => {
    if ($('state').classList.contains('away') && moment !== null) onMoment({...moment,
      history: {start_s: []}, whole: false});
  });
  source.addEventListener('error', () => {
    state('connection lost', 'away');
    // The browser tries again by itself unless the answer was an error.
    if (source.readyState === EventSource.CLOSED && retry === null) {
      retry = setTimeout(connect, RETRY_MS);
    }
  });
}
// A connection may die without a word.
setInterval(() => {
  if (!document.hidden && Date.now() - heardMs > SILENCE_MS) {
    state('connection lost', 'away');
    connect();
  }
}, 3000);
// A page that nobody sees needs no stream; browsers allow few of them at once.
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) connect();
  else if (source) source.close();
});

async function steer(act, to = 0) {
  if (shown === null) return;
  try {
    const answer = await fetch('/api/control', {
      method: 'POST',
      headers: {'content-type': 'application/json'},
      body: JSON.stringify({engine: shown, do: act, to}),
    });
    if (!answer.ok) trouble(await answer.text());
  } catch { // the server is gone
    state('connection lost', 'away');
  }
}
async function playOrPause() {
  const {paused, speed, first_s: first} = moment.playback;
  if (!isOver()) return steer(paused ? 'play' : 'pause');
  if (speed === 0) await steer('speed', 1); // as fast as it goes, it would be over again at once
  return steer('seek', first);
}
$('play').addEventListener('click', playOrPause);
$('step').addEventListener('click', () => steer('step'));
$('speed').addEventListener('change', () => steer('speed', +$('speed').value));
$('seek').addEventListener('input', () => {
  dragging = true;
  const {first_s: first, last_s: last} = moment.playback;
  $('clock').textContent = `${span(first + $('seek').value / 1000 * (last - first))} of ${span(last)}`;
});
$('seek').addEventListener('change', () => {
  dragging = false;
  const {first_s: first, last_s: last} = moment.playback;
  steer('seek', first + $('seek').value / 1000 * (last - first));
});
$('engines').addEventListener('change', () => {
  chosen = $('engines').value;
  moment = history = null;
  connect();
});
for (const [button, byOwner] of [['by-state', false], ['by-owner', true]]) {
  $(button).addEventListener('click', () => {
    $('by-state').setAttribute('aria-pressed', String(!byOwner));
    $('by-owner').setAttribute('aria-pressed', String(byOwner));
    map.color(byOwner);
  });
}
for (const [name, seconds] of SPANS) {
  const button = document.createElement('button');
  button.textContent = name;
  button.setAttribute('aria-pressed', String(seconds === 0));
  button.addEventListener('click', () => {
    for (const other of $('spans').querySelectorAll('button')) {
      other.setAttribute('aria-pressed', String(other === button));
    }
    charts.span(seconds);
  });
  $('spans').append(' ', button);
}
document.addEventListener('keydown', (event) => {
  const here = document.activeElement === document.body;
  if (event.key !== ' ' || !here || moment === null || moment.playback === null) return;
  playOrPause();
  event.preventDefault();
});
connect();
window.kvatlasLive = { // for tests and the curious
  get moment() { return moment; }, get history() { return history; }, map,
  get source() { return source; },
};
