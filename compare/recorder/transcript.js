'use strict'

/**
 * The process of `cistern-compare transcript`: a server, and the one request to it. The reply lists
 * the machine's free memory before and after each Buffer. Its first argument is a `Spec` (see
 * `subject.js`).
 */

const http = require('node:http')
const os = require('node:os')
const { openSubject } = require('./subject')
const { useBuffer } = require('../experiments/use-buffer')

const BUFFERS = 100

const MEGA = 1e6

const { workload, arm, state } = openSubject()

const server = http.createServer((_request, response) => {
  for (let made = 0; made < BUFFERS; made++) {
    response.write(`------------- new Buffer ${made}\n`)
    response.write(memory())
    useBuffer(arm, workload.maxSize)
    response.write('------------- after new 1MiB buffer\n')
    response.write(`${memory()}\n`)
  }
  response.end()
})

/**
 * Reports free memory beside the process's own, because other processes use the machine as well.
 */
function memory() {
  const [free, resident] = [os.freemem(), process.memoryUsage.rss()]
  return `free ${(free / MEGA).toFixed(1)} MB, resident ${(resident / MEGA).toFixed(1)} MB\n`
}

server.listen(0, '127.0.0.1', () => {
  const { port } = server.address()
  http.get({ host: '127.0.0.1', port, agent: false }, (response) => {
    response.pipe(process.stdout)
    response.once('end', () => {
      server.close()
      workload.tearDown(state)
    })
  })
})
