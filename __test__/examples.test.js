'use strict'

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const { createHash, randomBytes } = require('node:crypto')
const { once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const net = require('node:net')
const os = require('node:os')
const path = require('node:path')
const { createInterface } = require('node:readline')
const { after, before, describe, test } = require('node:test')
const { eventually } = require('./helpers')

const ROOT = path.join(__dirname, '..')
const MIB = 1024 * 1024

const agent = new http.Agent({ keepAlive: true })
after(() => agent.destroy())

/**
 * Starts an example as its first lines say, on any port.
 *
 * @param {string} name
 * @param {string[]} args before the port
 * @returns {Promise<{ url: string, child: import('node:child_process').ChildProcess }>}
 */
async function start(name, ...args) {
  const child = spawn(process.execPath, [path.join('examples', name), ...args, '0'], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const [url] = await once(createInterface({ input: child.stdout }), 'line')
  return { url, child }
}

/** @param {import('node:child_process').ChildProcess} child */
async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill()
  await ended
}

/**
 * @param {string} url
 * @param {http.RequestOptions} [options]
 * @param {Buffer} [body]
 * @returns {Promise<{ status: number, headers: http.IncomingHttpHeaders, body: Buffer }>}
 */
function ask(url, options = {}, body = undefined) {
  return new Promise((resolve, reject) => {
    const req = http.request(url, { agent, ...options }, async (res) => {
      const parts = await res.toArray().catch(reject)
      resolve({ status: res.statusCode, headers: res.headers, body: Buffer.concat(parts ?? []) })
    })
    req.on('error', reject)
    req.end(body)
  })
}

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')

const statsOf = async (url) => JSON.parse((await ask(url)).body.toString())

/** Sends what it is given, and goes away without waiting for an answer. */
async function sendAndLeave(url, text) {
  const socket = net.connect(new URL(url).port, '127.0.0.1')
  await once(socket, 'connect')
  socket.write(text)
  await new Promise((resolve) => setTimeout(resolve, 20))
  socket.resetAndDestroy()
  await once(socket, 'close')
}

const HALF_AN_UPLOAD = 'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nhalf'

describe('the upload server', () => {
  let url
  let child
  before(async () => {
    ;({ url, child } = await start('upload.js'))
  })
  after(() => stop(child))

  test('tells length and hash of each body', async () => {
    const sizes = [0, 1, 1000, 65_536, 100_001, 3 * MIB]
    const check = async (size, chunked) => {
      const body = randomBytes(size)
      const headers = chunked ? { 'transfer-encoding': 'chunked' } : { 'content-length': size }
      const answer = await ask(url, { method: 'POST', headers }, body)
      assert.equal(answer.status, 200)
      assert.deepEqual(JSON.parse(answer.body), { bytes: size, sha256: sha256(body) })
    }
    await Promise.all(sizes.flatMap((size) => [check(size, false), check(size, true)]))
  })

  test('refuses what is too long, before it has come', async () => {
    const headers = { 'content-length': 64 * MIB + 1 }
    const req = http.request(url, { method: 'POST', headers })
    req.flushHeaders()
    const [res] = await once(req, 'response')
    assert.equal(res.statusCode, 413)
    req.on('error', () => {})
    req.destroy()
  })

  test('keeps nothing of who goes away', async () => {
    for (let i = 0; i < 10; i++) await sendAndLeave(url, HALF_AN_UPLOAD)
    await eventually(async () => (await statsOf(url)).inUseCount === 0, 'all is released')
    const { name, freshCount } = await statsOf(url)
    assert.equal(name, 'uploads')
    assert.ok(freshCount > 0)
  })
})

describe('the file server', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-examples-'))
  const root = path.join(folder, 'root')
  const large = randomBytes(8 * MIB + 7)
  let url
  let child
  before(async () => {
    fs.mkdirSync(path.join(root, 'a folder'), { recursive: true })
    fs.writeFileSync(path.join(root, 'a folder', 'large'), large)
    fs.writeFileSync(path.join(root, 'empty'), '')
    fs.writeFileSync(path.join(folder, 'secret'), 'not to be served')
    ;({ url, child } = await start('files.js', root))
  })
  after(async () => {
    await stop(child)
    fs.rmSync(folder, { recursive: true })
  })

  test('sends whole files to many clients at a time', async () => {
    const get = async () => {
      const { status, headers, body } = await ask(`${url}a%20folder/large`)
      assert.equal(status, 200)
      assert.equal(headers['content-length'], String(large.length))
      assert.equal(sha256(body), sha256(large))
    }
    await Promise.all(Array.from({ length: 8 }, get))
    assert.equal((await ask(`${url}empty?query`)).body.length, 0)
  })

  test('sends what a range names', async () => {
    const part = async (range) => ask(`${url}a%20folder/large`, { headers: { range } })
    const middle = await part('bytes=1000-600000')
    assert.equal(middle.status, 206)
    assert.equal(middle.headers['content-range'], `bytes 1000-600000/${large.length}`)
    assert.ok(middle.body.equals(large.subarray(1000, 600_001)))
    assert.ok((await part(`bytes=${large.length - 5}-`)).body.equals(large.subarray(-5)))
    assert.equal((await part(`bytes=${large.length}-`)).status, 416)
  })

  test('answers HEAD, and what is not there, and what is not to be served', async () => {
    const head = await ask(`${url}a%20folder/large`, { method: 'HEAD' })
    assert.equal(head.headers['content-length'], String(large.length))
    assert.equal(head.body.length, 0)
    for (const name of ['nowhere', 'a%20folder', '..%2fsecret', '..%5csecret', '%2e%2e/secret']) {
      assert.equal((await ask(`${url}${name}`)).status, 404, name)
    }
    for (const target of ['/../secret', '//../../secret', 'x://y/../../../secret', '/%']) {
      const { status } = await ask(url, { path: target })
      assert.ok(status === 404 || status === 400, `${target}: ${status}`)
    }
  })
})

describe('the reverse proxy', () => {
  let upload
  let files
  before(async () => {
    upload = await start('upload.js')
    files = await start('files.js', ROOT)
    upload.proxy = await start('proxy.js', upload.url)
    files.proxy = await start('proxy.js', files.url)
  })
  after(() =>
    Promise.all([upload.proxy, files.proxy, upload, files].map(({ child }) => stop(child)))
  )

  test('passes bodies on in both directions', async () => {
    const check = async (size) => {
      const body = randomBytes(size)
      const { status, headers, body: answer } = await ask(upload.proxy.url, { method: 'PUT' }, body)
      assert.equal(status, 200)
      assert.equal(headers['content-type'], 'application/json')
      assert.equal(JSON.parse(answer).sha256, sha256(body))
    }
    await Promise.all([0, 10_240, 100_000, 100_000, 3 * MIB].map(check))
    const file = fs.readFileSync(path.join(ROOT, 'package-lock.json'))
    for (let i = 0; i < 20; i++) {
      const { body } = await ask(`${files.proxy.url}package-lock.json`)
      assert.ok(body.equals(file))
    }
  })

  test('passes on what has no body', async () => {
    const { size } = fs.statSync(path.join(ROOT, 'package.json'))
    const head = await ask(`${files.proxy.url}package.json`, { method: 'HEAD' })
    assert.equal(head.headers['content-length'], String(size))
    assert.equal((await ask(`${files.proxy.url}nowhere`)).status, 404)
  })

  test('lives on when either side goes away', async () => {
    for (let i = 0; i < 5; i++) await sendAndLeave(upload.proxy.url, HALF_AN_UPLOAD)
    const whole = HALF_AN_UPLOAD.replace('1000000', '4')
    for (let i = 0; i < 5; i++) await sendAndLeave(upload.proxy.url, whole)
    await eventually(async () => (await statsOf(upload.url)).inUseCount === 0, 'upstream is free')
    const { child } = upload
    await stop(child)
    assert.equal((await ask(upload.proxy.url)).status, 502)
  })
})

// A child of Windows can be ended, and not be told to end.
describe('the log writer', { skip: process.platform === 'win32' }, () => {
  test('has every request in its file, each on a line, also what came last', async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-examples-'))
    try {
      const file = path.join(folder, 'requests.jsonl')
      const { url, child } = await start('log.js', file)
      const urls = Array.from({ length: 2000 }, (_, i) => `/${i}/${'x'.repeat(i % 300)}`)
      const left = [...urls]
      const askAll = async () => {
        for (let target = left.pop(); target; target = left.pop()) {
          await ask(url, { path: target })
        }
      }
      await Promise.all(Array.from({ length: 10 }, askAll))
      agent.destroy()
      await stop(child)
      const lines = fs.readFileSync(file, 'utf8').trimEnd().split('\n')
      const records = lines.map((line) => JSON.parse(line))
      assert.deepEqual(records.map((record) => record.url).sort(), urls.sort())
      assert.ok(
        records.every(({ method, at }) => method === 'GET' && !Number.isNaN(Date.parse(at)))
      )
    } finally {
      fs.rmSync(folder, { recursive: true })
    }
  })
})
