'use strict'

/** A workload of one's own: `npm start -- --workload compare/examples/workload.js`. */
module.exports = {
  title: 'a body of 64 to 256 KiB, made in a Buffer and sent',
  maxSize: 256 * 1024,
  serve({ take, give }, _request, response) {
    const buffer = take(64 * 1024 + Math.floor(Math.random() * 192 * 1024)).fill('x')
    // The kernel reads the Buffer until the response is closed.
    response.once('close', () => give(buffer))
    response.end(buffer)
  }
}
