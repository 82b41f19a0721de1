'use strict'

/**
 * Code that watches every prototype once cistern is loaded. It gets no block of `cistern/io` before
 * its user does, and nothing that could end another user's lease. Each attack is a process of its
 * own.
 */

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const path = require('node:path')
const { describe, test } = require('node:test')

const SOURCES = ['file', 'file, with its callbacks seen,', 'handle', 'stream', 'web', 'generator']

describe('Watched prototypes see no block, and nothing that could release one, of chunks of a', () => {
  for (const source of SOURCES) {
    for (const mode of ['detach', 'reuse', 'ceiling']) {
      for (const attack of ['held', 'released']) {
        test(`${source} (${mode}), while its chunk is ${attack}`, () => {
          const script = path.join(__dirname, '..', 'support', 'chunks-attack.js')
          const { status, signal, stdout, stderr } = spawnSync(
            process.execPath,
            ['--expose-gc', script, source, mode, attack],
            { encoding: 'utf8', timeout: 60_000 }
          )
          assert.equal(status, 0, `it ended with ${status ?? signal}:\n${stderr}`)
          assert.equal(stdout, 'held\n')
        })
      }
    }
  }
})
