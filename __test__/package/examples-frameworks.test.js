'use strict'

/**
 * The recipes for frameworks, in processes of their own: headers and hooks are kept, and nothing
 * stays leased.
 */

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const { createHash, randomBytes } = require('node:crypto')
const { once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const net = require('node:net')
const path = require('node:path')
const { createInterface } = require('node:readline')
const { after, before, describe, test } = require('node:test')
const { eventually } = require('../support/helpers')
const { bodyOf, pieces } = require('../support/io-servers')

const ROOT = path.join(__dirname, '..', '..')
const MIB = 1024 * 1024

/** Starts an example as its first lines say, on any port. */
async function start(name) {
  const child = spawn(process.execPath, [path.join('examples', `${name}.js`), '0'], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const [url] = await once(createInterface({ input: child.stdout }), 'line')
  return { child, url }
}

/**
 * @param {string} url
 * @param {http.RequestOptions} [options]
 * @param {Buffer} [body] sent in pieces, also when the answer is there already
 */
async function ask(url, options = {}, body = undefined) {
  const agent = new http.Agent({ keepAlive: true })
  const req = http.request(url, { agent, ...options })
  const answered = once(req, 'response')
  req.on('error', () => {})
  for (const piece of pieces(body ?? Buffer.alloc(0), 100_000)) req.write(piece)
  req.end()
  try {
    const [res] = await answered
    return { status: res.statusCode, headers: res.headers, body: await bodyOf(res) }
  } finally {
    req.destroy()
    agent.destroy()
  }
}

const post = (url, body, headers = {}) =>
  ask(
    url,
    { method: 'POST', headers: { 'content-type': 'application/octet-stream', ...headers } },
    body
  )

/**
 * Sends the beginning of a request, and breaks off: at once, or when something of the answer has
 * come.
 */
async function breakOff(url, text, waits) {
  const socket = net.connect(Number(new URL(url).port), '127.0.0.1')
  socket.on('error', () => {})
  socket.write(text)
  if (waits) await once(socket, 'data')
  else await once(socket, 'connect')
  socket.resetAndDestroy()
}

for (const name of ['express', 'fastify', 'hapi', 'koa']) {
  describe(`The recipe for ${name}`, () => {
    let url = ''
    /** @type {import('node:child_process').ChildProcess} */
    let child
    before(async () => {
      ;({ child, url } = await start(name))
    })
    after(async () => {
      const ended = once(child, 'exit')
      child.kill()
      await ended
    })

    const inUse = async () => JSON.parse(String((await ask(`${url}stats`)).body)).inUseCount

    test('reads a body, and sends one, whole and with its headers', async () => {
      for (const size of [1, 10_000, 300_000, MIB]) {
        const body = randomBytes(size)
        for (const headers of [{}, { 'content-length': size }]) {
          const hash = await post(`${url}hash`, body, headers)
          assert.equal(hash.status, 200, String(hash.body))
          const sha256 = createHash('sha256').update(body).digest('hex')
          assert.deepEqual(JSON.parse(String(hash.body)), { sha256 })
          const echo = await post(`${url}echo`, body, headers)
          assert.equal(echo.status, 200)
          assert.ok(echo.body.equals(body))
          assert.equal(echo.headers['x-sent'], `by ${name}`)
          if (name === 'fastify') assert.equal(echo.headers['x-on-send'], 'ran')
          assert.match(echo.headers['content-type'], /^application\/octet-stream/)
        }
      }
      await eventually(async () => (await inUse()) === 0, 'nothing is leased')
    })

    test('sends a page and a file that the framework has headers for', async () => {
      const page = await ask(`${url}page`)
      assert.deepEqual([page.status, page.body.length], [200, MIB])
      assert.ok(page.body.equals(Buffer.alloc(MIB, 'page ')))
      assert.match(page.headers['content-type'], /^text\/plain/)
      assert.equal(page.headers['x-sent'], `by ${name}`)
      const source = await ask(`${url}source`)
      assert.equal(source.status, 200)
      assert.match(source.headers['content-type'], /javascript/)
      assert.equal(source.headers['x-sent'], `by ${name}`)
      assert.ok(source.body.equals(fs.readFileSync(path.join(ROOT, 'examples', `${name}.js`))))
      assert.equal((await ask(`${url}nowhere`)).status, 404)
      await eventually(async () => (await inUse()) === 0, 'nothing is leased')
    })

    test('answers 413 to a body that is too long, and holds nothing of it', async () => {
      const body = Buffer.alloc(4 * MIB)
      for (const headers of [{}, { 'content-length': body.length }]) {
        const outcome = await post(`${url}hash`, body, headers).catch(({ code }) => ({ code }))
        // fastify and hapi close the connection after a refusal, and may cut off their own answer
        // by that.
        if (['fastify', 'hapi'].includes(name) && outcome.code !== undefined) {
          assert.match(outcome.code, /^(EPIPE|ECONNRESET)$/)
        } else {
          assert.equal(outcome.status, 413)
        }
      }
      // The server refuses at once, by the announced length.
      const req = http.request(`${url}hash`, { method: 'POST' })
      req.setHeader('content-type', 'application/octet-stream')
      req.setHeader('content-length', body.length)
      req.on('error', () => {})
      req.flushHeaders()
      const [res] = await once(req, 'response')
      assert.equal(res.statusCode, 413)
      req.destroy()
      await eventually(async () => (await inUse()) === 0, 'nothing is leased')
    })

    test('holds nothing for clients that break off, and serves the next', async () => {
      const head = (method, target, length) =>
        `${method} ${target} HTTP/1.1\r\nhost: x\r\n` +
        (length
          ? `content-type: application/octet-stream\r\ncontent-length: ${length}\r\n\r\n`
          : '\r\n')
      for (let i = 0; i < 5; i++) {
        await breakOff(url, `${head('POST', '/echo', 500_000)}half`, false)
        await breakOff(url, head('POST', '/echo', 500_000) + 'x'.repeat(500_000), true)
        await breakOff(url, head('GET', '/page'), true)
        await breakOff(url, head('GET', '/source'), true)
      }
      const body = randomBytes(MIB)
      assert.ok((await post(`${url}echo`, body)).body.equals(body))
      await eventually(async () => (await inUse()) === 0, 'nothing is leased')
      assert.equal(child.exitCode, null)
    })
  })
}
