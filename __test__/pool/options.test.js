'use strict'

const assert = require('node:assert/strict')
const path = require('node:path')
const { describe, test } = require('node:test')
const { BufferPool } = require('../..')
const { runScript } = require('../support/helpers')

describe('options', () => {
  test('may be left out, or be undefined', () => {
    for (const options of [undefined, {}, { name: undefined, maxBlockSize: undefined }]) {
      assert.equal(new BufferPool(options).stats().name, 'pool')
    }
  })

  test('are taken once, when the pool is made', () => {
    const options = { maxBlockSize: 100 }
    const pool = new BufferPool(options)
    options.maxBlockSize = 1
    pool.allocUnsafe(100)
    assert.equal(pool.stats().unpooledCount, 0)
  })

  for (const maxBlockSize of [1, 64, 1000, 2 ** 30]) {
    test(`allow blocks up to ${maxBlockSize} bytes`, () => {
      const pool = new BufferPool({ maxBlockSize })
      if (maxBlockSize < 2 ** 20) {
        pool.allocUnsafe(maxBlockSize)
        assert.equal(pool.stats().unpooledCount, 0)
        pool.allocUnsafe(maxBlockSize + 1)
        assert.equal(pool.stats().unpooledCount, 1)
      }
    })
  }

  const wrong = [
    [null, 'ERR_INVALID_ARG_TYPE', /"options" argument must be an object. Received null/],
    [5, 'ERR_INVALID_ARG_TYPE', /"options".*Received 5/],
    ['name', 'ERR_INVALID_ARG_TYPE', /"options".*Received 'name'/],
    [[], 'ERR_INVALID_ARG_TYPE', /"options"/],
    [{ name: 5 }, 'ERR_INVALID_ARG_TYPE', /"options.name" property must be a string. Received 5/],
    [{ maxBlockSize: '1' }, 'ERR_INVALID_ARG_TYPE', /"options.maxBlockSize".*a number.*'1'/],
    [{ maxBlockSize: 0 }, 'ERR_OUT_OF_RANGE', /"options.maxBlockSize".*>= 1.*Received 0/],
    [{ maxBlockSize: -1 }, 'ERR_OUT_OF_RANGE', /Received -1/],
    [{ maxBlockSize: 1.5 }, 'ERR_OUT_OF_RANGE', /an integer.*Received 1\.5/],
    [{ maxBlockSize: NaN }, 'ERR_OUT_OF_RANGE', /Received NaN/],
    [{ maxBlockSize: Infinity }, 'ERR_OUT_OF_RANGE', /Received Infinity/],
    [{ maxBlockSize: 2 ** 30 + 1 }, 'ERR_OUT_OF_RANGE', /<= 1073741824/],
    [{ detachOnRelease: 1 }, 'ERR_INVALID_ARG_TYPE', /"options.detachOnRelease".*a boolean/],
    [{ zeroOnRelease: 'yes' }, 'ERR_INVALID_ARG_TYPE', /"options.zeroOnRelease".*'yes'/],
    [{ maxBytes: '1' }, 'ERR_INVALID_ARG_TYPE', /"options.maxBytes".*a number.*'1'/],
    [{ maxBytes: 0 }, 'ERR_OUT_OF_RANGE', /"options.maxBytes".*>= 1, or Infinity.*Received 0/],
    [{ maxBytes: 1.5 }, 'ERR_OUT_OF_RANGE', /an integer.*Received 1\.5/],
    [{ maxBytes: NaN }, 'ERR_OUT_OF_RANGE', /Received NaN/],
    [{ maxBytes: -Infinity }, 'ERR_OUT_OF_RANGE', /Received -Infinity/],
    [{ onExhausted: 1 }, 'ERR_INVALID_ARG_VALUE', /'options.onExhausted'.*'unpooled', 'throw'.*1/],
    [{ onExhausted: 'wait' }, 'ERR_INVALID_ARG_VALUE', /Received 'wait'/],
    [{ idleTimeout: '1' }, 'ERR_INVALID_ARG_TYPE', /"options.idleTimeout".*a number/],
    [{ idleTimeout: -1 }, 'ERR_OUT_OF_RANGE', /"options.idleTimeout".*>= 0.*Received -1/],
    [{ idleTimeout: NaN }, 'ERR_OUT_OF_RANGE', /Received NaN/],
    [{ leakSampleRate: true }, 'ERR_INVALID_ARG_TYPE', /"options.leakSampleRate".*a number/],
    [{ leakSampleRate: 1.1 }, 'ERR_OUT_OF_RANGE', /"options.leakSampleRate".*<= 1.*Received 1\.1/],
    [{ leakSampleRate: -0.1 }, 'ERR_OUT_OF_RANGE', /Received -0\.1/],
    [{ maxblocksize: 5 }, 'ERR_INVALID_ARG_VALUE', /'options.maxblocksize'.*there are name,/],
    [{ toString: 5 }, 'ERR_INVALID_ARG_VALUE', /'options.toString'/]
  ]
  for (const [options, code, message] of wrong) {
    test(`refuse ${JSON.stringify(options)} with ${code}`, () => {
      assert.throws(() => new BufferPool(options), { code, message })
    })
  }
})

/** @param {string} script to run before anything else */
function preload(script) {
  return `--import=data:text/javascript,${encodeURIComponent(script).replaceAll("'", '%27')}`
}

describe('--zero-fill-buffers', () => {
  // These come in addition to the options that the tests run with.
  const given = `${process.env.NODE_OPTIONS ?? ''} --zero-fill-buffers`
  const script = `
    const pool = new cistern.BufferPool({ detachOnRelease: false })
    const clean = [10, 1000, 100_000].every((size) => {
      for (let i = 0; i < 3; i++) {
        const buffer = pool.allocUnsafe(size)
        if (!buffer.every((byte) => byte === 0)) return false
        buffer.fill(1)
        pool.release(buffer)
      }
      return true
    })
    console.log(clean)
  `
  for (const [name, options, skip = false] of [
    ['on the command line', { flags: ['--zero-fill-buffers'] }],
    ['in NODE_OPTIONS', { env: { NODE_OPTIONS: given } }],
    [
      'in NODE_OPTIONS that were deleted since',
      {
        env: { NODE_OPTIONS: `${given} ${preload('delete process.env.NODE_OPTIONS')}` }
      },
      process.platform !== 'linux'
    ],
    [
      'on the command line that a title was written over',
      { flags: ['--zero-fill-buffers', preload("process.title = 'x'.repeat(1000)")] }
    ],
    [
      'in a file of options',
      {
        flags: [
          `--experimental-config-file=${path.join(__dirname, '..', 'support', 'zero-fill.config.json')}`
        ]
      },
      Number.parseInt(process.versions.node, 10) < 24
    ]
  ]) {
    test(`${name} makes every pooled Buffer zero-filled`, { skip }, () => {
      assert.equal(runScript(script, options).trim(), 'true')
    })
  }

  test('in a worker holds as well', () => {
    const output = runScript(
      `
      const { Worker } = require('node:worker_threads')
      const entry = ${JSON.stringify(require.resolve('../..'))}
      new Worker('const cistern = require(' + JSON.stringify(entry) + ');' + ${JSON.stringify(script)}, { eval: true })
    `,
      { flags: ['--zero-fill-buffers'] }
    )
    assert.equal(output.trim(), 'true')
  })

  test('where it is not given, costs nothing: contents stay', () => {
    assert.equal(runScript(script).trim(), 'false')
  })
})
