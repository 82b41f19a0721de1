'use strict'

const os = require('node:os')
const { version: cistern } = require('cistern/package.json')

/**
 * Describes the machine and the run for the reader, without anything that identifies the machine's
 * owner.
 *
 * @param {import('./plan').Plan} plan
 */
function describeRun(plan) {
  return {
    node: process.version,
    v8: process.versions.v8,
    platform: process.platform,
    arch: process.arch,
    cpus: os.availableParallelism(),
    cpuModel: os.cpus()[0]?.model.trim(),
    memoryBytes: os.totalmem(),
    date: new Date().toISOString(),
    cistern,
    rounds: plan.rounds,
    durationSeconds: plan.run.durationSeconds,
    warmupSeconds: plan.run.warmupSeconds,
    connections: plan.run.connections,
    heapMiB: plan.heapMiB,
    finished: false
  }
}

module.exports = { describeRun }
