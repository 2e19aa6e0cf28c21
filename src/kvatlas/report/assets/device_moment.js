// One moment of a device: which segments pin what, how much each stack holds and keeps stuck.
// The same rules as kvatlas.device.attribution, which the tests hold them against.
'use strict';
const LIVE = 0, WAITING = 1, STUCK = 2, RELEASABLE = 3, IDLE = 4;
class DeviceMoment {
  constructor(device) {
    this.device = device;
    const {segments, stacks} = device;
    this.used = new Float64Array(segments); // units in live blocks, by segment
    this.kept = new Float64Array(segments); // stuck units, by run: at its first segment
    this.run = new Int32Array(segments); // the first segment of the run that each is in
    this.places = new Float64Array(segments); // of the segments there
    this.home = new Int32Array(1024); // the run of each block alive
    this.pages = []; // [place, units] of whole free pages: they would go back
    this.held = new Float64Array(stacks); // units, by stack
    this.stuck = new Float64Array(stacks);
    this.count = new Int32Array(stacks);
    this.event = -2;
  }

  go(event) {
    const {device} = this;
    if (event === this.event) return;
    this.event = event;
    device.go(event);
    const {there, numThere, alive, numAlive, segment, place, units} = device;
    if (this.home.length < alive.length) this.home = new Int32Array(alive.length);
    const {used, run, places, home} = this;
    for (let i = 0; i < numThere; i++) {
      const each = there[i], before = there[i - 1];
      places[i] = segment.place[each];
      used[each] = 0;
      // Neighbouring pages of one expandable segment are one run.
      const joined = i > 0 && (segment.flags[each] & 2) && segment.flags[each] === segment.flags[before]
        && segment.pool[each] === segment.pool[before] && segment.stream[each] === segment.stream[before]
        && segment.place[before] + segment.units[before] === segment.place[each];
      run[each] = joined ? run[before] : each;
    }
    for (let i = 0; i < numAlive; i++) {
      const block = alive[i];
      const each = run[there[last(places, place[block], numThere)]];
      home[i] = each;
      used[each] += units[block];
    }
    this.keep();
    this.share();
  }

  // What every run keeps from the driver.
  keep() {
    const {device, used, kept, run} = this, {there, numThere, segment} = device;
    this.pages = [];
    let expandable = false;
    for (let i = 0; i < numThere; i++) {
      const each = there[i];
      if (run[each] === each) kept[each] = -used[each];
      kept[run[each]] += segment.units[each];
      expandable ||= (segment.flags[each] & 2) !== 0;
    }
    if (expandable) this.findPages();
    for (let i = 0; i < numThere; i++) {
      const each = there[i];
      if (run[each] !== each) continue;
      const whole = (segment.flags[each] & 2) === 0 && used[each] === 0;
      if (segment.pool[each] !== 0 || whole) kept[each] = 0;
    }
  }

  // Free pages of expandable runs in the common pool.
  findPages() {
    const {device, home, kept, run} = this, {segment, alive, numAlive, place, units} = device;
    const {smallPage, largePage} = device.data;
    const blocks = new Map();
    for (let i = 0; i < numAlive; i++) {
      if (!(segment.flags[home[i]] & 2) || segment.pool[home[i]] !== 0) continue;
      if (!blocks.has(home[i])) blocks.set(home[i], []);
      blocks.get(home[i]).push(alive[i]);
    }
    const ends = new Map();
    for (let i = 0; i < device.numThere; i++) {
      const each = device.there[i];
      if (segment.flags[each] & 2) ends.set(run[each], segment.place[each] + segment.units[each]);
    }
    for (const [each, end] of ends) {
      if (segment.pool[each] !== 0) continue;
      const page = segment.flags[each] & 1 ? smallPage : largePage, start = segment.place[each];
      const inside = (blocks.get(each) || []).sort((a, b) => place[a] - place[b]);
      let at = start;
      const gap = (until) => {
        const first = Math.ceil((at - start) / page) * page;
        const past = Math.floor((until - start) / page) * page;
        if (past > first) {
          this.pages.push([start + first, past - first]);
          kept[each] -= past - first;
        }
      };
      for (const block of inside) {
        gap(place[block]);
        at = Math.max(at, place[block] + units[block]);
      }
      gap(end);
    }
  }

  // What each stack holds; stuck bytes are divided evenly among the stacks of a run.
  share() {
    const {device, home, kept, held, stuck, count} = this;
    const {alive, numAlive, stack, units, segments} = device;
    held.fill(0);
    stuck.fill(0);
    count.fill(0);
    // Blocks in order of their runs: a counting sort.
    const starts = new Int32Array(segments + 1), order = new Int32Array(numAlive);
    for (let i = 0; i < numAlive; i++) {
      held[stack[alive[i]]] += units[alive[i]];
      count[stack[alive[i]]]++;
      starts[home[i] + 1]++;
    }
    for (let i = 0; i < segments; i++) starts[i + 1] += starts[i];
    const next = starts.slice(0, segments);
    for (let i = 0; i < numAlive; i++) order[next[home[i]]++] = stack[alive[i]];
    const seen = new Int32Array(held.length).fill(-1);
    for (let each = 0; each < segments; each++) {
      const from = starts[each], to = starts[each + 1];
      if (from === to || kept[each] <= 0) continue;
      let sharers = 0;
      for (let i = from; i < to; i++) {
        if (seen[order[i]] !== each) { seen[order[i]] = each; sharers++; }
      }
      for (let i = from; i < to; i++) {
        if (seen[order[i]] === each) { stuck[order[i]] += kept[each] / sharers; seen[order[i]] = -1; }
      }
    }
  }

  // The sums, in units, by LIVE ... IDLE, from what was found here.
  sums() {
    const {device, used, kept, run} = this, sums = [0, 0, 0, 0, 0];
    const {there, numThere, segment, alive, numAlive, freed, units} = device;
    for (let i = 0; i < numAlive; i++) {
      sums[freed[alive[i]] <= this.event ? WAITING : LIVE] += units[alive[i]];
    }
    let free = 0;
    for (let i = 0; i < numThere; i++) {
      const each = there[i];
      free += segment.units[each];
      if (segment.pool[each] !== 0) sums[IDLE] += segment.units[each];
      if (run[each] !== each) continue;
      free -= used[each];
      if (segment.pool[each] !== 0) sums[IDLE] -= used[each];
      sums[STUCK] += kept[each];
    }
    sums[RELEASABLE] = free - sums[STUCK] - sums[IDLE];
    return sums;
  }

  // What a place is part of: {kind, from, units, block, run}; null where nothing is.
  at(place) {
    const {device, run, kept, places, home} = this;
    const {there, numThere, alive, numAlive, segment, units, freed} = device;
    const index = last(places, place, numThere), found = there[index];
    if (!numThere || place < segment.place[found]) return null;
    if (place >= segment.place[found] + segment.units[found]) return null;
    const whole = run[found];
    let from = segment.place[whole], to = segment.place[found] + segment.units[found];
    for (let i = index + 1; i < numThere && run[there[i]] === whole; i++) {
      to = segment.place[there[i]] + segment.units[there[i]];
    }
    for (let i = 0; i < numAlive; i++) {
      if (home[i] !== whole) continue;
      const start = device.place[alive[i]], end = start + units[alive[i]];
      if (start <= place && place < end) {
        const kind = freed[alive[i]] <= this.event ? WAITING : LIVE;
        return {kind, from: start, units: end - start, block: alive[i], run: whole};
      }
      if (end <= place) from = Math.max(from, end); else to = Math.min(to, start);
    }
    let kind = segment.pool[whole] !== 0 ? IDLE : kept[whole] > 0 ? STUCK : RELEASABLE;
    const page = this.pages.find(([start, long]) => start <= place && place < start + long);
    if (kind === STUCK && page) kind = RELEASABLE;
    return {kind, from, units: to - from, block: -1, run: whole};
  }

  // Units and live blocks of a run.
  about(whole) {
    const {device, run, home} = this, {segment, there, numThere, alive, numAlive, stack} = device;
    let units = 0, blocks = 0;
    const stacks = new Set();
    for (let i = 0; i < numThere; i++) if (run[there[i]] === whole) units += segment.units[there[i]];
    for (let i = 0; i < numAlive; i++) {
      if (home[i] === whole) { blocks++; stacks.add(stack[alive[i]]); }
    }
    return {units, blocks, stacks: stacks.size};
  }
}
