'use strict'

/** A self-signed certificate for 127.0.0.1, made on the spot: servers in tests need one. */

const { createHash, generateKeyPairSync, sign } = require('node:crypto')

/**
 * Returns one piece of DER: a tag, the length of the contents, and the contents.
 *
 * @param {number} tag
 * @param {...Buffer} parts
 */
function piece(tag, ...parts) {
  const body = Buffer.concat(parts)
  const { length } = body
  const size = length < 128 ? [length] : [0x82, length >> 8, length & 255]
  return Buffer.concat([Buffer.from([tag, ...size]), body])
}

const sequence = (...parts) => piece(0x30, ...parts)
const integer = (...bytes) => piece(0x02, Buffer.from(bytes))
const oid = (...bytes) => piece(0x06, Buffer.from(bytes))
const time = (text) => piece(0x18, Buffer.from(text))

/** @returns {{ key: string, cert: string }} */
function makeCertificate() {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  const name = sequence(piece(0x31, sequence(oid(0x55, 4, 3), piece(0x0c, Buffer.from('cistern')))))
  const ecdsaWithSha256 = sequence(oid(0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2))
  // subjectAltName: the address 127.0.0.1.
  const address = sequence(piece(0x87, Buffer.from([127, 0, 0, 1])))
  const extensions = piece(0xa3, sequence(sequence(oid(0x55, 0x1d, 0x11), piece(0x04, address))))
  const content = sequence(
    piece(0xa0, integer(2)),
    integer(1, ...createHash('sha256').update(spki).digest().subarray(0, 8)),
    ecdsaWithSha256,
    name,
    sequence(time('20200101000000Z'), time('20991231235959Z')),
    name,
    spki,
    extensions
  )
  const signature = sign('sha256', content, privateKey)
  const der = sequence(content, ecdsaWithSha256, piece(0x03, Buffer.from([0]), signature))
  const lines = der.toString('base64').match(/.{1,64}/g) ?? []
  return {
    key: String(privateKey.export({ type: 'pkcs8', format: 'pem' })),
    cert: `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`
  }
}

module.exports = { makeCertificate }
