'use strict'

const { setImmediate, setTimeout } = require('../runtime/timers')

/**
 * How long an end may be kept back for what is under way, in ms: a read of a file takes less, one of a FIFO
 * may take for ever.
 */
const PATIENCE = 100

/**
 * Calls back when grace period is at an end. What came meanwhile is seen to first, also where the event loop was
 * held up for longer than that.
 *
 * @param {() => void} callback
 */
function afterGracePeriod(callback) {
  return setTimeout(() => setImmediate(callback), PATIENCE)
}

module.exports = { PATIENCE, afterGracePeriod }
