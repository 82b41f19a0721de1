'use strict'

/**
 * Preloaded into the documents' servers: each listens on a free port, and sends its number to the
 * parent.
 */

const { Server } = require('node:net')

const { listen } = Server.prototype

Server.prototype.listen = function (_port, ...rest) {
  this.once('listening', () => process.send(this.address().port))
  return listen.call(this, 0, ...rest)
}
