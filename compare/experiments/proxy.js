'use strict'

const { useBuffer } = require('./use-buffer')
const { proxySizes, MAX_SIZE } = require('./sizes')

module.exports = {
  name: 'proxy',
  question: 'What does a proxy gain that holds each body in a Buffer of its size?',
  workloads: [
    {
      title: 'one Buffer of 10 KiB to 3 MiB per request (mean 100 KiB), filled and let go',
      maxSize: MAX_SIZE,

      setUp(arm) {
        const sizes = proxySizes()
        return { arm, sizes, next: 0, mask: sizes.length - 1 }
      },

      run(state) {
        const size = state.sizes[state.next]
        state.next = (state.next + 1) & state.mask
        useBuffer(state.arm, size)
        return size
      },

      tearDown(state) {
        state.arm.close()
      }
    }
  ]
}
