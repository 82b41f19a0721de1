'use strict'

const { ClientProcess } = require('./client-process')
const { ServerProcess } = require('./server-process')

/**
 * One run of one arm: a fresh server, a fresh client, one measured window.
 *
 * @param {object} what
 * @param {string} what.experiment
 * @param {string} [what.variant]
 * @param {string} what.arm
 * @param {import('./launch').Launch} what.launch
 * @param {import('./plan').Timing} what.timing
 * @param {string} what.client the load client's program
 * @param {AbortSignal} what.signal
 * @returns {Promise<Record<string, number>>} the metrics under their names in the JSON
 * @throws {import('./run-error').RunError}
 */
async function runArm({ experiment, variant, arm, launch, timing, client: binary, signal }) {
  const server = new ServerProcess({ experiment, variant, arm }, launch, signal)
  try {
    const port = await server.listening()
    const client = new ClientProcess(binary, port, timing, signal)
    try {
      await client.warm()
      server.startWindow()
      const load = await client.load()
      const recorded = await server.stopWindow()
      if (load.requests === 0) throw noReply(server, load)
      await client.kill()
      await server.quit()
      return metricsOf(load, recorded)
    } finally {
      await client.kill()
    }
  } finally {
    await server.kill()
  }
}

function noReply(server, load) {
  const reason = load.errors > 0 ? 'all failed' : 'a longer --duration may help'
  return server.failure(`the server answered no request in ${load.seconds.toFixed(1)} s: ${reason}`)
}

function metricsOf(load, recorded) {
  return {
    requestsPerSecond: load.requests / load.seconds,
    latencyP50Ms: load.latencyP50Ms,
    latencyP99Ms: load.latencyP99Ms,
    ...recorded,
    errors: load.errors,
    clientCpuShare: load.cpuSeconds / load.seconds
  }
}

module.exports = { runArm }
