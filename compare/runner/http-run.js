'use strict'

const { ArmProcess } = require('./arm-process')
const { START_SECONDS } = require('./child')
const { ClientProcess } = require('./client-process')

/**
 * A server answers the runner between two requests, and the longest request takes far less than
 * this.
 */
const ANSWER_SECONDS = 20

const MICROS = 1e6

/** Runs a fresh server under load from a fresh client. @param {import('./arm-run').Run} run */
async function runHttp({ workload, spec, launch, programs, signal }) {
  const server = new ArmProcess('server', spec, launch, signal)
  try {
    const { port } = await server.message('listening', START_SECONDS, 'listen')
    const load = { ...spec.timing, sizes: workload.sizes }
    const client = new ClientProcess(programs.load, port, load, signal)
    try {
      await client.warm()
      server.send('start')
      const measured = await client.load()
      const answer = server.message('measured', ANSWER_SECONDS, 'report what it recorded')
      server.send('stop')
      const { metrics } = await answer
      if (!served(measured, workload)) throw noReply(server, measured)
      await client.kill()
      await server.quit()
      return metricsOf(measured, metrics, workload)
    } finally {
      await client.kill()
    }
  } finally {
    await server.kill()
  }
}

function served({ requests, bytes, errors }, { replyBytes }) {
  return requests > 0 || (replyBytes !== undefined && bytes > 0 && errors === 0)
}

function noReply(server, load) {
  const reason = load.errors > 0 ? 'all failed' : 'a longer --duration may help'
  return server.failure(`the server answered no request in ${load.seconds.toFixed(1)} s: ${reason}`)
}

function metricsOf(load, recorded, { replyBytes }) {
  const metrics = {
    requestsPerSecond: load.requests / load.seconds,
    // A short window may hold the end of no long reply.
    ...(load.requests > 0 ? latencyOf(load) : {}),
    ...recorded,
    errors: load.errors,
    clientCpuShare: load.cpuSeconds / load.seconds
  }
  return replyBytes === undefined ? metrics : { ...metrics, ...byBytes(load, recorded, replyBytes) }
}

function latencyOf({ latencyP50Ms, latencyP99Ms, latency }) {
  return { latencyP50Ms, latencyP99Ms, latency }
}

/**
 * Counts each reply by the share of its bytes that arrived within the window. A window holds few
 * ends of replies of megabytes, and those come in bursts.
 */
function byBytes(load, { serverCpuShare }, replyBytes) {
  const bytesPerSecond = load.bytes / load.seconds
  const requestsPerSecond = bytesPerSecond / replyBytes
  return {
    requestsPerSecond,
    bytesPerSecond,
    cpuMicrosPerRequest: (serverCpuShare * MICROS) / requestsPerSecond
  }
}

module.exports = { runHttp }
