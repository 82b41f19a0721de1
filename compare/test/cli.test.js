'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { version } = require('../package.json')
const fixture = require('./fixtures/result')
const { runCli, temporaryFolder } = require('./run-cli')

test('--version tells the version and --help all options', async () => {
  assert.deepEqual(await runCli(['--version']).then(({ code, stdout }) => [code, stdout]), [
    0,
    `${version}\n`
  ])
  const { code, stdout } = await runCli(['--help'])
  assert.equal(code, 0)
  for (const word of ['--runs', '--duration', '--json', '--full', 'list', 'report']) {
    assert.ok(stdout.includes(word), word)
  }
})

test('list tells experiments and arms', async () => {
  const { code, stdout } = await runCli(['list'])
  assert.equal(code, 0)
  for (const name of ['http-buffers', '100x1MiB', 'proxy', 'v8-allocUnsafe', 'pool-safe']) {
    assert.ok(stdout.includes(name), name)
  }
})

test('a wrong command line is refused with a sentence and exit code 2', async (context) => {
  const folder = temporaryFolder(context)
  const cases = [
    [['unheard-of'], /'unheard-of' is unknown\. There are: http-buffers, proxy\./],
    [['file-serving'], /'file-serving' is not built yet\./],
    [['byte-buffer'], /'byte-buffer' is not built yet\./],
    [['proxy', '--html', 'x.html'], /--html is not built yet\./],
    [['--workload=x.js'], /--workload is not built yet\./],
    [['--bogus'], /unknown option '--bogus'/],
    [['--runs', '0'], /'0' is invalid\. It must be a whole number from 1 to 1000/],
    [['--runs', '1.5'], /'1\.5' is invalid/],
    [['--runs', 'many'], /'many' is invalid/],
    [['--runs'], /argument missing/],
    [['--duration', '0'], /'0' is invalid\. It must be seconds from 0\.1 to 600/],
    [['--duration', '1e9'], /'1e9' is invalid/],
    [['--duration=-1'], /'-1' is invalid/],
    [['--json', folder], /Can't write '.*': it is a folder\./],
    [['--json', path.join(folder, 'no', 'file')], /there is no such file or folder\./],
    [['report'], /missing required argument 'FILE'/],
    [['report', path.join(folder, 'none.json')], /Can't read '.*none\.json': there is no such file/]
  ]
  for (const [args, message] of cases) {
    const { code, stdout, stderr } = await runCli(args)
    assert.equal(code, 2, args.join(' '))
    assert.match(stderr, message)
    assert.doesNotMatch(stderr, /^ {4}at /m, 'a stack trace')
    assert.equal(stdout, '')
  }
})

test('report draws a saved result', async (context) => {
  const file = path.join(temporaryFolder(context), 'result.json')
  fs.writeFileSync(file, JSON.stringify(fixture()))
  const { code, stdout } = await runCli(['report', file])
  assert.equal(code, 0)
  assert.match(stdout, /Verdict: Pooling pays here\./)
})

test('report refuses what is no result', async (context) => {
  const file = path.join(temporaryFolder(context), 'result.json')
  for (const text of ['', '{', '{}', '[]', '{"schema": 2}']) {
    fs.writeFileSync(file, text)
    const { code, stderr } = await runCli(['report', file])
    assert.equal(code, 2, text)
    assert.match(stderr, /^error: '.*' is no result of cistern-compare: /)
  }
})
