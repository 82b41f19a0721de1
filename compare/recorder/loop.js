'use strict'

/**
 * The process under test that does operations in a loop, without a client. The runner starts it
 * with a `Spec` (see `subject.js`) and talks to it over IPC:
 *
 *   runner          loop
 *          <------- { type: 'measured', metrics }
 *   'quit'  ------>            tears down and exits
 */

const { performance } = require('node:perf_hooks')
const { setImmediate: nextTurn } = require('node:timers/promises')
const { LONGEST_WINDOW } = require('../runner/plan')
const { disconnect, obey, openAnySubject } = require('./subject')

/**
 * Operations per event-loop turn. A turn that never ends would run no finalizer. With this number
 * of operations in one, the turns themselves cost almost nothing.
 */
const TURN_OPERATIONS = 256

const NS_PER_MS = 1e6

/**
 * Does operations for some seconds.
 *
 * @param {import('./subject').Subject} subject
 * @param {number} seconds
 * @param {number} [least] operations: until then it continues, up to a limit
 * @returns {Promise<number>} nanoseconds per operation
 */
async function spin({ workload, state, recorder }, seconds, least = 0) {
  const { turnOperations = TURN_OPERATIONS } = workload
  const start = performance.now()
  const end = start + seconds * 1e3
  const latest = start + seconds * 1e3 * LONGEST_WINDOW
  let operations = 0
  let now = start
  while (now < end || (operations < least && now < latest)) {
    const bytes = workload.run(state, turnOperations)
    recorder.request(typeof bytes === 'number' ? bytes : await bytes, turnOperations)
    operations += turnOperations
    await nextTurn()
    now = performance.now()
  }
  return ((now - start) * NS_PER_MS) / operations
}

async function measure() {
  const subject = await openAnySubject()
  const { spec, workload, state, recorder } = subject
  obey({
    async quit() {
      await workload.tearDown(state)
      disconnect()
    }
  })
  await spin(subject, spec.timing.warmupSeconds)
  recorder.start()
  const nsPerOperation = await spin(subject, spec.timing.durationSeconds, spec.timing.leastRequests)
  const metrics = await recorder.stop()
  const figures = await workload.figures?.(state)
  process.send({ type: 'measured', metrics: { nsPerOperation, ...metrics, ...figures } })
}

measure()
