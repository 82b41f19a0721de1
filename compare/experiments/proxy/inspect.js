'use strict'

const fs = require('node:fs')
const { median } = require('simple-statistics')
const { count } = require('../../format')
const { ClientProcess } = require('../../runner/client-process')
const { UpstreamProcess } = require('../../runner/upstream-process')
const { proxySizes } = require('./sizes')

const KIB = 1024
const MEGA = 1e6

/** Stands where there is no figure. */
const NONE = '–'

/** By default glibc gives each thread a heap. A proxy in C with one thread has one heap. */
const ONE_HEAP = { MALLOC_ARENA_MAX: '1' }

/** The proxy without a garbage collector. */
const NATIVE = 'a proxy in Rust'

/**
 * Compares the memory of the arms with the bodies in flight, and with the memory of a proxy that
 * gives each body one block from `malloc` and frees it at once.
 *
 * @param {{ name: string, runs: object[] }[]} arms
 * @param {object} inspection from the runner
 * @returns {Promise<object[]>} tables
 */
async function inspect(arms, { specOf, programs, signal, timing }) {
  if (arms.length === 0) return []
  const { upstreamPort } = specOf(arms[0]).settings
  const native = await measureNative(programs, upstreamPort, timing, signal)
  const rows = [...arms.map(figuresOf), native].map((figures) => rowOf(figures, native))
  return [
    {
      title: 'Memory of the proxy, and of the bodies that it held',
      columns: [
        'arm',
        'req/s',
        'RSS MB at the start',
        'peak RSS MB',
        'grown by MB',
        'bodies MB, peak',
        'grown ÷ bodies',
        'peak RSS ÷ that in Rust'
      ],
      rows,
      note: `Medians. The experiment examines a claim about a proxy in Go that took ten times the memory of one in C. ${NATIVE} replaces the proxy in C: it allocates each body by malloc from one heap and frees it after sending it. It ran once; its requests per second show that neither the client nor the upstream limits the others. Bodies: the most bytes held at a time. The growth of static is Node's own memory, such as the chunks that it reads: no way to hold the bodies can save that.`
    }
  ]
}

function figuresOf({ name, runs }) {
  const of = (figure) => {
    const values = runs.map((run) => run[figure]).filter(Number.isFinite)
    return values.length === 0 ? undefined : median(values)
  }
  return {
    name,
    requestsPerSecond: of('requestsPerSecond'),
    start: of('rssStartBytes'),
    peak: of('rssPeakBytes'),
    inFlight: of('inFlightPeakBytes')
  }
}

/** Runs the same load on the proxy without a garbage collector. */
async function measureNative(programs, upstreamPort, timing, signal) {
  const proxy = new UpstreamProcess(
    programs.upstream,
    ['--forward', `127.0.0.1:${upstreamPort}`],
    signal,
    ONE_HEAP
  )
  try {
    const port = await proxy.listening()
    const start = residentOf(proxy.pid, 'VmRSS')
    const load = { ...timing, sizes: proxySizes() }
    const client = new ClientProcess(programs.load, port, load, signal)
    try {
      await client.warm()
      const { requests, seconds } = await client.load()
      const peak = residentOf(proxy.pid, 'VmHWM')
      return { name: NATIVE, requestsPerSecond: requests / seconds, start, peak }
    } finally {
      await client.kill()
    }
  } finally {
    await proxy.kill()
  }
}

/** Returns a memory figure of another process, on Linux only. */
function residentOf(pid, field) {
  if (process.platform !== 'linux') return undefined
  const status = fs.readFileSync(`/proc/${pid}/status`, 'latin1')
  const kibibytes = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]
  return kibibytes === undefined ? undefined : Number(kibibytes) * KIB
}

function rowOf({ name, requestsPerSecond, start, peak, inFlight }, native) {
  const grown = peak - start
  return [
    name,
    count(requestsPerSecond),
    ...[start, peak, grown].map((bytes) => told(bytes / MEGA)),
    told(inFlight / MEGA),
    told(grown / inFlight),
    told(peak / native.peak)
  ]
}

function told(figure) {
  return Number.isFinite(figure) ? figure.toFixed(1) : NONE
}

module.exports = { inspect }
