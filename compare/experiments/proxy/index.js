'use strict'

const http = require('node:http')
const { arms, roles } = require('../../arms')
const { UpstreamProcess } = require('../../runner/upstream-process')
const { inspect } = require('./inspect')
const { MAX_SIZE, proxySizes } = require('./sizes')

const HOST = '127.0.0.1'

/** @type {import('../index').HttpWorkload} */
const workload = {
  title:
    'bodies of 10 KiB to 3 MiB (mean 100 KiB) from an upstream server, each held whole in one Buffer',
  unit: 'request',
  maxSize: MAX_SIZE,
  sizes: proxySizes(),
  throughput: 'bytes of bodies that were forwarded',
  pace: { usual: { durationSeconds: 0.3, warmupSeconds: 0.12 } },

  setUp({ arm, settings }) {
    return {
      arm,
      port: settings.upstreamPort,
      agent: new http.Agent({ keepAlive: true }),
      inFlight: new InFlight(),
      rssStartBytes: process.memoryUsage.rss()
    }
  },

  async serve(state, request, response) {
    const body = await fetchBody(state, request.url)
    // A release may set its length to 0.
    const size = body.length
    if (response.closed) {
      state.arm.give(body)
    } else {
      response.writeHead(200, { 'Content-Length': size })
      await sent(response, () => state.arm.end(response, body))
    }
    state.inFlight.leave(size)
    return size
  },

  figures({ inFlight, rssStartBytes }) {
    return { inFlightPeakBytes: inFlight.peakBytes, rssStartBytes }
  },

  inspect,
  inspectSeconds: 0.15,

  tearDown(state) {
    state.agent.destroy()
    state.arm.close()
  }
}

/** Counts the bytes of the bodies that the proxy holds. */
class InFlight {
  #bytes = 0
  peakBytes = 0

  enter(size) {
    this.#bytes += size
    this.peakBytes = Math.max(this.peakBytes, this.#bytes)
  }

  leave(size) {
    this.#bytes -= size
  }
}

/**
 * Reads the upstream's reply into one Buffer of the arm.
 *
 * @returns {Promise<Buffer>}
 */
function fetchBody({ arm, agent, port, inFlight }, path) {
  return new Promise((resolve, reject) => {
    const asked = http.get({ agent, host: HOST, port, path }, (answer) => {
      const size = Number(answer.headers['content-length'])
      const body = arm.take(size)
      let filled = 0
      inFlight.enter(size)
      const fail = (error) => {
        arm.give(body)
        inFlight.leave(size)
        reject(error)
      }
      answer.on('data', (chunk) => {
        body.set(chunk, filled)
        filled += chunk.length
      })
      answer.once('end', () => {
        if (filled === size) resolve(body)
        else fail(new Error(`the upstream sent ${filled} of ${size} bytes`))
      })
      answer.on('error', fail)
    })
    asked.on('error', reject)
  })
}

/** Resolves when the response that `send` ends is closed. */
function sent(response, send) {
  return new Promise((resolve) => {
    response.once('close', resolve)
    send()
  })
}

/** @type {import('../index').Experiment} */
module.exports = {
  name: 'proxy',
  question:
    'How much memory does a proxy need that holds each body in a Buffer: with garbage collection, finalizers, explicit release?',
  arms,
  roles,
  workloads: [workload],

  async prepare({ programs, signal }) {
    const upstream = new UpstreamProcess(programs.upstream, [], signal)
    try {
      const upstreamPort = await upstream.listening()
      return { settings: { upstreamPort }, close: () => upstream.kill() }
    } catch (error) {
      await upstream.kill()
      throw error
    }
  }
}
