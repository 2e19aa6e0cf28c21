// The columns of a device's trace, unpacked: every block with the time that it lived. The reading
// half of what kvatlas.report.device_pack and kvatlas.report.packing write. Bytes and places are in
// units of 512; events are numbered from the first one of the page.
'use strict';
const NEVER = 2 ** 31 - 1;
const UNIT = 512;
class DeviceData {
  static async open(data) {
    const columns = {};
    for (const [name, text] of Object.entries(data.streams)) {
      const letters = atob(text), bytes = new Uint8Array(letters.length);
      for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
      const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
      columns[name] = new Uint8Array(await new Response(plain).arrayBuffer());
    }
    data.streams = null;
    return new DeviceData(data, columns);
  }

  constructor(data, columns) {
    this.data = data;
    this.events = data.events;
    this.blocks = data.blocks;
    this.segments = data.segments;
    this.action = columns.action;
    this.readBlocks(columns);
    this.readSegments(columns);
    this.readCalls(columns);
    this.readTotals(columns);
    // A moment asks who is alive: batches of blocks that are all gone are passed over.
    this.lastOfBatch = new Int32Array(Math.ceil(this.blocks / 256));
    for (let i = 0; i < this.blocks; i++) {
      if (this.gone[i] > this.lastOfBatch[i >> 8]) this.lastOfBatch[i >> 8] = this.gone[i];
    }
    // What is alive at the moment shown: numbers of blocks, by birth, and of segments, by place.
    this.event = -2;
    this.alive = new Int32Array(1024);
    this.numAlive = 0;
    this.there = new Int32Array(this.segments);
    this.numThere = 0;
  }

  // Calls each(i, number) for the numbers of a column.
  static read(bytes, each) {
    for (let at = 0, i = 0; at < bytes.length; i++) {
      let byte = bytes[at++], number = byte & 127;
      for (let place = 128; byte > 127; place *= 128) {
        byte = bytes[at++];
        number += (byte & 127) * place;
      }
      each(i, number);
    }
  }
  static unfold(number) { return number % 2 === 0 ? number / 2 : -(number + 1) / 2; }
  static column(bytes, array, make = (number) => number) {
    DeviceData.read(bytes, (i, number) => { array[i] = make(number, i); });
    return array;
  }

  readBlocks(columns) {
    const {blocks} = this, {column, unfold} = DeviceData;
    let sum = -1;
    this.born = column(columns.block_born, new Int32Array(blocks), (step) => sum += step);
    const {born} = this;
    this.freed = column(columns.block_freed, new Int32Array(blocks),
      (step, i) => step === 0 ? NEVER : Math.min(NEVER, born[i] + step - 1));
    const {freed} = this;
    this.gone = column(columns.block_gone, new Int32Array(blocks),
      (step, i) => step === 0 ? NEVER : Math.min(NEVER, freed[i] + step - 1));
    sum = 0;
    this.place = column(columns.block_place, new Float64Array(blocks), (step) => sum += unfold(step));
    this.units = column(columns.block_units, new Float64Array(blocks));
    this.slack = column(columns.block_slack, new Float64Array(blocks), unfold);
    this.stack = column(columns.block_stack, new Int32Array(blocks));
    this.since = column(columns.block_since, new Int32Array(this.data.old));
  }

  readSegments(columns) {
    const {segments} = this, {column} = DeviceData;
    let sum = 0;
    this.segment = {
      place: column(columns.segment_place, new Float64Array(segments), (step) => sum += step),
      units: column(columns.segment_units, new Float64Array(segments)),
      born: column(columns.segment_born, new Int32Array(segments), (number) => number - 1),
      gone: column(columns.segment_gone, new Int32Array(segments),
        (number) => number === 0 ? NEVER : number - 1),
      pool: column(columns.segment_pool, new Int32Array(segments)),
      stream: column(columns.segment_stream, new Int32Array(segments)),
      flags: column(columns.segment_flags, new Uint8Array(segments)),
    };
  }

  readCalls(columns) {
    const {column} = DeviceData;
    const numbers = (bytes) => {
      const found = [];
      DeviceData.read(bytes, (i, number) => found.push(number));
      return found;
    };
    // Two trees of calls: those that tell something, and all of them.
    const tree = (name) => {
      const frame = Int32Array.from(numbers(columns[name + '_frame']));
      return {
        frame, parent: column(columns[name + '_parent'], new Int32Array(frame.length), (back, i) => i - back),
        leaf: Int32Array.from(numbers(columns[name + '_leaf']), (node) => node - 1),
      };
    };
    this.trees = {telling: tree('telling'), full: tree('full')};
    this.stacks = this.trees.full.leaf.length;
    this.stackName = Int32Array.from(numbers(columns.stack_name));
    const names = numbers(columns.call_name), files = numbers(columns.call_file);
    this.frames = numbers(columns.call_line).map((line, i) => (
      {
        name: this.data.callNames[names[i]] || '?', file: this.data.files[files[i]], line,
        label: this.data.callLabels[i],
      }));
    this.times = [];
    let time = 0;
    DeviceData.read(columns.time, (i, step) => this.times.push(time += DeviceData.unfold(step)));
  }

  // Bytes after every event, in units.
  readTotals(columns) {
    const {events, blocks, born, freed, gone, units} = this;
    const {unfold} = DeviceData;
    const changing = (name) => {
      const at = [], values = new Float64Array(events);
      let event = 0, sum = 0;
      DeviceData.read(columns[name + '_at'], (i, step) => at.push(event += step));
      DeviceData.read(columns[name + '_step'], (i, step) => { values[at[i]] = unfold(step); });
      for (let i = 0; i < events; i++) values[i] = sum += values[i];
      return values;
    };
    this.reserved = changing('reserved');
    this.releasable = changing('releasable');
    this.idle = changing('idle');
    this.allocated = new Float64Array(events);
    this.active = new Float64Array(events);
    for (let i = 0; i < blocks; i++) {
      if (freed[i] >= 0) this.allocated[Math.max(0, born[i])] += units[i];
      this.active[Math.max(0, born[i])] += units[i];
      if (freed[i] >= 0 && freed[i] < events) this.allocated[freed[i]] -= units[i];
      if (gone[i] < events) this.active[gone[i]] -= units[i];
    }
    this.stuck = new Float64Array(events);
    let allocated = 0, active = 0;
    for (let i = 0; i < events; i++) {
      this.allocated[i] = allocated += this.allocated[i];
      this.active[i] = active += this.active[i];
      this.stuck[i] = this.reserved[i] - active - this.releasable[i] - this.idle[i];
    }
  }

  // Makes `alive` and `there` what was there after an event.
  go(event) {
    if (event === this.event) return;
    this.event = event;
    const {born, gone, blocks, lastOfBatch, segment, there} = this;
    let count = 0;
    for (let batch = 0; batch < lastOfBatch.length; batch++) {
      const from = batch << 8;
      if (born[from] > event) break;
      if (lastOfBatch[batch] <= event) continue;
      if (count + 256 > this.alive.length) {
        const more = new Int32Array(2 * this.alive.length);
        more.set(this.alive);
        this.alive = more;
      }
      const {alive} = this, to = Math.min(blocks, from + 256);
      for (let i = from; i < to && born[i] <= event; i++) if (gone[i] > event) alive[count++] = i;
    }
    this.numAlive = count;
    count = 0;
    for (let i = 0; i < this.segments; i++) {
      if (segment.born[i] <= event && segment.gone[i] > event) there[count++] = i;
    }
    this.numThere = count;
  }

  // Microseconds since the trace began; between two samples as if events came evenly.
  time(event) {
    const {times, data} = this, at = Math.floor(event / data.timeStep);
    const next = times[Math.min(times.length - 1, at + 1)];
    return data.sinceStart + times[at] + (next - times[at]) * (event / data.timeStep - at);
  }

  // The address at a place, in hexadecimal digits.
  address(place) {
    const {regionPlace, regionAddress} = this.data;
    const region = last(regionPlace, place);
    return '0x' + (BigInt('0x' + regionAddress[region])
      + BigInt(UNIT) * BigInt(place - regionPlace[region])).toString(16);
  }
  region(place) { return last(this.data.regionPlace, place); }

  // A stack in one line.
  nameOf(stack) { return this.data.stackNames[this.stackName[stack]]; }

  // The calls of a stack, the innermost first: all, or those that tell something.
  calls(stack, which = 'full') {
    const calls = [];
    const {frame, parent, leaf} = this.trees[which];
    for (let node = leaf[stack]; node >= 0; node = parent[node]) calls.push(this.frames[frame[node]]);
    return calls;
  }
}

// The last place in a rising list whose value is at most the wanted one; 0 if none is.
function last(values, wanted, count = values.length) {
  let low = 0, high = count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] <= wanted) low = middle + 1; else high = middle;
  }
  return Math.max(0, low - 1);
}
