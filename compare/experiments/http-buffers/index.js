'use strict'

const { arms, roles } = require('../../arms')
const { reply } = require('../reply')
const { useBuffer } = require('../use-buffer')
const { inspect } = require('./inspect')

/** The size of each Buffer of the experiment. */
const BUFFER_BYTES = 1024 * 1024

/**
 * @param {string} variant
 * @param {string} title
 * @param {number} perRequest Buffers that each request makes, one after the other
 * @returns {import('../index').HttpWorkload}
 */
function workload(variant, title, perRequest) {
  return {
    variant,
    title,
    unit: 'request',
    maxSize: BUFFER_BYTES,

    setUp({ arm }) {
      return { arm, perRequest }
    },

    serve(state, _request, response) {
      for (let made = 0; made < state.perRequest; made++) useBuffer(state.arm, BUFFER_BYTES)
      reply(response)
      return state.perRequest * BUFFER_BYTES
    },

    tearDown(state) {
      state.arm.close()
    }
  }
}

/** @type {import('../index').Experiment} */
module.exports = {
  name: 'http-buffers',
  question: "Is a Buffer's memory reused, or allocated anew and freed at each collection?",
  arms,
  roles,
  workloads: [
    {
      ...workload('1x1MiB', 'one Buffer of 1 MiB per request, filled and released', 1),
      inspect,
      inspectSeconds: 0.8
    },
    workload(
      '100x1MiB',
      '100 Buffers of 1 MiB per request, one after the other, each filled and released',
      100
    )
  ]
}
