'use strict'

const fs = require('node:fs')
const path = require('node:path')

const FOLDER = path.join(__dirname, 'browser')

/**
 * Returns the page's script: the files of `browser/` in one text, with a `require` that finds them.
 *
 * @returns {string}
 */
function pageScript() {
  const files = fs
    .readdirSync(FOLDER)
    .sort()
    .map((file) => `'./${path.parse(file).name}'(module, require) {\n${read(file)}}`)
  return `(() => {
const files = {${files.join(',\n')}}
const loaded = {}
function require(name) {
  if (!loaded[name]) {
    loaded[name] = { exports: {} }
    files[name](loaded[name], require)
  }
  return loaded[name].exports
}
require('./main')
})()`
}

function read(file) {
  return fs.readFileSync(path.join(FOLDER, file), 'utf8')
}

/** Returns uPlot as its package ships it for pages. */
function plotLibrary() {
  const file = require.resolve('uplot/dist/uPlot.iife.min.js')
  const { version, license } = require('uplot/package.json')
  return {
    script: `/*! uPlot ${version}, ${license} license, Copyright (c) Leon Sorokin */\n${fs.readFileSync(file, 'utf8')}`,
    style: fs.readFileSync(require.resolve('uplot/dist/uPlot.min.css'), 'utf8')
  }
}

module.exports = { pageScript, plotLibrary }
