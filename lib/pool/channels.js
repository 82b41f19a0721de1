'use strict'

/** The channels on which the pool publishes, by `node:diagnostics_channel`. */

const { channel } = require('node:diagnostics_channel')

/** A sampled lease was collected without a release: `{ pool, size, stack, count }`. */
const leak = channel('cistern:leak')

/** The ceiling was reached: `{ pool, size, maxBytes, outcome }`. */
const exhausted = channel('cistern:exhausted')

/** Idle memory went back to the operating system: `{ pool, bytes, reason }`. */
const trim = channel('cistern:trim')

module.exports = { exhausted, leak, trim }
