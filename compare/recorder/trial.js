'use strict'

/**
 * The process that tries a user's own workload under one arm, before any measurement. The runner
 * starts it with a `Spec` (see `subject.js`) and talks to it over IPC:
 *
 *   runner          trial
 *          <------- { type: 'tried', flaw?, taken, held }
 *   'quit'  ------>            exits
 */

const { once } = require('node:events')
const http = require('node:http')
const { setTimeout: sleep } = require('node:timers/promises')
const { inspect } = require('node:util')
const { MarkedArm } = require('../experiments/own/marked-arm')
const { obey, openAnySubject } = require('./subject')

/** Several requests at a time, so that their Buffers are in use together. */
const ROUNDS = 4
const AT_A_TIME = 4

/** The operations of a loop, in total. */
const OPERATIONS = 2 * ROUNDS * AT_A_TIME

/**
 * A connection sends its bytes after this delay, which shows Buffers that were given back before
 * that.
 */
const SEND_MS = 5

/** Time for the workload's own work after its last reply. */
const SETTLE_MS = 50

/** The longest time for a reply, and for a Buffer that is given back after it. */
const ANSWER_MS = 20_000
const COME_BACK_MS = 500

async function tryOut() {
  obey({ quit: () => process.exit(0) })
  const { workload, arm, spec } = await openAnySubject()
  const marked = new MarkedArm(arm, workload.maxSize)
  const tell = (wrong) => {
    // The first flaw causes the later ones.
    const flaw = marked.flaw ?? wrong
    process.send({ type: 'tried', flaw, taken: marked.taken, held: marked.held })
  }
  process.on('uncaughtException', (error) => tell(`throws ${told(error)}`))
  const state = workload.setUp({ arm: marked, settings: spec.settings })
  const wrong = await (workload.unit === 'request' ? serve : run)(workload, state, marked)
  await sleep(SETTLE_MS)
  for (let waited = 0; marked.held > 0 && waited < COME_BACK_MS; waited += SEND_MS) {
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

/** Delays what a connection sends. @param {import('node:net').Socket} socket */
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
