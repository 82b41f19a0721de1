'use strict'

/**
 * The process in which a person's own workload is tried under one arm before anything is measured. The runner starts it
 * with a `Spec` (see `subject.js`) and talks to it over IPC:
 *
 *   runner          trial
 *          <------- { type: 'tried', flaw?, taken, kept }
 *   'quit'  ------>            exits
 */

const { once } = require('node:events')
const http = require('node:http')
const { setTimeout: sleep } = require('node:timers/promises')
const { inspect } = require('node:util')
const { MarkedArm } = require('../experiments/own/marked-arm')
const { obey, openAnySubject } = require('./subject')

/** Some at a time, so that Buffers of several requests are out together. */
const ROUNDS = 4
const AT_A_TIME = 4

/** Operations of a loop, in all. */
const OPERATIONS = 2 * ROUNDS * AT_A_TIME

/** The network takes what it is given after this time, so that what is given back before is seen. */
const SEND_MS = 5

/** Time for what a workload does after its last reply. */
const SETTLE_MS = 50

/** The longest that a reply may take, and that a Buffer may come back after it. */
const ANSWER_MS = 20_000
const COME_BACK_MS = 500

async function tryOut() {
  obey({ quit: () => process.exit(0) })
  const { workload, arm, spec } = await openAnySubject()
  const marked = new MarkedArm(arm, workload.maxSize)
  const tell = (wrong) => {
    // What it did wrong first is the cause of whatever came then.
    const flaw = marked.flaw ?? wrong
    process.send({ type: 'tried', flaw, taken: marked.taken, kept: marked.kept })
  }
  process.on('uncaughtException', (error) => tell(`throws ${told(error)}`))
  const state = workload.setUp({ arm: marked, settings: spec.settings })
  const wrong = await (workload.unit === 'request' ? serve : run)(workload, state, marked)
  await sleep(SETTLE_MS)
  for (let waited = 0; marked.kept > 0 && waited < COME_BACK_MS; waited += SEND_MS) {
    await sleep(SEND_MS)
  }
  marked.look()
  tell(wrong)
}

async function run(workload, state) {
  try {
    await workload.run(state, OPERATIONS)
  } catch (error) {
    return `throws ${told(error)}`
  }
  return undefined
}

async function serve(workload, state, marked) {
  let thrown
  const server = http.createServer(async (request, response) => {
    try {
      await workload.serve(state, request, response)
    } catch (error) {
      thrown ??= `throws ${told(error)}`
      response.destroy()
    }
  })
  server.on('connection', sendLate)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  const agent = new http.Agent({ keepAlive: true })
  try {
    for (let round = 0; round < ROUNDS; round++) {
      const replies = Array.from({ length: AT_A_TIME }, () => ask({ port, agent }))
      for (const { status, body } of await Promise.all(replies)) {
        if (marked.hasMark(body)) return 'gives a Buffer back before it is sent'
        if (status !== 200) return `answers with status ${status}`
      }
    }
  } catch (error) {
    return thrown ?? `sends no whole reply: ${error.message}`
  } finally {
    agent.destroy()
    server.close()
    server.closeAllConnections()
  }
  return thrown
}

/** Has a connection take what is written to it a moment later. @param {import('node:net').Socket} socket */
function sendLate(socket) {
  for (const name of ['_write', '_writev']) {
    const write = socket[name]
    socket[name] = (...args) => setTimeout(() => write.apply(socket, args), SEND_MS)
  }
}

async function ask(options) {
  const signal = AbortSignal.timeout(ANSWER_MS)
  const [response] = await once(http.get({ host: '127.0.0.1', ...options, signal }), 'response')
  return { status: response.statusCode, body: Buffer.concat(await response.toArray()) }
}

function told(error) {
  return error instanceof Error ? error.stack : inspect(error)
}

tryOut()
