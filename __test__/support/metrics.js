'use strict'

/**
 * Shared by the tests of metrics: the series that a pool should show, and a server that shows them.
 */

const assert = require('node:assert/strict')
const { once } = require('node:events')
const http = require('node:http')
const path = require('node:path')
const { isDeepStrictEqual } = require('node:util')
const promClient = require('prom-client')
const { settle } = require('./helpers')

const { Registry } = promClient

const KIB = 1024
const MIB = 1024 * KIB

const root = path.join(__dirname, '..', '..')

/**
 * Returns the series that a pool's stats stand for, by their text.
 *
 * @param {import('../..').PoolStats} stats
 */
function seriesOf(stats, prefix = 'cistern_') {
  const series = new Map()
  const put = (name, labels, value) => {
    // No series is ever -0.
    series.set(seriesName(prefix + name, { pool: stats.name, ...labels }), value + 0)
  }
  put('memory_bytes', { state: 'in_use' }, stats.inUseBytes)
  put('memory_bytes', { state: 'idle' }, stats.idleBytes)
  put('memory_bytes', { state: 'quarantined' }, stats.quarantinedBytes)
  put('overhead_bytes', {}, stats.overheadBytes)
  put('blocks', { state: 'in_use' }, stats.inUseCount)
  put('blocks', { state: 'idle' }, stats.idleCount)
  put('peak_in_use_bytes', {}, stats.peakInUseBytes)
  if (Number.isFinite(stats.maxBytes)) put('limit_bytes', {}, stats.maxBytes)
  put('leases_total', { result: 'hit' }, stats.hitCount)
  put('leases_total', { result: 'miss' }, stats.missCount)
  put('leases_total', { result: 'unpooled' }, stats.unpooledCount)
  put('requested_bytes_total', {}, stats.allocBytes)
  put('lease_ends_total', { reason: 'released' }, stats.releaseCount)
  put('lease_ends_total', { reason: 'collected' }, stats.collectedCount)
  put('waits_total', {}, stats.waitCount)
  put('waiting', {}, stats.waitingCount)
  put('longest_wait_seconds', {}, stats.longestWaitMs / 1000)
  put('fresh_blocks_total', {}, stats.freshCount)
  put('fresh_bytes_total', {}, stats.freshBytes)
  put('discarded_blocks_total', {}, stats.discardCount)
  put('freed_bytes_total', {}, stats.freedBytes)
  for (const { blockSize, inUseCount, idleCount, hitCount, missCount } of stats.classes) {
    const block_size = String(blockSize)
    put('class_blocks', { block_size, state: 'in_use' }, inUseCount)
    put('class_blocks', { block_size, state: 'idle' }, idleCount)
    put('class_leases_total', { block_size, result: 'hit' }, hitCount)
    put('class_leases_total', { block_size, result: 'miss' }, missCount)
  }
  return series
}

/**
 * @param {string} name
 * @param {Record<string, string>} labels
 */
function seriesName(name, labels) {
  return `${name}${JSON.stringify(Object.entries(labels).sort())}`
}

/**
 * Parses every line of a scraped text: the series with their values, and the metrics' descriptions.
 *
 * @param {string} text
 */
function parse(text) {
  const series = new Map()
  const types = new Map()
  const labels = new Map()
  for (const line of text.split('\n')) {
    if (line === '') continue
    const [, hash, name, rest] = /^# (HELP|TYPE) (\w+) (.+)$/.exec(line) ?? []
    if (hash === 'HELP') continue
    if (hash === 'TYPE') {
      assert.ok(!types.has(name), `${name} is there twice`)
      types.set(name, rest)
      continue
    }
    const sample = /^(\w+)\{((?:\w+="(?:[^"\\]|\\.)*",?)+)\} (\S+)$/.exec(line)
    assert.ok(sample, `not a sample: ${line}`)
    const [, metric, pairs, value] = sample
    const given = {}
    for (const [, label, quoted] of pairs.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      given[label] = quoted.replace(/\\(.)/g, (_, char) => (char === 'n' ? '\n' : char))
    }
    const key = seriesName(metric, given)
    assert.ok(types.has(metric), `no type before ${line}`)
    assert.ok(!series.has(key), `there twice: ${line}`)
    series.set(key, Number(value))
    labels.set(metric, Object.keys(given).sort().join())
  }
  return { series, types, labels }
}

/**
 * Serves a registry under `/metrics` until `use` is done.
 *
 * @param {import('prom-client').Registry} registry
 * @param {(scrape: () => Promise<ReturnType<typeof parse>>, address: string) => unknown} use
 */
async function serving(registry, use) {
  const server = http.createServer(async (req, res) => {
    try {
      if (req.url !== '/metrics') return res.writeHead(404).end()
      const text = await registry.metrics()
      res.setHeader('content-type', registry.contentType)
      res.end(text)
    } catch (error) {
      res.writeHead(500).end(String(error))
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = `127.0.0.1:${server.address().port}`
  try {
    await use(async () => {
      const response = await fetch(`http://${address}/metrics`)
      const text = await response.text()
      assert.equal(response.status, 200, text)
      assert.equal(response.headers.get('content-type'), registry.contentType)
      return parse(text)
    }, address)
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

/**
 * Asserts that exactly the series of these pools are scraped, with their values.
 *
 * @param {() => Promise<ReturnType<typeof parse>>} scrape
 * @param {BufferPool[]} pools
 */
async function shows(scrape, ...pools) {
  await settle()
  const totals = () => pools.map((pool) => pool.stats())
  let before = totals()
  let { series } = await scrape()
  // Finalizers and timers may have come in between.
  for (let i = 0; i < 10 && !isDeepStrictEqual(totals(), before); i++) {
    before = totals()
    series = (await scrape()).series
  }
  const expected = before.flatMap((stats) => [...seriesOf(stats)])
  assert.deepEqual([...series].sort(), expected.sort())
  return series
}

module.exports = { KIB, MIB, parse, Registry, root, seriesName, seriesOf, serving, shows }
