'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { pathToFileURL } = require('node:url')
const { chromium } = require('playwright-core')

/** Debian and its derivatives install it here. */
const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']

const ARGUMENTS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync'
]

/** @returns {string | undefined} the program that `CHROMIUM` names, or else an installed one */
function findChromium() {
  return [process.env.CHROMIUM, ...PLACES].find((file) => file && fs.existsSync(file))
}

/** Opens one page in a browser. */
class Reader {
  #browser
  #file

  /**
   * @param {string} html
   * @param {string} folder that receives the page
   */
  static async open(html, folder) {
    const reader = new Reader()
    reader.#file = path.join(folder, 'report.html')
    fs.writeFileSync(reader.#file, html)
    reader.#browser = await chromium.launch({ executablePath: findChromium(), args: ARGUMENTS })
    return reader
  }

  /**
   * @param {import('playwright-core').BrowserContextOptions} [options]
   * @returns {Promise<{ page: import('playwright-core').Page, troubles: string[] }>} `troubles`
   *   holds all errors, and all requests except the one for the page
   */
  async visit(options) {
    const context = await this.#browser.newContext(options)
    const page = await context.newPage()
    const troubles = []
    const url = pathToFileURL(this.#file).href
    page.on('console', (message) => troubles.push(`console: ${message.text()}`))
    page.on('pageerror', (error) => troubles.push(`error: ${error.message}`))
    page.on('request', (request) => {
      if (request.url() !== url && !/^(data|blob):/.test(request.url())) {
        troubles.push(`request: ${request.url()}`)
      }
    })
    await page.goto(url)
    return { page, troubles }
  }

  close() {
    return this.#browser.close()
  }
}

module.exports = { findChromium, Reader }
