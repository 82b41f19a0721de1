'use strict'

/** Preloaded where the documents' servers are run: each listens on a free port, and tells which. */

const { Server } = require('node:net')

const { listen } = Server.prototype

Server.prototype.listen = function (_port, ...rest) {
  this.once('listening', () => process.send(this.address().port))
  return listen.call(this, 0, ...rest)
}
