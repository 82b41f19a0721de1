'use strict'

const { useBuffer } = require('./use-buffer')

/** What one Buffer of the experiment holds. */
const BUFFER_BYTES = 1024 * 1024

/**
 * @param {string} variant
 * @param {string} title
 * @param {number} perRequest Buffers that each request makes, one after the other
 */
function workload(variant, title, perRequest) {
  return {
    variant,
    title,
    maxSize: BUFFER_BYTES,

    setUp(arm) {
      return { arm, perRequest }
    },

    run(state) {
      for (let made = 0; made < state.perRequest; made++) useBuffer(state.arm, BUFFER_BYTES)
      return state.perRequest * BUFFER_BYTES
    },

    tearDown(state) {
      state.arm.close()
    }
  }
}

module.exports = {
  name: 'http-buffers',
  question: 'What does a web server gain that makes large Buffers of one size for each request?',
  workloads: [
    workload('1x1MiB', 'one Buffer of 1 MiB per request, filled and let go', 1),
    workload(
      '100x1MiB',
      '100 Buffers of 1 MiB per request, one after the other, each filled and let go',
      100
    )
  ]
}
