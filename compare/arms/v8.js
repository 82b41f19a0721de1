'use strict'

/** Does nothing: the garbage collector finds dropped Buffers. */
function drop() {}

function end(response, buffer) {
  response.end(buffer)
}

function allocUnsafe() {
  return { take: (size) => Buffer.allocUnsafe(size), give: drop, end, close: drop }
}

/** Buffers from V8, freed by its garbage collector. */
module.exports = [
  {
    name: 'v8-alloc',
    about: 'Buffer.alloc: zeroed memory from V8',
    open: () => ({ take: (size) => Buffer.alloc(size), give: drop, end, close: drop })
  },
  {
    name: 'v8-allocUnsafe',
    about: 'Buffer.allocUnsafe under default settings: the baseline',
    open: allocUnsafe
  },
  {
    name: 'v8-tuned',
    about: 'Buffer.allocUnsafe under the V8 flags and the allocator that win the heats',
    open: allocUnsafe
  }
]
