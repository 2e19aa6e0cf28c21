// What is written beside the map and the charts. Names come from a server's clients and are text:
// nothing here makes HTML of them.
'use strict';
import {showValue} from './live_chart.js';

const whole = (number) => number === null ? '–' : Math.round(number).toLocaleString('en');
const percent = (share, digits = 1) => share === null ? '–' : (100 * share).toFixed(digits) + '%';
function element(tag, className = '', text = '') {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== '') made.textContent = text;
  return made;
}
export function bytes(number) {
  if (number === null || number === undefined) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) { number /= 1024; unit++; }
  return `${unit ? +number.toPrecision(3) : number} ${units[unit]}`;
}
export function span(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  if (seconds < 1) return `${Math.round(1000 * seconds)} ms`;
  if (seconds < 100) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 100) return `${minutes} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// Replaces children only where they differ, so that a reader's selection and focus stay.
function fill(box, children) {
  children.forEach((child, i) => {
    const old = box.children[i];
    if (old && old.isEqualNode(child)) return;
    if (old) old.replaceWith(child); else box.append(child);
  });
  while (box.children.length > children.length) box.lastElementChild.remove();
}

function card(name, value, what, {unit = '', share = null, mark = null} = {}) {
  const box = element('div', 'card'), big = element('b', '', value);
  if (unit) big.append(' ', element('small', '', unit));
  box.append(element('div', 'name', name), big);
  if (share !== null) {
    const meter = element('div', 'meter'), bar = element('i');
    bar.style.width = 100 * Math.min(1, share) + '%';
    meter.append(bar);
    if (mark !== null) {
      const line = element('u');
      line.style.left = 100 * mark + '%';
      meter.append(line);
    }
    box.append(meter);
  }
  box.append(element('p', 'what', what));
  return box;
}
export function showCards(box, moment) {
  const {pool, prefix, waste, requests, rates, evictions, unavailable} = moment;
  const why = (field, otherwise) => unavailable[field] ?? otherwise;
  const recent = prefix.token_hit_rate_60s ?? prefix.token_hit_rate;
  fill(box, [
    card('Token hit rate', percent(recent), why('prefix.token_hit_rate',
      `of the prompt tokens came from the cache, ${prefix.token_hit_rate_60s === null
        ? 'so far' : 'last minute'}; ${percent(prefix.token_hit_rate)} so far (the mark)`),
    {share: recent, mark: prefix.token_hit_rate}),
    card('Pool in use', percent(pool.usage),
      `${whole(pool.used_blocks)} of ${whole(pool.total_blocks)} blocks; the mark: `
        + `${percent(pool.resident)} hold something`, {share: pool.usage, mark: pool.resident}),
    card('True occupancy', percent(pool.slot_usage), why('pool.slot_usage',
      `${whole(pool.live_slots)} of ${whole(pool.total_slots)} slots hold a token of a request`),
    {share: pool.slot_usage}),
    card('Internal waste', percent(waste.internal, 2), why('waste.internal',
      `${whole(waste.wasted_slots)} slots are held and empty`)),
    card('Preemptions', whole(requests.preemptions),
      `running requests lost their blocks, ${showValue(rates.preemptions_per_s)} a second now`),
    card('Requests', whole(requests.running),
      `${whole(requests.waiting)} wait, ${whole(requests.finished)} are done`,
      {unit: 'running'}),
    card('Tokens', whole(rates.tokens_per_s),
      `computed; ${showValue(rates.steps_per_s)} steps a second`, {unit: '/ s'}),
    card('Evicted blocks', whole(evictions.total), evictions.premature === null
      ? why('evictions.premature', '')
      : `${whole(evictions.premature)} of them were asked for again`),
  ]);
}

const TONES = {bad: ['act', '▲ Bad'], warn: ['act', '▲ Warning'], info: ['watch', '● Note']};
export function showAlerts(box, moment) {
  fill(box, moment.alerts.map((alert) => {
    const [tone, word] = TONES[alert.level] ?? TONES.info;
    const row = element('li', tone), name = element('b', '', alert.name);
    row.append(element('span', 'tone', word), name, element('span', '', alert.text));
    const ago = Math.max(0, moment.time_s - alert.since_s);
    row.append(element('span', 'since', `for ${span(ago)}`));
    return row;
  }));
}

function table(title, note, heads, rows, className = '') {
  const box = element('div', className);
  box.append(element('h3', '', title));
  if (note) box.append(element('p', 'note', note));
  const made = element('table'), head = element('thead'), body = element('tbody');
  const top = element('tr');
  for (const name of heads) top.append(element('th', '', name));
  head.append(top);
  for (const cells of rows) {
    const row = element('tr');
    cells.forEach((cell, i) => {
      const number = typeof cell !== 'string';
      const made = cell instanceof Node ? cell : element('td', number ? 'n' : '',
        number ? whole(cell) : cell);
      row.append(made);
    });
    body.append(row);
  }
  made.append(head, body);
  box.append(made);
  return box;
}
function nameCell(request, color) {
  const cell = element('td', 'name'), swatch = element('i', 'cell');
  swatch.style.background = color(request.row);
  cell.append(swatch, request.name || `request ${request.row}`);
  return cell;
}
export function showTables(box, moment, color) {
  const {top, groups, evictions, failures, free_runs: free, empty_runs: empty} = moment;
  const parts = [
    table('Requests', top.length ? 'Those that hold the most blocks, and who waits longest.'
      : 'None runs or waits.',
    ['Request', 'State', 'Blocks', 'Pieces', 'Computed', 'Prompt', 'Hit', 'For'],
    top.map((row) => [
      nameCell(row, color),
      row.state + (row.preemptions ? `, preempted ${row.preemptions}×` : ''),
      row.blocks, row.runs, row.computed_tokens, row.tokens, row.hit_tokens, span(row.since_s),
    ]), 'wide'),
    table('KV cache groups', 'Blocks now; then blocks so far.',
      ['Group', 'Block', 'Used', 'Cached', 'Bytes', 'Taken', 'Hit', 'Evicted'],
      groups.map((row) => [
        `${row.group} ${row.kind}${row.window === null ? '' : `, window ${whole(row.window)}`}`,
        row.block_size, row.used_blocks, row.evictable_blocks, bytes(row.used_bytes),
        row.allocated_blocks, row.hit_blocks, row.evicted_blocks,
      ])),
    table('Evictions and refusals', 'So far, by what for.', ['What', 'Blocks or times'], [
      ['evicted for a prompt', evictions.prefill], ['evicted for an answer', evictions.decode],
      ['evicted on demand', evictions.explicit], ['evicted by another copy', evictions.replaced],
      ['asked for again', evictions.premature], ['forgotten by resets', evictions.forgotten],
      ['refused at admission', failures.admission], ['refused to a prompt', failures.prefill],
      ['refused to an answer', failures.decode],
    ].filter(([, value], i) => value !== 0 || i === 0)),
    table('Free space', 'Runs of neighbouring free blocks. Blocks are equal, so they fail no '
      + 'allocation; they matter to transfers and huge pages.',
    ['Free', 'Blocks', 'Runs', 'Longest', 'Median', 'External index'],
    [['cached or empty', free], ['empty', empty]].map(([name, runs]) => [
      name, runs.blocks, runs.count, runs.largest, runs.p50,
      runs.efi === null ? '–' : runs.efi.toFixed(3),
    ])),
  ];
  fill(box, parts);
}

function list(title, pairs) {
  const box = element('div'), made = element('dl');
  box.append(element('h3', '', title), made);
  for (const [name, value, tone = ''] of pairs) {
    made.append(element('dt', '', name), element('dd', tone, value));
  }
  return box;
}
export function showHealth(box, moment) {
  const {health, memory} = moment, sample = memory.length ? memory[memory.length - 1] : null;
  const alarm = (bad) => bad ? 'alarm' : '';
  const parts = [list('Recorder', [
    ['State', health.state],
    ['Last event', health.age_s === null ? 'no clock runs' : `${span(health.age_s)} ago`],
    ['Lost', `${whole(health.lost_events)} events, ${whole(health.lost_segments)} segments`,
      alarm(health.lost_events > 0)],
    ['Errors', `${whole(health.errors)}${health.last_error ? ': ' + health.last_error : ''}`,
      alarm(health.errors > 0)],
    ['On disk', bytes(health.bytes_on_disk)
      + (health.bytes_bound === null ? '' : ` of at most ${bytes(health.bytes_bound)}`)],
    ['Not yet read', `${whole(health.lag_events)} events`],
    ...health.partial ? [['Complete', health.partial]] : [],
    ...health.fault ? [['Reading stopped', health.fault, 'alarm']] : [],
  ])];
  if (sample) {
    const gc = sample.gc, pairs = [
      ['Resident', sample.rss_bytes === null ? sample.process_reason : bytes(sample.rss_bytes)],
      ['Highest', bytes(sample.peak_rss_bytes)],
    ];
    if (gc) pairs.push(['Collector', `${whole(gc.pauses)} pauses, ${gc.pause_ms_total.toFixed(1)} ms`]);
    for (const each of sample.torch) {
      pairs.push([`PyTorch, device ${each.device}`,
        `${bytes(each.allocated_bytes)} in tensors, ${bytes(each.reserved_bytes)} reserved`]);
    }
    if (sample.torch_reason) pairs.push(['PyTorch', sample.torch_reason, 'unknown']);
    for (const each of sample.nvml) {
      pairs.push([`Device ${each.device}`,
        `${bytes(each.used_bytes)} of ${bytes(each.total_bytes)} ${each.name}`]);
    }
    if (sample.nvml_reason) pairs.push(['Devices', sample.nvml_reason, 'unknown']);
    parts.push(list('Memory of the engine process', pairs));
  } else {
    parts.push(list('Memory of the engine process', [['Unknown', 'nobody monitors it', 'unknown']]));
  }
  fill(box, parts);
}
