'use strict'

/**
 * The servers' replies, arm by arm: every byte of them, with a Content-Length, and an error if
 * there is nothing to send.
 */

const assert = require('node:assert/strict')
const { createHash } = require('node:crypto')
const fs = require('node:fs')
const http = require('node:http')
const { before, test } = require('node:test')
const { setTimeout: sleep } = require('node:timers/promises')
const { findExperiment } = require('../experiments')
const { ArmProcess } = require('../runner/arm-process')
const { ensurePrograms } = require('../runner/client-build')
const { launchWith } = require('../runner/launch')

const MIB = 1024 * 1024

/** The number of bytes after which the pattern of the upstream starts over. */
const PATTERN_BYTES = 4 * MIB

/** Long enough for a process to start, on any machine. */
const PATIENCE_SECONDS = 60

const signal = new AbortController().signal

let programs
before(async () => {
  programs = await ensurePrograms({ signal, onBuild() {} })
})

function sha256(bytes) {
  return createHash('sha256').update(bytes).digest('hex')
}

/** Makes a body as the Rust server does. */
function upstreamBody(size) {
  return Uint8Array.from({ length: size }, (_, place) => {
    const within = place % PATTERN_BYTES
    return (within + (within >> 8) * 3 + (within >> 16) * 7) & 0xff
  })
}

/** Prepares an experiment until the test ends, and returns the needs of its processes. */
async function prepare(context, name) {
  const experiment = findExperiment(name)
  const prepared = (await experiment.prepare?.({ programs, signal })) ?? { settings: {} }
  context.after(() => prepared.close?.())
  return { experiment, settings: prepared.settings }
}

/** Starts the server of one arm for `use`. */
async function withServer({ experiment, settings }, variant, arm, use) {
  const spec = { experiment: experiment.name, variant, arm, settings }
  const server = new ArmProcess('server', spec, launchWith(), signal)
  try {
    const { port } = await server.message('listening', PATIENCE_SECONDS, 'listen')
    await use(port, server)
    await server.quit()
  } finally {
    await server.kill()
  }
}

/** @returns {Promise<{ status: number, length: number, hash: string }>} */
function get(port, path, agent) {
  return new Promise((resolve, reject) => {
    http
      .get({ host: '127.0.0.1', port, path, agent }, (response) => {
        const hash = createHash('sha256')
        response.on('data', (chunk) => hash.update(chunk))
        response.once('error', reject)
        response.once('end', () =>
          resolve({
            status: response.statusCode,
            length: Number(response.headers['content-length']),
            hash: hash.digest('hex')
          })
        )
      })
      .once('error', reject)
  })
}

/** Sends several requests at a time and one after the other, over persistent connections. */
async function getAll(port, paths) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 4 })
  try {
    return await Promise.all(paths.map((path) => get(port, path, agent)))
  } finally {
    agent.destroy()
  }
}

test('every arm of file-serving sends the whole file', async (context) => {
  const prepared = await prepare(context, 'file-serving')
  for (const variant of ['8MiB-1', '64KiB-50']) {
    const [size] = prepared.experiment.workloads.find((one) => one.variant === variant).sizes
    const hash = sha256(fs.readFileSync(prepared.settings.files[size]))
    for (const { name } of prepared.experiment.arms) {
      await withServer(prepared, variant, name, async (port) => {
        for (const reply of await getAll(port, Array(6).fill('/'))) {
          assert.deepEqual(reply, { status: 200, length: size, hash }, `${variant} ${name}`)
        }
      })
    }
  }
})

test('every arm of proxy sends the body that the upstream has', async (context) => {
  const prepared = await prepare(context, 'proxy')
  const sizes = [0, 1, 10_240, 65_536, 1_000_000, 3 * MIB, 10_240]
  const expected = sizes.map((size) => ({
    status: 200,
    length: size,
    hash: sha256(upstreamBody(size))
  }))
  for (const { name } of prepared.experiment.arms) {
    await withServer(prepared, undefined, name, async (port) => {
      const replies = await getAll(
        port,
        sizes.map((size) => `/${size}`)
      )
      assert.deepEqual(replies, expected, name)
    })
  }
})

test('every arm of http-buffers answers', async (context) => {
  const prepared = await prepare(context, 'http-buffers')
  for (const { variant } of prepared.experiment.workloads) {
    for (const { name } of prepared.experiment.arms) {
      await withServer(prepared, variant, name, async (port) => {
        const [reply] = await getAll(port, ['/'])
        assert.deepEqual(reply, { status: 200, length: 2, hash: sha256('ok') }, name)
      })
    }
  }
})

test('every arm answers with status 500 if the file does not exist', async (context) => {
  const prepared = await prepare(context, 'file-serving')
  for (const file of Object.values(prepared.settings.files)) fs.unlinkSync(file)
  for (const { name } of prepared.experiment.arms) {
    await withServer(prepared, '64KiB-50', name, async (port) => {
      for (const { status } of await getAll(port, ['/', '/'])) assert.equal(status, 500, name)
    })
  }
})

test('every arm answers with status 500 if the upstream does not listen', async (context) => {
  const { experiment } = await prepare(context, 'proxy')
  // No process listens at the port of "discard".
  const prepared = { experiment, settings: { upstreamPort: 9 } }
  await withServer(prepared, undefined, 'pool-safe', async (port) => {
    const [{ status }] = await getAll(port, ['/10'])
    assert.equal(status, 500)
  })
})

test('a client that disconnects leaves no file open', {
  skip: process.platform !== 'linux' && 'needs /proc'
}, async (context) => {
  const prepared = await prepare(context, 'file-serving')
  const paths = new Set(Object.values(prepared.settings.files))
  for (const { name } of prepared.experiment.arms) {
    await withServer(prepared, '8MiB-1', name, async (port, server) => {
      await Promise.all(Array.from({ length: 4 }, () => leave(port)))
      const deadline = performance.now() + PATIENCE_SECONDS * 1000
      while (openFiles(server.pid, paths) > 0) {
        assert.ok(performance.now() < deadline, `${name} has a file open`)
        await sleep(50)
      }
      assert.equal((await getAll(port, ['/']))[0].status, 200, name)
    })
  }
})

/** Sends a request, and disconnects when the first bytes arrive. */
function leave(port) {
  return new Promise((resolve) => {
    const request = http.get({ host: '127.0.0.1', port, agent: false }, (response) => {
      response.once('data', () => request.destroy())
      response.on('error', () => {})
      response.once('close', resolve)
    })
    request.on('error', () => {})
  })
}

function openFiles(pid, paths) {
  const folder = `/proc/${pid}/fd`
  return fs.readdirSync(folder).filter((entry) => {
    try {
      return paths.has(fs.readlinkSync(`${folder}/${entry}`))
    } catch {
      return false
    }
  }).length
}
