'use strict'

const { BufferPool, openShared } = require('./lib/pool/buffer-pool')

/** @type {BufferPool | undefined} */
let shared

module.exports = {
  BufferPool,
  /** The pool that the whole process shares, made on first use. */
  get shared() {
    shared ??= openShared()
    return shared
  }
}
