'use strict'

const { createHash } = require('node:crypto')
const fs = require('node:fs')
const path = require('node:path')
const { html, json, trusted } = require('./markup')
const { pageScript, plotLibrary } = require('./script')

const STYLE = path.join(__dirname, 'style')

/**
 * Makes a page that needs no other file. Its policy forbids the network, and any script but its
 * own.
 *
 * @param {object} parts
 * @param {string} parts.title
 * @param {import('./markup').Markup} parts.body
 * @param {Record<string, unknown>} parts.data by the id of the element that holds it
 * @returns {string}
 */
function page({ title, body, data }) {
  const library = plotLibrary()
  const scripts = [library.script, pageScript()]
  const style = [library.style, ...styleSheets()].join('\n')
  const policy = `default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src ${scripts.map(hashOf).join(' ')}`
  return String(html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
<link rel="icon" href="data:,">
<style>
${trusted(style)}
</style>
</head>
<body>
${body}
${Object.entries(data).map(([id, value]) => html`<script type="application/json" id="${id}">${json(value)}</script>\n`)}
${scripts.map((script) => html`<script>${trusted(script)}</script>\n`)}
</body>
</html>
`)
}

function styleSheets() {
  return fs
    .readdirSync(STYLE)
    .sort()
    .map((file) => fs.readFileSync(path.join(STYLE, file), 'utf8'))
}

function hashOf(script) {
  return `'sha256-${createHash('sha256').update(script).digest('base64')}'`
}

module.exports = { page }
