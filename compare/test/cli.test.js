'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { version } = require('../package.json')
const fixture = require('./fixtures/result')
const { runCli, temporaryFolder } = require('./run-cli')

test('--version prints the version, and --help all options', async () => {
  assert.deepEqual(await runCli(['--version']).then(({ code, stdout }) => [code, stdout]), [
    0,
    `${version}\n`
  ])
  const { code, stdout } = await runCli(['--help'])
  assert.equal(code, 0)
  const words = '--runs --duration --json --html --workload --heap --full list report transcript'
  for (const word of words.split(' ')) {
    assert.ok(stdout.includes(word), word)
  }
})

test('list prints experiments and arms', async () => {
  const { code, stdout } = await runCli(['list'])
  assert.equal(code, 0)
  for (const name of [
    'http-buffers',
    '100x1MiB',
    'proxy',
    'file-serving',
    '8MiB-200',
    'go-put',
    'v8-allocUnsafe',
    'pool-safe'
  ]) {
    assert.ok(stdout.includes(name), name)
  }
})

test('a wrong command line is rejected with a sentence and exit code 2', async (context) => {
  const folder = temporaryFolder(context)
  const cases = [
    [
      ['unheard-of'],
      /'unheard-of' is unknown\. There are: http-buffers, file-serving, byte-buffer, proxy\./
    ],
    [['--html', folder], /Can't write '.*': it is a folder\./],
    [['--html', 'proxy'], /--html takes 'proxy' for its file/],
    [['--json', 'same', '--html', './same'], /--json and --html name the same file/],
    [['report', 'x.json', '--runs', '3'], /unknown option '--runs'/],
    [['--workload'], /argument missing/],
    [['--workload', 'nowhere.js'], /Can't read the workload 'nowhere\.js': there is no such file/],
    [['--workload', folder], /there is no such file/],
    [['--bogus'], /unknown option '--bogus'/],
    [['--runs', '0'], /'0' is invalid\. It must be a whole number from 1 to 1000/],
    [['--runs', '1.5'], /'1\.5' is invalid/],
    [['--runs', 'many'], /'many' is invalid/],
    [['--runs'], /argument missing/],
    [['--heap', '-1'], /'-1' is invalid\. It must be a whole number of MiB from 0 to 1024/],
    [['--heap', '1.5'], /'1\.5' is invalid/],
    [['--heap', '1025'], /'1025' is invalid/],
    [['--duration', '0'], /'0' is invalid\. It must be seconds from 0\.1 to 600/],
    [['--duration', '1e9'], /'1e9' is invalid/],
    [['--duration=-1'], /'-1' is invalid/],
    [['--json', folder], /Can't write '.*': it is a folder\./],
    [['--json', path.join(folder, 'no', 'file')], /there is no such file or folder\./],
    [['transcript', 'none'], /The arm 'none' is unknown\. There are: v8-alloc, /],
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

test('a wrong workload gets an error that says what is missing', async (context) => {
  const folder = temporaryFolder(context)
  const cases = [
    ['module.exports = 5', /is no workload: it exports no object/],
    ['', /exports neither serve\(memory, request, response\), .* nor run\(memory\)/],
    ['exports.serve = exports.run = () => {}', /exports both serve and run: choose one/],
    ['exports.run = 5', /its run is no function/],
    ['exports.run = () => {}', /exports no maxSize, the size of its largest Buffer in bytes/],
    ['exports.run = () => {}; exports.maxSize = 0.5', /maxSize must be .* and is 0\.5/],
    ['exports.run = () => {}; exports.maxSize = 1; exports.title = 1', /title is no string/],
    ['throw new Error("mine")', /can't be loaded\. Error: mine/],
    ['this is no JavaScript', /can't be loaded\. .*SyntaxError/s]
  ]
  for (const [index, [code, message]] of cases.entries()) {
    const file = path.join(folder, `${index}.js`)
    fs.writeFileSync(file, code)
    const { code: exitCode, stdout, stderr } = await runCli(['--workload', file])
    assert.equal(exitCode, 2, code)
    assert.match(stderr, message)
    assert.equal(stdout, '')
  }
})

test('transcript prints the memory before and after each of 100 Buffers', async () => {
  for (const args of [[], ['pool-safe']]) {
    const { code, stdout, stderr } = await runCli(['transcript', ...args])
    assert.equal(code, 0, stderr)
    assert.match(stdout, /^------------- new Buffer 0\nfree [\d.]+ MB, resident [\d.]+ MB\n/)
    assert.equal(stdout.match(/after new 1MiB buffer/g).length, 100)
  }
})

test('report prints a saved result', async (context) => {
  const file = path.join(temporaryFolder(context), 'result.json')
  fs.writeFileSync(file, JSON.stringify(fixture()))
  const { code, stdout } = await runCli(['report', file])
  assert.equal(code, 0)
  assert.match(stdout, /Verdict: Pooling pays here\./)
})

test('report rejects a file that is no result', async (context) => {
  const file = path.join(temporaryFolder(context), 'result.json')
  for (const text of ['', '{', '{}', '[]', '{"schema": 2}']) {
    fs.writeFileSync(file, text)
    const { code, stderr } = await runCli(['report', file])
    assert.equal(code, 2, text)
    assert.match(stderr, /^error: '.*' is no result of cistern-compare: /)
  }
})
