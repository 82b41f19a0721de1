'use strict'

const { BufferPool, openShared } = require('./lib/pool/buffer-pool')

/** @type {BufferPool | undefined} */
let shared

module.exports = {
  BufferPool,
  /** One pool for the process; made on first use. */
  get shared() {
    shared ??= openShared()
    return shared
  }
}
