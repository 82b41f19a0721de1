'use strict'

/**
 * The process that inspects the Buffers of one arm. It prints one line of JSON. Under `strace`, the
 * system calls between its two marks are those of the Buffers.
 *
 * Its first argument is a `Spec` (see `subject.js`), with the library that gets addresses as
 * `settings.probe`, if there is one.
 */

const fs = require('node:fs')
const { setImmediate: nextTurn } = require('node:timers/promises')
const { openSubject } = require('./subject')
const { useBuffer } = require('../experiments/use-buffer')
const { BEGIN, END } = require('../experiments/http-buffers/marks')

/** After this many Buffers an arm that reuses memory has allocated all of it. */
const WARMUP_BUFFERS = 200

const BUFFERS = 1000

/** The number of Buffers between two readings of the memory, the first of which is at the start. */
const RSS_EVERY = 250

const { spec, workload, arm, state } = openSubject()
const addressOf = loadProbe(spec.settings.probe)
const addresses = new Set()

// Ends when the runner does, even with strace between them.
process.stdin.on('end', () => process.exit()).resume()

function loadProbe(file) {
  if (file === undefined) return undefined
  const module = { exports: {} }
  process.dlopen(module, file)
  return module.exports
}

/** Uses each Buffer in its own event-loop turn, as the server does for a request. */
async function useBuffers(count, used) {
  const take = (size) => {
    const buffer = arm.take(size)
    if (addressOf) addresses.add(addressOf(buffer))
    return buffer
  }
  for (let done = 0; done < count; done++) {
    useBuffer({ take, give: arm.give }, workload.maxSize)
    used?.(done + 1)
    await nextTurn()
  }
}

/** Makes a system call that no other code makes. */
function mark(name) {
  try {
    fs.accessSync(name)
  } catch {
    // There is no such file.
  }
}

async function inspect() {
  await useBuffers(WARMUP_BUFFERS)
  addresses.clear()
  const rssBytes = [process.memoryUsage.rss()]
  const faultsBefore = process.resourceUsage().minorPageFault
  mark(BEGIN)
  await useBuffers(BUFFERS, (done) => {
    if (done % RSS_EVERY === 0) rssBytes.push(process.memoryUsage.rss())
  })
  mark(END)
  const faults = process.resourceUsage().minorPageFault - faultsBefore
  const told = {
    buffers: BUFFERS,
    rssEvery: RSS_EVERY,
    addresses: addressOf ? addresses.size : undefined,
    faultsPerBuffer: faults / BUFFERS,
    rssBytes
  }
  process.stdout.write(`${JSON.stringify(told)}\n`)
  workload.tearDown(state)
  process.stdin.destroy()
}

inspect()
