'use strict'

/** The smallest reply: the cost of HTTP is the same for all arms and hides their differences. */
const REPLY = 'ok'
const HEADERS = { 'Content-Length': REPLY.length }

/** @param {import('node:http').ServerResponse} response */
function reply(response) {
  response.writeHead(200, HEADERS)
  response.end(REPLY)
}

module.exports = { reply }
