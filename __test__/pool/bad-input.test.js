'use strict'

/**
 * Every public function with every wrong kind of argument. The tests know each error to the letter:
 * its code, the argument, the expected type and the received value. The call has no other effect.
 */

const assert = require('node:assert/strict')
const { constants } = require('node:buffer')
const { getEventListeners } = require('node:events')
const { Readable, Writable } = require('node:stream')
const { describe, test } = require('node:test')
const { inspect, types } = require('node:util')
const promClient = require('prom-client')
const { BufferPool } = require('../..')
const io = require('../../lib/io')
const metrics = require('../../lib/metrics')
const { balanced } = require('../support/helpers')

const { isUint8Array } = types

const { MAX_LENGTH } = constants
const { MAX_SAFE_INTEGER } = Number

/** The error that a getter of the user's throws. */
const BOOM = new Error('boom')

const boom = () => {
  throw BOOM
}

const revoked = (() => {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
})()

const detached = new ArrayBuffer(8)
const detachedView = new DataView(detached)
structuredClone(detached, { transfer: [detached] })

const withGetter = Object.defineProperty({}, 'a', { get: boom, enumerable: true })

/** @type {[value: unknown, shown: string][]} each with its text in a message */
const VALUES = [
  [undefined, 'undefined'],
  [null, 'null'],
  [true, 'true'],
  [7, '7'],
  [Number.NaN, 'NaN'],
  [-1, '-1'],
  [0.5, '0.5'],
  [2 ** 53, '9007199254740992'],
  [Number.POSITIVE_INFINITY, 'Infinity'],
  [5n, '5n'],
  ['text', "'text'"],
  ['a long text\n'.repeat(1000), `'${'a long text\\n'.repeat(5).slice(0, 56)}...`],
  [Symbol('mark'), 'Symbol(mark)'],
  [{ a: 1 }, '{ a: 1 }'],
  [Object.create(null), '[Object: null prototype] {}'],
  [[1], '[ 1 ]'],
  [function named() {}, 'function named'],
  [Object.defineProperty(() => {}, 'name', { value: 'a\n  b' }), 'function a b'],
  [Buffer.from('abc'), 'Buffer of 3 bytes'],
  [new SharedArrayBuffer(8), 'SharedArrayBuffer of 8 bytes'],
  [new Uint8Array(new SharedArrayBuffer(8)), 'Uint8Array of 8 bytes'],
  [new DataView(new SharedArrayBuffer(8)), 'a DataView'],
  [detachedView, 'a DataView'],
  [withGetter, '{ a: [Getter] }'],
  [revoked, 'a Proxy']
]

/**
 * The error for a wrong argument; `undefined` if the value is right.
 *
 * @typedef {{ name?: string, code?: string, message?: string | RegExp } | Error | undefined} Expected
 * @typedef {(value: any, shown: string, argument: string) => Expected} Rule
 */

const kindOf = (argument) => (argument.includes('.') ? 'property' : 'argument')

/** @returns {Rule} */
const wrongType = (expected) => (_, shown, argument) => ({
  name: 'TypeError',
  code: 'ERR_INVALID_ARG_TYPE',
  message: `The "${argument}" ${kindOf(argument)} must be ${expected}. Received ${shown}`
})

/** @returns {Rule} */
const outOfRange = (range) => (_, shown, argument) => ({
  name: 'RangeError',
  code: 'ERR_OUT_OF_RANGE',
  message: `The value of "${argument}" is out of range. It must be ${range}. Received ${shown}`
})

/** @returns {Rule} */
const wrongValue = (reason) => (_, shown, argument) => ({
  name: 'TypeError',
  code: 'ERR_INVALID_ARG_VALUE',
  message: `The ${kindOf(argument)} '${argument}' ${reason}. Received ${shown}`
})

/** The engine's error for code that reads a revoked Proxy. */
const REVOKED = { name: 'TypeError', message: /proxy that has been revoked/ }

/**
 * Values that pass a test are right, others are of the wrong type.
 *
 * @returns {Rule}
 */
const only =
  (expected, isRight = (_) => false) =>
  (value, shown, argument) =>
    isRight(value) ? undefined : wrongType(expected)(value, shown, argument)

/**
 * Rules for arguments that are read before they can be refused.
 *
 * @param {Rule} rule
 * @returns {Rule}
 */
const lookedInto =
  (rule) =>
  (value, ...rest) =>
    value === revoked ? REVOKED : rule(value, ...rest)

/** @returns {Rule} */
const number =
  (expected, range, isRight) =>
  (value, ...rest) => {
    if (typeof value !== 'number') return wrongType(expected)(value, ...rest)
    return isRight(value) ? undefined : outOfRange(range)(value, ...rest)
  }

/** @returns {Rule} */
const integer = (min, max = MAX_SAFE_INTEGER) =>
  number(
    'of type number',
    `an integer >= ${min} && <= ${max}`,
    (value) => Number.isInteger(value) && value >= min && value <= max
  )

/**
 * @param {Rule} rule
 * @returns {Rule}
 */
const optional =
  (rule) =>
  (value, ...rest) =>
    value === undefined ? undefined : rule(value, ...rest)

/**
 * @param {Rule} rule
 * @returns {Rule}
 */
const orInfinity =
  (rule) =>
  (value, ...rest) =>
    value === Number.POSITIVE_INFINITY ? undefined : rule(value, ...rest)

/**
 * Node refuses a wrong size with its own message.
 *
 * @returns {Rule}
 */
const size = (argument) => (value) => {
  if (value === 0.5) return outOfRange('an integer')(value, '0.5', argument)
  try {
    Buffer.allocUnsafe(value)
  } catch (error) {
    return /** @type {Error} */ (error)
  }
  return undefined
}

const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value)

const boolean = only('a boolean', (value) => typeof value === 'boolean')
const string = only('a string', (value) => typeof value === 'string')
const options = optional(lookedInto(only('an object', isObject)))
const signal = optional(lookedInto(only('an instance of AbortSignal')))
const aPool = only('an instance of BufferPool')

/**
 * @param {Rule} rule that takes `undefined`
 * @returns {Rule}
 */
const required =
  (rule) =>
  (value, ...rest) =>
    value === undefined ? wrongType('an object')(value, ...rest) : rule(value, ...rest)

/**
 * Options of which none may be unknown.
 *
 * @returns {Rule}
 */
const knownOptions = (known) => (value, shown, argument) => {
  const wrong = options(value, shown, argument)
  if (wrong !== undefined || value === undefined) return wrong
  if (value === withGetter) return BOOM
  const [first] = Object.entries(value)
  if (first === undefined) return undefined
  const reason = `is no option; there ${known.includes(',') ? 'are' : 'is'} ${known}`
  return wrongValue(reason)(first[1], String(first[1]), `options.${first[0]}`)
}

const POOL_OPTIONS =
  'name, maxBytes, maxBlockSize, onExhausted, detachOnRelease, zeroOnRelease, idleTimeout, leakSampleRate'

/** @returns {Rule} */
const notPooled = (argument) => (_, shown) => ({
  name: 'TypeError',
  code: 'ERR_CISTERN_NOT_POOLED',
  message:
    `The "${argument}" argument must be a view of a block that pool 'tried' handed out, ` +
    `or its ArrayBuffer. Received ${shown}`
})

/** @returns {Rule} */
const noHandle = (value, shown, argument) =>
  typeof value === 'object' && value !== null
    ? {
        name: 'TypeError',
        code: 'ERR_CISTERN_INVALID_HANDLE',
        message:
          'The "handle" argument must be the handle of a pool of this process that is in use: ' +
          `it is no handle. Received ${shown}`
      }
    : wrongType('the handle of a pool')(value, shown, argument)

const isPath = (value) => typeof value === 'string' || isUint8Array(value)

/** The things that a wrong call could harm. */
class World {
  pool = new BufferPool({ name: 'tried', idleTimeout: Number.POSITIVE_INFINITY })
  leased = this.pool.allocUnsafe(100).fill(1)
  lease = this.pool.lease(2000, { zero: true })
  bytes = this.pool.byteBuffer(64).append('kept')
  req = new Readable({ read() {} })
  sink = new Writable()
  registry = new promClient.Registry()
  signal = new AbortController().signal

  constructor() {
    this.pool.release(this.pool.allocUnsafe(5000))
  }

  /** Returns all of it that can be seen. */
  look() {
    const { bytes, leased, lease, pool, registry, req, sink } = this
    return {
      stats: pool.stats(),
      isLeased: [leased, lease.buffer, bytes.view()].map((view) => pool.owns(view)),
      leased: Buffer.from(leased),
      bytes: bytes.toBuffer(),
      capacity: bytes.capacity,
      listeners: [req, sink].map((stream) =>
        stream.eventNames().map((name) => [name, stream.listenerCount(name)])
      ),
      isRead: req.readableDidRead || req.readableFlowing,
      isWritten: sink.writableLength > 0 || sink.writableEnded,
      isDestroyed: req.destroyed || sink.destroyed,
      aborts: getEventListeners(this.signal, 'abort').length,
      metrics: [registry, promClient.register].map((each) => each.getMetricsAsArray())
    }
  }

  async end() {
    const { bytes, leased, lease, pool, req, sink } = this
    bytes.release()
    lease.release()
    pool.release(leased)
    req.destroy()
    sink.destroy()
    assert.equal((await balanced(pool)).inUseCount, 0)
  }
}

/**
 * Each function, each argument: what it takes, and the call.
 *
 * @type {[call: string, argument: string, rule: Rule, run: (world: World, value: any) => unknown][]}
 */
const CASES = [
  ['BufferPool', 'options', knownOptions(POOL_OPTIONS), (_, value) => new BufferPool(value)],
  ...poolOptions({
    name: string,
    maxBytes: number(
      'a number',
      'an integer >= 1, or Infinity',
      (value) => value >= 1 && (Number.isInteger(value) || value === Number.POSITIVE_INFINITY)
    ),
    maxBlockSize: number(
      'a number',
      'an integer >= 1 && <= 1073741824',
      (value) => Number.isInteger(value) && value >= 1 && value <= 2 ** 30
    ),
    onExhausted: wrongValue("must be one of: 'unpooled', 'throw'"),
    detachOnRelease: boolean,
    zeroOnRelease: boolean,
    idleTimeout: number('a number', '>= 0, or Infinity', (value) => value >= 0),
    leakSampleRate: number('a number', '>= 0 && <= 1', (value) => value >= 0 && value <= 1)
  }),
  ['attach', 'handle', lookedInto(noHandle), (_, value) => BufferPool.attach(value)],
  ['allocUnsafe', 'size', size('size'), ({ pool }, value) => pool.allocUnsafe(value)],
  ['alloc', 'size', size('size'), ({ pool }, value) => pool.alloc(value)],
  ['alloc', 'size', size('size'), ({ pool }, value) => pool.alloc(value, 'x', 'latin1')],
  ...['acquire', 'acquireLease'].flatMap((name) => [
    [name, 'size', size('size'), ({ pool }, value) => pool[name](value)],
    [name, 'options', knownOptions('zero, signal'), ({ pool }, value) => pool[name](1, value)],
    [name, 'options.zero', optional(boolean), ({ pool }, zero) => pool[name](1, { zero })],
    [name, 'options.signal', signal, ({ pool }, signal) => pool[name](1, { signal })]
  ]),
  ['release', 'view', notPooled('view'), ({ pool }, value) => pool.release(value)],
  ['lease', 'size', size('size'), ({ pool }, value) => pool.lease(value)],
  ['lease', 'size', size('size'), ({ pool }, value) => pool.lease(value, { zero: true })],
  ['lease', 'options', knownOptions('zero'), ({ pool }, value) => pool.lease(1, value)],
  ['lease', 'options.zero', optional(boolean), ({ pool }, zero) => pool.lease(1, { zero })],
  [
    'trim',
    'keepBytes',
    optional(number('of type number', '>= 0', (value) => value >= 0)),
    ({ pool }, value) => pool.trim(value)
  ],
  [
    'byteBuffer',
    'sizeHint',
    optional(integer(0, MAX_LENGTH)),
    ({ pool }, value) => pool.byteBuffer(value)
  ],
  [
    'append',
    'data',
    only('a string or an instance of Uint8Array', isPath),
    ({ bytes }, value) => bytes.append(value)
  ],
  ['append', 'encoding', encoding, ({ bytes }, value) => bytes.append('abc', value)],
  ['append', 'encoding', encoding, ({ bytes }, v) => bytes.append('beyond its room'.repeat(99), v)],
  ['readBody', 'pool', aPool, ({ req }, value) => io.readBody(value, req)],
  [
    'readBody',
    'req',
    lookedInto(only('a stream.Readable')),
    ({ pool, signal }, value) => io.readBody(pool, value, { signal })
  ],
  [
    'readBody',
    'options',
    knownOptions('limit, length, signal'),
    ({ pool, req }, value) => io.readBody(pool, req, value)
  ],
  [
    'readBody',
    'options.limit',
    optional(orInfinity(integer(0))),
    ({ pool, req, signal }, limit) => io.readBody(pool, req, { limit, signal })
  ],
  [
    'readBody',
    'options.length',
    optional(integer(0)),
    ({ pool, req, signal }, length) => io.readBody(pool, req, { length, signal })
  ],
  [
    'readBody',
    'options.signal',
    signal,
    ({ pool, req }, v) => io.readBody(pool, req, { signal: v })
  ],
  ['end', 'pool', aPool, ({ leased, sink }, value) => io.end(value, sink, leased)],
  [
    'end',
    'res',
    lookedInto(only('a stream.Writable')),
    ({ leased, pool }, value) => io.end(pool, value, leased)
  ],
  [
    'end',
    'buffer',
    (value, ...rest) =>
      isUint8Array(value)
        ? notPooled('buffer')(value, ...rest)
        : wrongType('an instance of Buffer or Uint8Array')(value, ...rest),
    ({ pool, sink }, value) => io.end(pool, sink, value)
  ],
  ['pumpFile', 'pool', aPool, ({ sink }, value) => io.pumpFile(value, __filename, sink)],
  [
    'pumpFile',
    'file',
    lookedInto(only('a string, a Buffer, a URL or a FileHandle', isPath)),
    ({ pool, sink }, value) => io.pumpFile(pool, value, sink)
  ],
  [
    'pumpFile',
    'writable',
    lookedInto(only('a stream.Writable')),
    ({ pool, signal }, value) => io.pumpFile(pool, __filename, value, { signal })
  ],
  ['pumpFile', 'options', knownOptions('start, end, chunkSize, signal'), pumping((value) => value)],
  ['pumpFile', 'options.start', optional(integer(0)), pumping((start) => ({ start }))],
  ['pumpFile', 'options.end', optional(orInfinity(integer(0))), pumping((end) => ({ end }))],
  [
    'pumpFile',
    'options.chunkSize',
    optional(integer(1, 2 ** 31 - 1)),
    pumping((chunkSize, signal) => ({ chunkSize, signal }))
  ],
  ['pumpFile', 'options.signal', signal, pumping((signal) => ({ signal }))],
  ['chunks', 'pool', aPool, ({ req }, value) => io.chunks(value, req)],
  [
    'chunks',
    'source',
    lookedInto(
      only('a string, a Buffer, a URL, a FileHandle, a stream or an async iterable', isPath)
    ),
    ({ pool }, value) => io.chunks(pool, value)
  ],
  [
    'chunks',
    'options',
    knownOptions('chunkSize, limit, signal'),
    ({ pool, req }, value) => io.chunks(pool, req, value)
  ],
  [
    'chunks',
    'options.chunkSize',
    optional(integer(1, 2 ** 31 - 1)),
    ({ pool, req, signal }, chunkSize) => io.chunks(pool, req, { chunkSize, signal })
  ],
  [
    'chunks',
    'options.limit',
    optional(orInfinity(integer(0))),
    ({ pool, req, signal }, limit) => io.chunks(pool, req, { limit, signal })
  ],
  ['chunks', 'options.signal', signal, ({ pool, req }, v) => io.chunks(pool, req, { signal: v })],
  ['onread', 'pool', aPool, (_, value) => io.onread(value, {}, () => {})],
  [
    'onread',
    'options',
    required(knownOptions('size')),
    ({ pool }, value) => io.onread(pool, value, () => {})
  ],
  [
    'onread',
    'options.size',
    optional(integer(1, MAX_LENGTH)),
    ({ pool }, size) => io.onread(pool, { size }, () => {})
  ],
  [
    'onread',
    'callback',
    only('of type function', (value) => typeof value === 'function'),
    ({ pool }, value) => io.onread(pool, {}, value)
  ],
  [
    'register',
    'pool',
    aPool,
    ({ registry }, value) => metrics.register(value, promClient, { registry })
  ],
  [
    'register',
    'promClient',
    lookedInto(only('the module prom-client')),
    ({ pool, registry }, value) => metrics.register(pool, value, { registry })
  ],
  [
    'register',
    'options',
    knownOptions('prefix, registry'),
    ({ pool }, value) => metrics.register(pool, promClient, value)
  ],
  [
    'register',
    'options.prefix',
    optional((value, ...rest) =>
      typeof value === 'string' && value.includes(' ')
        ? wrongValue('must be of letters, digits and "_", and not begin with a digit')(
            value,
            ...rest
          )
        : string(value, ...rest)
    ),
    ({ pool, registry }, prefix) => metrics.register(pool, promClient, { prefix, registry })
  ],
  [
    'register',
    'options.registry',
    optional(lookedInto(only("prom-client's Registry"))),
    ({ pool }, registry) => metrics.register(pool, promClient, { registry })
  ]
]

/** @type {Rule} */
function encoding(value, ...rest) {
  if (value === undefined) return undefined
  if (typeof value !== 'string') return wrongType('a string')(value, ...rest)
  return {
    name: 'TypeError',
    code: 'ERR_UNKNOWN_ENCODING',
    message: `Unknown encoding: ${value}`
  }
}

/** @param {Record<string, Rule>} rules */
function poolOptions(rules) {
  return Object.entries(rules).map(([name, rule]) => [
    'BufferPool',
    `options.${name}`,
    optional(rule),
    (_, value) => new BufferPool({ [name]: value })
  ])
}

/** @param {(value: any, signal: AbortSignal) => any} optionsOf */
function pumping(optionsOf) {
  return ({ pool, sink, signal }, value) =>
    io.pumpFile(pool, __filename, sink, optionsOf(value, signal))
}

/** These give a promise, and never throw. */
const ASYNC = new Set(['acquire', 'acquireLease', 'readBody', 'pumpFile'])

/**
 * Returns the outcome of a call.
 *
 * @param {string} name of the function
 * @param {() => unknown} call
 */
async function errorOf(name, call) {
  let result
  try {
    result = call()
  } catch (error) {
    assert.ok(!ASYNC.has(name), `${name} threw, and did not reject`)
    return error
  }
  assert.equal(result instanceof Promise, ASYNC.has(name), `${name} threw nothing`)
  return Promise.resolve(result).then(
    () => assert.fail(`${name} did not reject`),
    (error) => error
  )
}

/**
 * @param {any} error
 * @param {Expected} expected
 * @param {string} value
 */
function assertError(error, expected, value) {
  if (expected === BOOM) {
    assert.equal(error, BOOM, value)
    return
  }
  const { name, code, message } = /** @type {any} */ (expected)
  const about = `${value}: ${error.stack}`
  assert.deepEqual({ name: error.name, code: error.code }, { name, code }, about)
  if (message instanceof RegExp) assert.match(error.message, message, about)
  else assert.equal(error.message, message, about)
}

describe('A wrong argument is named, with what was expected, and nothing happens', () => {
  for (const [name, argument, rule, run] of CASES) {
    test(`${name}: ${argument}`, async () => {
      const world = new World()
      await balanced(world.pool)
      const before = world.look()
      let count = 0
      for (const [value, shown] of VALUES) {
        const expected = rule(value, shown, argument)
        if (expected === undefined) continue
        const error = await errorOf(name, () => run(world, value))
        assertError(error, expected, shown)
        count++
      }
      assert.ok(count >= 9, `only ${count} values are wrong`)
      assert.deepEqual(world.look(), before)
      await world.end()
    })
  }
})

/** Returns an object that throws when one of its properties is read. */
const throwing = (name, rest = {}) =>
  Object.defineProperty({ ...rest }, name, { get: boom, enumerable: true })

/** @type {[call: string, name: string, run: (world: World, value: any) => unknown][]} */
const BAGS = [
  ...POOL_OPTIONS.split(', ').map((name) => ['BufferPool', name, (_, v) => new BufferPool(v)]),
  ['attach', 'type', (_, value) => BufferPool.attach(value)],
  ['acquire', 'zero', ({ pool }, value) => pool.acquire(1, value)],
  ['acquire', 'signal', ({ pool }, value) => pool.acquire(1, value)],
  ['acquireLease', 'zero', ({ pool }, value) => pool.acquireLease(1, value)],
  ['acquireLease', 'signal', ({ pool }, value) => pool.acquireLease(1, value)],
  ['lease', 'zero', ({ pool }, value) => pool.lease(1, value)],
  ['readBody', 'limit', ({ pool, req }, value) => io.readBody(pool, req, value)],
  ['readBody', 'length', ({ pool, req }, value) => io.readBody(pool, req, value)],
  ['readBody', 'signal', ({ pool, req }, value) => io.readBody(pool, req, value)],
  ['readBody', 'on', ({ pool }, value) => io.readBody(pool, value)],
  ['end', 'write', ({ leased, pool }, value) => io.end(pool, value, leased)],
  ['pumpFile', 'start', pumping((value) => value)],
  ['pumpFile', 'end', pumping((value) => value)],
  ['pumpFile', 'chunkSize', pumping((value) => value)],
  ['pumpFile', 'signal', pumping((value) => value)],
  ['pumpFile', 'fd', ({ pool, sink }, value) => io.pumpFile(pool, value, sink)],
  ['pumpFile', 'write', ({ pool }, value) => io.pumpFile(pool, __filename, value)],
  ['chunks', 'chunkSize', ({ pool, req }, value) => io.chunks(pool, req, value)],
  ['chunks', 'limit', ({ pool, req }, value) => io.chunks(pool, req, value)],
  ['chunks', 'signal', ({ pool, req }, value) => io.chunks(pool, req, value)],
  ['chunks', 'getReader', ({ pool }, value) => io.chunks(pool, value)],
  ['onread', 'size', ({ pool }, value) => io.onread(pool, value, () => {})],
  ['register', 'prefix', ({ pool }, value) => metrics.register(pool, promClient, value)],
  ['register', 'registry', ({ pool }, value) => metrics.register(pool, promClient, value)],
  ['register', 'Gauge', ({ pool }, value) => metrics.register(pool, value)]
]

/** Properties of streams, handles and registries, which may have others. */
const NO_OPTIONS = ['on', 'write', 'fd', 'getReader', 'Gauge']

describe('The error of a getter comes through, and nothing happens', () => {
  const method = () => assert.fail('it was called')
  const rest = { on: method, Counter: method }
  for (const [name, property, run] of BAGS) {
    test(`${name}: ${property}`, async () => {
      const world = new World()
      await balanced(world.pool)
      const before = world.look()
      const value = throwing(property, NO_OPTIONS.includes(property) ? rest : {})
      assert.equal(await errorOf(name, () => run(world, value)), BOOM)
      assert.deepEqual(world.look(), before)
      await world.end()
    })
  }

  test('attach: key', () => {
    const handle = throwing('key', { type: 'cistern.pool' })
    assert.throws(() => BufferPool.attach(handle), BOOM)
  })
})

test('A handle with a part of it wrong is none', async () => {
  const world = new World()
  await balanced(world.pool)
  const before = world.look()
  const code = 'ERR_CISTERN_INVALID_HANDLE'
  for (const [value, shown] of VALUES) {
    for (const handle of [
      { type: 'cistern.pool', name: 'tried', key: value },
      { type: value, name: 'tried', key: '0' }
    ]) {
      assert.throws(() => BufferPool.attach(handle), { name: 'TypeError', code }, shown)
    }
  }
  assert.deepEqual(world.look(), before)
  await world.end()
})

describe('alloc takes, and refuses, what Buffer.alloc does', () => {
  /** Returns the bytes, or the error. */
  const outcomeOf = (call) => {
    try {
      return [...call()]
    } catch ({ name, code, message }) {
      return { name, code, message }
    }
  }
  for (const [name, argsOf] of [
    ['fill', (value) => [10, value]],
    ['fill, with an encoding', (value) => [10, value, 'hex']],
    ['encoding', (value) => [10, 'abc', value]],
    ['encoding, of one letter', (value) => [10, 'a', value]]
  ]) {
    test(name, async () => {
      const world = new World()
      const { pool } = world
      const { inUseBytes } = await balanced(pool)
      for (const [value, shown] of VALUES) {
        const args = argsOf(value)
        const expected = outcomeOf(() => Buffer.alloc(...args))
        const outcome = outcomeOf(() => {
          const buffer = pool.alloc(...args)
          const bytes = Buffer.from(buffer)
          pool.release(buffer)
          return bytes
        })
        assert.deepEqual(outcome, expected, shown)
        assert.equal((await balanced(pool)).inUseBytes, inUseBytes, shown)
      }
      await world.end()
    })
  }
})

test('owns says no to all of it', () => {
  const { pool } = new World()
  for (const [value, shown] of VALUES) assert.equal(pool.owns(value), false, shown)
})

test('A function without parameters ignores its arguments', async () => {
  const { bytes, lease, leased, pool } = new World()
  const stats = pool.stats()
  for (const [value, shown] of VALUES) {
    assert.deepEqual(pool.stats(value), stats, shown)
    assert.equal(bytes.view(value).toString(), 'kept', shown)
    assert.equal(bytes.toBuffer(value).toString(), 'kept', shown)
    assert.equal(bytes.reset(value).append('kept'), bytes, shown)
  }
  for (const [value] of VALUES) lease.release(value)
  assert.equal(pool.stats().releaseCount, stats.releaseCount + 1)
  bytes.release(VALUES)
  for (const [value] of VALUES) pool.close(value)
  assert.equal(pool.stats().idleBytes, 0)
  pool.release(leased)
  assert.equal((await balanced(pool)).inUseCount, 0)
})

describe('A method of something else is refused, and nothing happens', () => {
  const world = new World()
  for (const [name, object, rejects] of [
    ['BufferPool', world.pool, ['acquire', 'acquireLease']],
    ['Lease', world.lease, []],
    ['ByteBuffer', world.bytes, []]
  ]) {
    const prototype = Object.getPrototypeOf(object)
    for (const key of Reflect.ownKeys(prototype)) {
      // Inspection that works on one object works on any: `inspect.test.js` tests it.
      if (key === 'constructor' || key === inspect.custom) continue
      test(`${name}: ${String(key)}`, async () => {
        await balanced(world.pool)
        const before = world.look()
        const { value: method, get = method } = Object.getOwnPropertyDescriptor(prototype, key)
        for (const [value, shown] of [...VALUES, [prototype, 'its prototype']]) {
          const call = async () => get.call(value, 1)
          await assert.rejects(call, TypeError, shown)
          if (!rejects.includes(key)) assert.throws(() => get.call(value, 1), TypeError, shown)
        }
        assert.deepEqual(world.look(), before)
      })
    }
  }

  test('BufferPool without new', () => {
    assert.throws(() => BufferPool(), TypeError)
    for (const [value] of VALUES) assert.throws(() => BufferPool.call(value), TypeError)
  })
})

test('Every public function has its cases', () => {
  const { bytes, lease, pool } = new World()
  const withoutArguments = [
    ...['stats', 'holders', 'close', 'handle', 'release', 'owns'],
    ...['length', 'capacity', 'view', 'toBuffer', 'reset', 'buffer', 'constructor']
  ]
  const tried = new Set([...CASES.map(([name]) => name), ...withoutArguments])
  const names = [
    ...[pool, lease, bytes].flatMap((object) =>
      Object.getOwnPropertyNames(Object.getPrototypeOf(object))
    ),
    ...Object.keys(io),
    ...Object.keys(metrics)
  ]
  assert.deepEqual(
    names.filter((name) => !tried.has(name)),
    []
  )
})
