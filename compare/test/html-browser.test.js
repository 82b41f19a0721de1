'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { after, before, describe, test } = require('node:test')
const { htmlReport } = require('../report/html')
const { plotsOf } = require('../report/html/plots')
const { anchorOf } = require('../report/html/title')
const { findChromium, Reader } = require('../browser')
const measured = require('./fixtures/measured-result')

const skip = findChromium() ? false : 'there is no chromium here (apt install chromium)'

const WIDTHS = [1280, 390]

describe('the page in a browser', { skip }, () => {
  let folder
  let reader

  before(async () => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-compare-'))
    reader = await Reader.open(htmlReport(measured()), folder)
  })

  after(async () => {
    await reader?.close()
    fs.rmSync(folder, { recursive: true })
  })

  async function visit(context, options) {
    const { page, troubles } = await reader.visit(options)
    context.after(() => page.context().close())
    return { page, troubles }
  }

  test('it loads without an error and without a request', async (context) => {
    const { page, troubles } = await visit(context)
    await page.mouse.wheel(0, 20_000)
    assert.deepEqual(troubles, [])
    assert.equal(await page.locator('h1').count(), 1)
  })

  test('its own policy keeps foreign scripts and the network away', async (context) => {
    const { page, troubles } = await visit(context)
    const outcome = await page.evaluate(async () => {
      const script = document.createElement('script')
      script.textContent = 'window.foreign = true'
      document.body.append(script)
      const fetched = await fetch('https://example.com/').then(
        () => true,
        () => false
      )
      return { foreign: window.foreign === true, fetched }
    })
    assert.deepEqual(outcome, { foreign: false, fetched: false })
    assert.ok(troubles.some((trouble) => trouble.includes('Content Security Policy')))
  })

  test('each plot has its series, and as many colours', async (context) => {
    const { page } = await visit(context)
    const drawn = await page.evaluate(() => {
      const coloursOn = (canvas) => {
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
        const colours = new Set()
        for (let at = 0; at < data.length; at += 4) {
          if (data[at + 3] === 255) colours.add(`${data[at]},${data[at + 1]},${data[at + 2]}`)
        }
        return colours.size
      }
      return [...window.cisternPlots].map(([id, chart]) => ({
        id,
        arms: chart.series.slice(1).map(({ label }) => label),
        lengths: chart.data.map((values) => values.length),
        colours: coloursOn(chart.ctx.canvas)
      }))
    })
    const expected = measured().experiments.flatMap((experiment, index) =>
      plotsOf(experiment, anchorOf(index))
    )
    assert.deepEqual(
      drawn.map(({ id, arms }) => ({ id, arms })),
      expected.map(({ id, arms }) => ({ id, arms }))
    )
    for (const { id, arms, lengths, colours } of drawn) {
      assert.equal(new Set(lengths).size, 1, id)
      assert.ok(colours >= arms.length, `${id} has ${colours} colours`)
    }
  })

  test('the cursor shows the values of all arms', async (context) => {
    const { page } = await visit(context)
    for (const kind of ['memory', 'latency', 'pauses']) {
      const figure = page.locator(`#experiment-1-${kind}`)
      assert.equal((await figure.locator('.place').textContent()).trim(), '')
      await figure.locator('.u-over').hover({ position: { x: 60, y: 60 } })
      assert.match(await figure.locator('.place').textContent(), /^at \d|% of the replies|longest/)
      const values = await figure.locator('output').allTextContents()
      assert.equal(values.length, 7)
      for (const value of values) assert.match(value, /^[\d.,]+ (MB|ms)$/)
    }
  })

  test('a legend hides and shows its line', async (context) => {
    const { page } = await visit(context)
    const shown = () =>
      page.evaluate(() => window.cisternPlots.get('experiment-1-memory').series[1].show)
    const key = page.locator('#experiment-1-memory .legend button').first()
    await key.click()
    assert.deepEqual([await shown(), await key.getAttribute('aria-pressed')], [false, 'false'])
    await key.press('Enter')
    assert.deepEqual([await shown(), await key.getAttribute('aria-pressed')], [true, 'true'])
  })

  test('another kind of memory can be chosen', async (context) => {
    const { page } = await visit(context)
    const highest = () =>
      page.evaluate(() => Math.max(...window.cisternPlots.get('experiment-1-memory').data[1]))
    const resident = await highest()
    await page.getByRole('button', { name: 'Heap' }).first().click()
    assert.ok((await highest()) < resident / 4)
  })

  test('the arrow keys read a plot that has the focus', async (context) => {
    const { page } = await visit(context)
    const figure = page.locator('#experiment-1-latency')
    const place = figure.locator('.place')
    await figure.locator('.canvas').focus()
    const told = []
    for (const key of ['ArrowRight', 'ArrowRight', 'End', 'ArrowLeft', 'Shift+ArrowLeft', 'Home']) {
      await page.keyboard.press(key)
      told.push(await place.textContent())
    }
    assert.equal(new Set(told).size, 5, told.join('\n'))
    assert.equal(told[0], told[5])
    assert.match(
      await figure.locator('[aria-live]').textContent(),
      /^0 % of the replies within: v8-alloc [\d.]+ ms, v8-allocUnsafe /
    )
    await page.keyboard.press('Escape')
    assert.equal((await place.textContent()).trim(), '')
  })

  test('the keyboard reaches the verdicts, the raw numbers and the data', async (context) => {
    const { page } = await visit(context)
    await page.keyboard.press('Tab')
    assert.equal(
      await page.evaluate(() => document.activeElement.textContent),
      'Skip to the verdicts'
    )
    await page.keyboard.press('Enter')
    assert.equal(new URL(page.url()).hash, '#verdicts')
    const details = page.locator('#experiment-1 .raw')
    await details.locator('summary').press('Enter')
    assert.ok(await details.locator('table').isVisible())
    const [download] = await Promise.all([
      page.waitForEvent('download'),
      page.locator('#download').press('Enter')
    ])
    assert.equal(download.suggestedFilename(), 'cistern-compare.json')
    const saved = JSON.parse(fs.readFileSync(await download.path(), 'utf8'))
    assert.deepEqual(saved, measured())
  })

  for (const width of WIDTHS) {
    test(`nothing overlaps or sticks out, ${width} wide`, async (context) => {
      const { page } = await visit(context, { viewport: { width, height: 800 } })
      for (const summary of await page.locator('summary').all()) await summary.click()
      assert.deepEqual(await page.evaluate(findFaults), [])
    })
  }

  test('the plots take the width that a turned phone gives them', async (context) => {
    const { page } = await visit(context, { viewport: { width: 390, height: 800 } })
    const widthOf = () => page.evaluate(() => window.cisternPlots.get('experiment-1-memory').width)
    const narrow = await widthOf()
    await page.setViewportSize({ width: 800, height: 390 })
    await page.waitForFunction(
      (before) => window.cisternPlots.get('experiment-1-memory').width > before,
      narrow
    )
    assert.deepEqual(await page.evaluate(findFaults), [])
  })

  test('dark mode and print have their own colours', async (context) => {
    const { page, troubles } = await visit(context, { colorScheme: 'light' })
    const look = () =>
      page.evaluate(async () => {
        const chart = window.cisternPlots.get('experiment-1-memory')
        // The canvas is drawn in the frame after the colours have changed.
        for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame)
        return {
          ground: getComputedStyle(document.body).backgroundColor,
          line: chart.series[1].stroke(),
          pixels: chart.ctx.canvas.toDataURL()
        }
      })
    const light = await look()
    await page.emulateMedia({ colorScheme: 'dark' })
    const dark = await look()
    for (const part of ['ground', 'line', 'pixels']) {
      assert.ok(dark[part] !== light[part], `the ${part} did not change`)
    }
    await page.emulateMedia({ colorScheme: 'dark', media: 'print' })
    const paper = await look()
    assert.equal(paper.ground, light.ground)
    assert.equal(paper.line, light.line)
    assert.equal(await page.locator('.contents').isVisible(), false)
    assert.ok((await page.pdf({ format: 'A4' })).length > 0)
    assert.deepEqual(troubles, [])
  })

  test('text can be read on its ground, light and dark', async (context) => {
    const { page } = await visit(context)
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme })
      assert.deepEqual(await page.evaluate(findFaintText), [], colorScheme)
    }
  })
})

/** Runs in the page. Returns elements that overflow it, and neighbours that overlap. */
function findFaults() {
  const faults = []
  if (document.documentElement.scrollWidth > window.innerWidth) {
    faults.push(`the page is ${document.documentElement.scrollWidth} wide`)
  }
  const visible = (element) => {
    const { width, height } = element.getBoundingClientRect()
    return width > 1 && height > 1 && !element.matches('.unseen, .skip, script, br')
  }
  const tell = (element) =>
    `${element.localName}.${element.className} '${element.textContent.trim().slice(0, 30)}'`
  const parents =
    'body, main, section, header, figure, li, dl, ul, .plots, .panels, .verdict, .canvas'
  for (const parent of document.querySelectorAll(parents)) {
    const boxes = [...parent.children]
      .filter(visible)
      .map((element) => ({ element, box: element.getBoundingClientRect() }))
    boxes.forEach(({ element, box }, index) => {
      if (box.left < -0.5 || box.right > window.innerWidth + 0.5) {
        faults.push(`${tell(element)} sticks out`)
      }
      for (const { element: other, box: next } of boxes.slice(index + 1)) {
        const across = Math.min(box.right, next.right) - Math.max(box.left, next.left)
        const down = Math.min(box.bottom, next.bottom) - Math.max(box.top, next.top)
        if (across > 0.5 && down > 0.5) faults.push(`${tell(element)} lies on ${tell(other)}`)
      }
    })
  }
  return faults
}

/** Runs in the page. Returns text with less contrast than WCAG AA requires. */
function findFaintText() {
  const parse = (colour) => colour.match(/[\d.]+/g).map(Number)
  const luminance = (colour) => {
    const [red, green, blue] = parse(colour)
      .slice(0, 3)
      .map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
  }
  const groundOf = (element) => {
    const { backgroundColor } = getComputedStyle(element)
    return parse(backgroundColor)[3] === 0 ? groundOf(element.parentElement) : backgroundColor
  }
  const faint = new Set()
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(
      (node) => node.nodeType === Node.TEXT_NODE && node.data.trim() !== ''
    )
    if (!own || !element.checkVisibility() || element.matches('script, noscript *')) continue
    const [light, dark] = [getComputedStyle(element).color, groundOf(element)]
      .map(luminance)
      .sort((one, other) => other - one)
    const contrast = (light + 0.05) / (dark + 0.05)
    if (contrast < 4.5) faint.add(`${element.localName}.${element.className}: ${contrast}`)
  }
  return [...faint]
}
