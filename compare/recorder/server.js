'use strict'

/**
 * The process under test: one arm, one workload, one HTTP server. The runner starts it as
 * `server.js EXPERIMENT VARIANT ARM` and talks to it over IPC:
 *
 *   runner          server
 *          <------- { type: 'listening', port }
 *   'start' ------>            opens the measured window
 *   'stop'  ------>            closes it
 *          <------- { type: 'measured', metrics }
 *   'quit'  ------>            tears down and exits
 *
 * It ends by itself when the runner goes away.
 */

const http = require('node:http')
const { findArm } = require('../arms')
const { findExperiment } = require('../experiments')
const { Recorder } = require('./recorder')

/** As little as a reply can be: what HTTP costs is the same for all arms and hides their differences. */
const REPLY = 'ok'
const HEADERS = { 'Content-Length': REPLY.length }

const [experimentName, variant, armName] = process.argv.slice(2)
const workload = findExperiment(experimentName).workloads.find(
  (candidate) => (candidate.variant ?? '') === variant
)
const arm = findArm(armName).open({ maxSize: workload.maxSize })
const state = workload.setUp(arm)
const recorder = new Recorder(arm.stats)
let failureTold = false

const server = http.createServer((_request, response) => {
  try {
    recorder.request(workload.run(state))
  } catch (error) {
    // Each failure counts as an error at the client; the reason is worth telling once.
    if (!failureTold) console.error(error)
    failureTold = true
    response.writeHead(500, { 'Content-Length': '0' })
    response.end()
    return
  }
  response.writeHead(200, HEADERS)
  response.end(REPLY)
})

const commands = {
  start() {
    recorder.start()
  },
  async stop() {
    process.send({ type: 'measured', metrics: await recorder.stop() })
  },
  quit() {
    process.removeListener('disconnect', quitAtOnce)
    server.close()
    server.closeAllConnections()
    workload.tearDown(state)
    process.disconnect()
  }
}

function quitAtOnce() {
  process.exit(0)
}

process.on('message', (command) => commands[command]())
process.on('disconnect', quitAtOnce)
// Ctrl-C reaches the whole process group; the runner decides when this process ends.
process.on('SIGINT', () => {})

server.listen(0, '127.0.0.1', () => {
  process.send({ type: 'listening', port: server.address().port })
})
