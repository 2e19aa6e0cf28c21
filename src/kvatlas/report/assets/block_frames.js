// The packed frames of the block map, unpacked: the reading half of the format that
// kvatlas.measure._frame_tape_kernel writes and kvatlas.measure.frame_codec reads in Python.
'use strict';
class BlockFrames {
  static async open(data) {
    const streams = {};
    for (const [name, text] of Object.entries(data.streams)) {
      const letters = atob(text), packed = new Uint8Array(letters.length);
      for (let i = 0; i < packed.length; i++) packed[i] = letters.charCodeAt(i);
      const plain = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate'));
      streams[name] = {bytes: new Uint8Array(await new Response(plain).arrayBuffer()), at: 0};
    }
    data.streams = null;
    return new BlockFrames(data, streams);
  }

  constructor(data, streams) {
    const {blocks, requests} = data;
    this.data = data;
    this.streams = streams;
    this.count = data.ticks.length;
    this.frame = -1; // what the arrays below show
    this.state = new Uint8Array(blocks); // 0 empty, 1 evictable, 2 used, 3 the null block
    this.owner = new Int32Array(blocks).fill(-1);
    this.key = data.wideKeys ? new BigInt64Array(blocks).fill(-1n) : new Float64Array(blocks).fill(-1);
    this.refCount = new Int32Array(blocks);
    this.since = new Uint16Array(blocks);
    this.nextUse = new Uint16Array(blocks); // tick, plus one; 0: never
    // What was last written for each owner; nobody is the last.
    this.lastKey = new Float64Array(requests + 1);
    this.context = new Int32Array(3 * (requests + 1));
    this.lastSince = new Int32Array(1);
    this.order = Int32Array.from({length: blocks}, (_, block) => block); // by owner and key
    this.spare = new Int32Array(blocks);
    this.counts = new Int32Array(2048);
    this.digits = new Uint16Array(blocks);
    this.none = data.wideKeys ? -1n : -1;
    this.every = Math.max(4, Math.ceil(this.count / 8));
    this.kept = new Map(); // frames to start from when time goes back
    this.keep();
  }

  static get parts() {
    return ['owner', 'key', 'refCount', 'since', 'nextUse', 'lastKey', 'context', 'lastSince',
      'order'];
  }
  keep() {
    const at = Object.values(this.streams).map((stream) => stream.at);
    this.kept.set(this.frame, [at, BlockFrames.parts.map((name) => this[name].slice())]);
  }
  restore(frame) {
    const [at, parts] = this.kept.get(frame);
    Object.values(this.streams).forEach((stream, i) => { stream.at = at[i]; });
    BlockFrames.parts.forEach((name, i) => this[name].set(parts[i]));
    this.frame = frame;
  }

  // Makes the arrays show frame number `frame`.
  go(frame) {
    if (frame < this.frame || frame > this.frame + this.every) {
      let best = -1;
      for (const kept of this.kept.keys()) if (kept <= frame && kept > best) best = kept;
      if (best > this.frame || frame < this.frame) this.restore(best);
    }
    while (this.frame < frame) {
      this.frame++;
      this.readContent();
      this.sort();
      this.readCondition(this.data.ticks[this.frame]);
      if (this.frame % this.every === 0 && !this.kept.has(this.frame)) this.keep();
    }
    const {state, refCount, key, none} = this;
    for (let block = 0; block < state.length; block++) {
      state[block] = refCount[block] > 0 ? 2 : key[block] !== none ? 1 : 0;
    }
    if (this.data.hasNull) state[0] = 3;
  }

  second(tick) { return this.data.start + tick * this.data.tick; }

  take(stream) {
    const {bytes} = stream;
    let byte = bytes[stream.at++];
    if (byte < 128) return byte;
    let number = byte & 127, place = 128;
    do {
      byte = bytes[stream.at++];
      number += (byte & 127) * place;
      place *= 128;
    } while (byte > 127);
    return number;
  }
  signed(stream) {
    const number = this.take(stream);
    return number % 2 === 0 ? number / 2 : -(number + 1) / 2;
  }
  wholeKey({bytes}) {
    const at = bytes.byteOffset + this.streams.key.at;
    this.streams.key.at += 8;
    return new DataView(bytes.buffer, at, 8).getBigInt64(0, true);
  }

  readContent() {
    const {owner, key, lastKey, order} = this, {blocks, wideKeys} = this.data;
    const {skip, length: lengths, owner: low, owner_high: high, newest: newests, key: keys} = this.streams;
    const newest = this.take(newests) - 1;
    for (let at = 0; at < blocks;) {
      at += this.take(skip);
      if (at >= blocks) break;
      const length = this.take(lengths), code = (length & 3) - 1;
      const stop = at + (length - (length & 3)) / 4 + 1;
      const who = newest - low.bytes[low.at++] - 256 * this.take(high);
      const index = who < 0 ? lastKey.length - 1 : who;
      let value = code === 2 ? this.none
        : wideKeys ? this.wholeKey(keys) : lastKey[index] + this.signed(keys);
      const stride = code === 2 ? this.none - this.none : wideKeys ? BigInt(code) : code;
      for (; at < stop; at++, value += stride) {
        owner[order[at]] = who;
        key[order[at]] = value;
      }
      if (code !== 2 && !wideKeys) lastKey[index] = value - stride;
    }
  }

  // Sorts the order by owner, key and id: a radix sort, by 11 bits in each pass.
  sort() {
    const {owner, key, order} = this, {wideKeys} = this.data;
    let largest = 0;
    if (!wideKeys) {
      for (let block = 0; block < order.length; block++) {
        order[block] = block;
        if (key[block] >= largest) largest = key[block] + 1;
      }
      for (let size = 1; size <= largest; size *= 2048) this.pass(key, size, largest);
    }
    largest = 0;
    for (let block = 0; block < order.length; block++) {
      if (owner[block] >= largest) largest = owner[block] + 1;
    }
    for (let size = 1; size <= largest; size *= 2048) this.pass(owner, size, largest);
  }
  pass(values, size, largest) {
    const {order, spare, counts, digits} = this, count = order.length;
    if (largest < 2 ** 31) {
      const shift = Math.log2(size);
      for (let block = 0; block < count; block++) digits[block] = ((values[block] + 1) >> shift) & 2047;
    } else {
      for (let block = 0; block < count; block++) {
        digits[block] = Math.floor((values[block] + 1) / size) % 2048;
      }
    }
    counts.fill(0);
    for (let block = 0; block < count; block++) counts[digits[block]]++;
    for (let digit = 0, total = 0; digit < 2048; digit++) {
      total += counts[digit];
      counts[digit] = total - counts[digit];
    }
    for (let at = 0; at < count; at++) spare[counts[digits[order[at]]]++] = order[at];
    order.set(spare);
  }

  readCondition(tick) {
    const {owner, refCount, since, nextUse, context, order} = this, {blocks} = this.data;
    const {code: codes, ref_count: refs, since: sinces, next_use: nexts} = this.streams;
    const nobody = context.length / 3 - 1;
    for (let at = 0; at < blocks;) {
      const token = this.take(codes), code = token % 3, stop = at + (token - code) / 3 + 1;
      if (code === 2) {
        const who = owner[order[at]], where = 3 * (who < 0 ? nobody : who);
        this.lastSince[0] += this.signed(sinces);
        const ahead = this.take(nexts);
        context[where] = this.take(refs);
        context[where + 1] = this.lastSince[0];
        context[where + 2] = ahead ? tick + ahead : 0;
      }
      if (code === 0) at = stop;
      for (; at < stop; at++) {
        const block = order[at], where = 3 * (owner[block] < 0 ? nobody : owner[block]);
        refCount[block] = context[where];
        since[block] = context[where + 1];
        nextUse[block] = context[where + 2];
      }
    }
  }
}
