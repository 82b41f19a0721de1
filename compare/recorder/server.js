'use strict'

/**
 * The process under test that serves requests: one arm, one workload, one HTTP server. The runner
 * starts it with a `Spec` (see `subject.js`) and talks to it over IPC:
 *
 *   runner          server
 *          <------- { type: 'listening', port }
 *   'start' ------>            opens the measured window
 *   'stop'  ------>            closes it
 *          <------- { type: 'measured', metrics }
 *   'quit'  ------>            tears down and exits
 */

const http = require('node:http')
const { disconnect, obey, openAnySubject } = require('./subject')

let failureTold = false

/** @param {import('./subject').Subject} subject */
function listen({ workload, state, recorder }) {
  const server = http.createServer((request, response) => {
    try {
      const served = workload.serve(state, request, response)
      if (typeof served === 'number') recorder.request(served)
      else
        served.then(
          (bytes) => recorder.request(bytes),
          (error) => fail(response, error)
        )
    } catch (error) {
      fail(response, error)
    }
  })
  obey({
    start() {
      recorder.start()
    },
    async stop() {
      const metrics = await recorder.stop()
      const figures = await workload.figures?.(state)
      process.send({ type: 'measured', metrics: { ...metrics, ...figures } })
    },
    async quit() {
      server.close()
      server.closeAllConnections()
      await workload.tearDown(state)
      disconnect()
    }
  })
  server.listen(0, '127.0.0.1', () => {
    process.send({ type: 'listening', port: server.address().port })
  })
}

/** Answers with status 500, which the client counts as an error. Prints the first reason only. */
function fail(response, error) {
  // At the end of a run the client closes its connections; that is no failure.
  if (response.destroyed || response.socket?.destroyed) return
  if (!failureTold) console.error(error)
  failureTold = true
  if (response.headersSent) {
    response.destroy()
    return
  }
  response.writeHead(500, { 'Content-Length': '0' })
  response.end()
}

openAnySubject().then(listen)
