'use strict'

const { setImmediate: nextTurn } = require('node:timers/promises')
const v8 = require('node:v8')
const vm = require('node:vm')

/** V8 frees garbage in two steps, and a finalizer runs in the event-loop turn after that. */
const PASSES = 3

/** Collects all garbage, and lets finalizers run. */
async function collectGarbage() {
  v8.setFlagsFromString('--expose-gc')
  const gc = vm.runInNewContext('gc')
  for (let pass = 0; pass < PASSES; pass++) {
    gc()
    await nextTurn()
    await nextTurn()
  }
}

module.exports = { collectGarbage }
