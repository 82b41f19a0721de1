/**
 * Every code block of the documents runs or compiles, and every link leads to a file and a heading.
 */

import assert from 'node:assert/strict'
import { fork, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync
} from 'node:fs'
import { createHash } from 'node:crypto'
import http from 'node:http'
import net from 'node:net'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, describe, test } from 'node:test'
import documents from '../support/documents.js'
import helpers from '../support/helpers.js'

const require = createRequire(import.meta.url)
const { blocksOf, brokenLinks, names, read, root } = documents
const { external, posts } = helpers
const { scripts } = require('../../package.json')

const MIB = 1024 * 1024

/** The longest time that a block may take, in milliseconds. */
const PATIENCE = 60_000

// These repeat the history and a run of the comparison; their links are followed all the same.
const blocks = names
  .filter((name) => name !== 'CHANGELOG.md' && name !== 'docs/comparison.md')
  .flatMap(blocksOf)
const blocksIn = (language) => blocks.filter((block) => block.language === language)

/**
 * A user's project: a folder with cistern installed, and the other packages that the documents use.
 */
const project = mkdtempSync(path.join(tmpdir(), 'cistern-docs-'))
after(() => rmSync(project, { recursive: true }))
const INSTALLED = ['cistern', 'express', 'fastify', 'koa', '@hapi', 'prom-client', '@types']
for (const name of INSTALLED) {
  const link = path.join(project, 'node_modules', name)
  mkdirSync(path.dirname(link), { recursive: true })
  const target = name === 'cistern' ? root : path.join(root, 'node_modules', name)
  symlinkSync(target, link, 'junction')
}

/** Writes a block into the project. Returns its path. */
function save({ at, code }, ending) {
  const file = path.join(project, `${at.replaceAll(/[/:]/g, '-')}.${ending}`)
  writeFileSync(file, code)
  return file
}

/** The requests to the servers, by their document and a text that their code contains. */
const SERVERS = [
  {
    document: 'README.md',
    has: 'You asked for',
    async check(url) {
      for (let i = 0; i < 20; i++) {
        const body = await (await fetch(`${url}path`)).text()
        assert.equal(body.length, MIB)
        assert.ok(body.startsWith('You asked for /path. You asked'))
      }
    }
  },
  {
    document: 'docs/io.md',
    has: 'sendFile(res, __filename)',
    async check(url, code, file) {
      assert.equal(await (await fetch(url)).text(), code)
      const body = 'x'.repeat(100_000)
      assert.equal(await (await post(url, body)).text(), body)
      assert.equal(await announce(url, MIB + 1), 413)
      await cutShort(url, file)
    }
  },
  {
    document: 'docs/metrics.md',
    has: '/metrics',
    async check(url) {
      assert.match(
        await (await fetch(`${url}metrics`)).text(),
        /cistern_waits_total\{pool="bodies"\} 0/
      )
      assert.equal((await fetch(url)).status, 404)
    }
  },
  {
    document: 'docs/guide.md',
    has: "name: 'pages'",
    async check(url) {
      const answers = await Promise.all(Array.from({ length: 30 }, () => fetch(url)))
      for (const answer of answers) {
        const { length } = await answer.text()
        if (answer.status === 200) assert.equal(length, MIB)
        else assert.deepEqual([answer.status, answer.headers.get('retry-after')], [503, '1'])
      }
      assert.ok(answers.some(({ status }) => status === 200))
    }
  },
  {
    document: 'docs/guide.md',
    has: 'reverse()',
    async check(url) {
      assert.equal(await (await post(url, 'abc')).text(), 'cba')
      assert.equal(await announce(url, 8 * MIB + 1), 413)
    }
  },
  {
    document: 'docs/guide.md',
    has: 'chunks(shared, req',
    async check(url) {
      const body = 'x'.repeat(1_000_000)
      const sha256 = createHash('sha256').update(body).digest('hex')
      assert.equal(await (await post(url, body)).text(), sha256)
      assert.equal(await announce(url, 8 * MIB + 1), 413)
    }
  },
  ...['express', 'fastify', 'koa', '@hapi/hapi'].map((framework) => ({
    document: 'docs/guide.md',
    has: `require('${framework}')`,
    async check(url, code) {
      assert.deepEqual(await (await post(`${url}length`, 'abc')).json(), { bytes: 3 })
      assert.equal(await announce(`${url}length`, MIB + 1), 413)
      const body = 'x'.repeat(1_000_000)
      assert.equal(await (await post(`${url}echo`, body)).text(), body)
      const source = await fetch(`${url}source`)
      assert.match(source.headers.get('content-type'), /^text\/plain/)
      assert.equal(await source.text(), code)
    }
  })),
  {
    document: 'docs/guide.md',
    has: 'SIGTERM',
    async check(url) {
      assert.equal((await (await fetch(url)).text()).length, 100_000)
    },
    endsInOrder: process.platform !== 'win32'
  }
]

/**
 * Cuts the server's own file short while it is sent: the connection ends with what there was, and
 * no other response stands in place of the rest.
 */
async function cutShort(url, file) {
  const code = readFileSync(file)
  const whole = Buffer.concat([code, Buffer.alloc(16 * MIB, '/')])
  writeFileSync(file, whole)
  const socket = net.connect(Number(new URL(url).port), '127.0.0.1')
  socket.on('error', () => {})
  socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(2))
  const parts = [await once(socket, 'data').then(([part]) => part)]
  socket.pause()
  truncateSync(file, code.length + MIB)
  socket.on('data', (part) => parts.push(part))
  const closed = once(socket, 'close')
  socket.resume()
  await closed
  const answer = Buffer.concat(parts)
  const body = answer.subarray(answer.indexOf('\r\n\r\n') + 4)
  assert.match(
    String(answer.subarray(0, 500)),
    new RegExp(`content-length: ${whole.length}\r\n`, 'i')
  )
  assert.ok(body.length < whole.length, 'it was cut short before it was sent')
  assert.ok(body.equals(whole.subarray(0, body.length)))
  // A file that grows meanwhile is served, and the server lives.
  assert.equal((await (await fetch(url)).text()).length, code.length + MIB)
}

const post = (url, body) => fetch(url, { method: 'POST', body })

/**
 * Returns the answer to an announced body, before any of it is sent. A client that then sends may
 * find the connection closed.
 */
async function announce(url, length) {
  const req = http.request(url, { method: 'POST', headers: { 'content-length': length } })
  req.flushHeaders()
  const [res] = await once(req, 'response')
  req.on('error', () => {})
  req.destroy()
  return res.statusCode
}

/** Runs a block, and asserts that it prints the text in its comments. */
async function run(block) {
  const { code } = block
  const file = save(block, /^import /m.test(code) ? 'mjs' : 'js')
  const child = fork(file, {
    cwd: project,
    execArgv: ['--require', path.join(root, '__test__', 'support', 'on-any-port.js')],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    timeout: PATIENCE
  })
  const ended = once(child, 'close')
  const printed = Promise.all([child.stdout.toArray(), child.stderr.toArray()])
  let isInOrder = true
  if (/\.listen\(|server\.start\(/.test(code)) isInOrder = await use(child, block, file)
  const [status, signal] = await ended
  const [out, error] = (await printed).map((parts) => Buffer.concat(parts).toString())
  if (isInOrder) assert.deepEqual([status, signal], [0, null], `${error}\n${out}`)
  // `cistern:leak` reports a Buffer that is dropped on purpose only if it is sampled and collected.
  assert.doesNotMatch(error.replaceAll(/^\(node:\d+\) \[CISTERN_LEAK\] .*$/gm, ''), /Warning/)
  const lines = out.split('\n')
  for (const [, said] of code.matchAll(/console\.log\(.*\) \/\/ (.+)$/gm)) {
    assert.ok(lines.includes(said), `It does not print ${said}, but\n${out}${error}`)
  }
}

/**
 * Sends a server the request that it is there for, and ends it. Returns true if its exit code must
 * be 0.
 */
async function use(child, { at, document, code }, file) {
  try {
    const server = SERVERS.find(
      (server) => server.document === document && code.includes(server.has)
    )
    assert.ok(server, `the server of ${at} has no check here`)
    const ended = once(child, 'exit').then(() => [])
    const [port] = await Promise.race([once(child, 'message'), ended])
    // The test checks its status and its output, too.
    if (port === undefined) return true
    await server.check(`http://127.0.0.1:${port}/`, code, file)
    return server.endsInOrder ?? false
  } finally {
    child.kill()
  }
}

describe('each JavaScript block runs:', { concurrency: 2 }, () => {
  for (const block of blocksIn('js')) {
    // Blocks that need memory that can be posted, and that does not end up as V8's.
    const skip = block.code.includes('postMessage') && !(posts && external)
    test(block.at, { skip }, () => run(block))
  }
})

describe('the TypeScript blocks', () => {
  test('compile', () => {
    const files = blocksIn('ts').map((block) => save(block, 'mts'))
    assert.ok(files.length > 0)
    const options = '--strict --noEmit --skipLibCheck --types node'
    const runtime = '--target es2023 --lib es2024,esnext.disposable --module node20'
    const { status, stdout } = spawnSync(
      process.execPath,
      [require.resolve('typescript/bin/tsc'), ...`${options} ${runtime}`.split(' '), ...files],
      { cwd: project, encoding: 'utf8' }
    )
    assert.equal(status, 0, stdout)
  })
})

/**
 * Returns one sentence for each file, script or option that a shell line names and that does not
 * exist.
 */
function unknownIn(line) {
  const [command, ...args] = line
    .replace(/(^|\s)#.*/, '')
    .replaceAll(/\b[A-Z_]+=('[^']*'|\S*)/g, '')
    .trim()
    .split(/\s+/)
  const own = { start: 'start', test: 'test', run: args[1] }
  const missing = []
  const expect = (isThere, what) => isThere || missing.push(`${line}: there is no ${what}`)

  if (command === 'npm' && args[0] in own) {
    const script = own[args[0]]
    expect(script in scripts, `script ${script}`)
    const [, file] = /^node (\S+)$/.exec(scripts[script] ?? '') ?? []
    const told = file === undefined ? '' : read(file) + read('compare/cli.js')
    for (const word of args) {
      if (/^--\w/.test(word)) expect(told.includes(word.slice(2)), `option ${word}`)
    }
  } else if (command === 'npx') {
    expect(existsSync(path.join(root, 'node_modules', '.bin', args[0])), `command ${args[0]}`)
    expect(read('compare/cli.js').includes(`.command('${args[1]}')`), `command ${args[1]}`)
  } else if (command.includes('/')) {
    expect(existsSync(path.join(root, command)), `file ${command}`)
  } else {
    expect(['node', 'cargo'].includes(command), `check of ${command} here`)
  }
  // cargo's arguments are paths in the folder where it builds.
  for (const word of command === 'cargo' ? [] : args) {
    if (/^[\w.]+\/.*\.\w+$/.test(word)) expect(existsSync(path.join(root, word)), `file ${word}`)
  }
  return missing
}

describe('the documents', () => {
  test('have no code of a kind that no test checks', () => {
    const known = ['js', 'ts', 'sh', 'text', 'yaml']
    const others = blocks.filter(({ language }) => !known.includes(language))
    assert.deepEqual(others, [])
    // The alerts are run by the test of the metrics.
    for (const { document } of blocksIn('yaml')) assert.equal(document, 'docs/metrics.md')
  })

  test('have commands that there are', () => {
    const lines = blocksIn('sh').flatMap(({ code }) => code.trim().split('\n'))
    assert.deepEqual(lines.flatMap(unknownIn), [])
  })

  test('name scripts and files that there are', () => {
    for (const name of names) {
      const text = read(name)
      for (const [said, script] of text.matchAll(/npm run ([\w-]+)/g)) {
        assert.ok(script in scripts, `${name}: ${said}`)
      }
      // Paths in compare/'s documents begin at that folder.
      const here = path.dirname(name) === 'compare' ? 'compare' : '.'
      for (const [, file] of text.matchAll(/`([\w.]+\/[\w./-]*?)`/g)) {
        if (/^(cistern|target|fuzz\/artifacts)\//.test(file)) continue
        assert.ok(existsSync(path.join(root, here, file)), `${name} names ${file}`)
      }
    }
  })

  test('have links that lead to a file and a heading', () => {
    assert.deepEqual(
      names.flatMap((name) => brokenLinks(name)),
      []
    )
  })

  test('would fail with a link to a missing file or heading', () => {
    const text = '[a](api.md#cistern) [b](api.md#missing) [c](missing.md) [d](#guide) [e](#missing)'
    assert.deepEqual(brokenLinks('docs/guide.md', text), [
      'docs/guide.md links to api.md#missing, and there is no such heading',
      'docs/guide.md links to missing.md, and there is no such file',
      'docs/guide.md links to #missing, and there is no such heading'
    ])
  })

  test('have the API reference that the types give', () => {
    const { reference } = require('../../scripts/api-reference.js')
    const isSame = read('docs/api.md') === reference()
    assert.ok(isSame, 'docs/api.md is not what the types say: npm run docs')
  })

  test('show the workload that is in the examples', () => {
    const [{ code }] = blocks.filter(({ document }) => document === 'compare/README.md').slice(1)
    assert.ok(read('compare/examples/workload.js').endsWith(code))
  })
})
