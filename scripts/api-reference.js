'use strict'

/**
 * Writes the API reference from the types and their comments, which are its only source.
 *
 * TypeDoc with typedoc-plugin-markdown is no replacement: it writes a page per entry, names no
 * arguments in its headings, and omits the type of each `@throws`, which gets a heading of its own.
 */

const { readFileSync } = require('node:fs')
const path = require('node:path')
const ts = require('typescript')
const { anchors } = require('./markdown')
const { root } = require('./project')

/**
 * @import { ClassDeclaration, ClassElement, Declaration, InterfaceDeclaration, Node, NodeArray,
 *   ParameterDeclaration, SignatureDeclaration, TypeAliasDeclaration, TypeElement,
 *   VariableStatement } from 'typescript'
 */

const printer = ts.createPrinter({ removeComments: true })
/** The entries of the package, with their types. */
const ENTRIES = [
  { name: 'cistern', types: 'index.d.ts' },
  { name: 'cistern/io', types: 'lib/io/index.d.ts' },
  { name: 'cistern/metrics', types: 'lib/metrics/index.d.ts' }
]

/**
 * The types that have a heading for each member, with the name of an instance. All others have a
 * table.
 *
 * @type {Record<string, string>}
 */
const RECEIVERS = { BufferPool: 'pool', ByteBuffer: 'bytes' }

const HEAD = `# API reference

<!-- Written by \`npm run docs\` from index.d.ts, lib/io/index.d.ts and lib/metrics/index.d.ts: change those. -->

Every call and type of the package, with the errors of each call. The [guide](guide.md) shows how to use them,
[errors.md](errors.md) lists all error codes, and [metrics.md](metrics.md) the series and alerts of \`cistern/metrics\`.
`

/**
 * One heading of the reference with the text below it.
 *
 * @typedef {object} Section
 * @property {string} name the target of links in comments
 * @property {number} depth
 * @property {string} heading
 * @property {string} body with links still as `{@link name}`
 */

/** Returns the whole reference as Markdown. */
function reference() {
  const sections = ENTRIES.flatMap(({ name, types }) => [
    { name, depth: 2, heading: `\`${name}\``, body: '' },
    ...sectionsOf(types)
  ])
  const anchor = anchors()
  anchor('API reference')
  const targets = new Map(sections.map(({ name, heading }) => [name, anchor(heading)]))
  const contents = sections
    .filter(({ depth }) => depth < 4)
    .map(
      ({ name, depth, heading }) =>
        `${'  '.repeat(depth - 2)}- [${heading}](#${targets.get(name)})\n`
    )
  const parts = sections.map((section) => {
    const head = `${'#'.repeat(section.depth)} ${section.heading}\n`
    return section.body === '' ? head : `${head}\n${linked(section, targets)}\n`
  })
  return `${HEAD}\n${contents.join('')}\n${parts.join('\n')}`
}

/**
 * Returns a section's text with its links. A name without a class refers to a member of the
 * section's class.
 *
 * @param {Section} section
 * @param {Map<string, string>} targets
 */
function linked({ name, body }, targets) {
  const owner = name.split('.')[0]
  return body.replace(/\{@link ([\w.]+)\}/g, (_, target) => {
    const anchor = targets.get(target) ?? targets.get(`${owner}.${target}`)
    if (anchor === undefined) throw new Error(`${name} links to ${target}, which is not there`)
    return `[\`${target}\`](#${anchor})`
  })
}

/**
 * @param {string} types
 * @returns {Section[]}
 */
function sectionsOf(types) {
  const text = readFileSync(path.join(root, types), 'utf8')
  const source = ts.createSourceFile(types, text, ts.ScriptTarget.Latest, true)
  return source.statements.flatMap((statement) => {
    if (ts.isClassDeclaration(statement)) return classSections(statement)
    if (ts.isInterfaceDeclaration(statement)) return interfaceSections(statement)
    if (ts.isFunctionDeclaration(statement)) return [callSection(statement, 3, '')]
    if (ts.isTypeAliasDeclaration(statement)) return [typeSection(statement)]
    if (ts.isVariableStatement(statement)) return [valueSection(statement)]
    if (ts.isImportDeclaration(statement)) return []
    throw new Error(`${types}: ${ts.SyntaxKind[statement.kind]} is not in the reference yet`)
  })
}

/**
 * @param {ClassDeclaration | InterfaceDeclaration} declaration
 * @returns {Section[]}
 */
function classSections(declaration) {
  const name = nameOf(declaration)
  const heading = ts.isClassDeclaration(declaration) ? `class \`${name}\`` : `\`${name}\``
  const members = [...declaration.members].map((member) =>
    ts.isConstructorDeclaration(member) ||
    ts.isMethodDeclaration(member) ||
    ts.isMethodSignature(member)
      ? callSection(member, 4, name)
      : propertySection(member, name)
  )
  return [{ name, depth: 3, heading, body: described(declaration) }, ...members]
}

/**
 * @param {InterfaceDeclaration} declaration
 * @returns {Section[]}
 */
function interfaceSections(declaration) {
  const name = nameOf(declaration)
  if (Object.hasOwn(RECEIVERS, name)) return classSections(declaration)
  const parents = (declaration.heritageClauses ?? []).flatMap(({ types }) =>
    types.map((type) => `Has all of {@link ${type.getText()}}, and:`)
  )
  const rows = declaration.members.map((member) => {
    if (described(member) === '') throw new Error(`${name}.${nameOf(member)} has no comment`)
    const cells = [code(memberName(member)), code(typeOf(member)), described(member)]
    return `| ${cells.map(cell).join(' | ')} |`
  })
  const table = ['| member | type | |', '|---|---|---|', ...rows].join('\n')
  const body = paragraphs(described(declaration), ...parents, table)
  return [{ name, depth: 3, heading: `\`${name}\``, body }]
}

/**
 * @param {SignatureDeclaration} declaration
 * @param {number} depth
 * @param {string} owner the class of the call, or ''
 * @returns {Section}
 */
function callSection(declaration, depth, owner) {
  const isNew = ts.isConstructorDeclaration(declaration)
  const own = isNew ? 'constructor' : nameOf(declaration)
  const called = isNew ? `new ${owner}` : calledOf(declaration, owner)
  const result = declaration.type === undefined ? '' : `: ${flat(declaration.type)}`
  const generics = (declaration.typeParameters ?? []).map(flat).join(', ')
  const parameters = declaration.parameters.map(flat).join(', ')
  const signature = `${called}${generics && `<${generics}>`}(${parameters})${result}`
  return {
    name: owner === '' ? own : `${owner}.${own}`,
    depth,
    heading: `\`${called}(${argumentNames(declaration.parameters)})\``,
    body: paragraphs(code(signature), described(declaration), tagsOf(declaration))
  }
}

/**
 * @param {ClassElement | TypeElement} member
 * @param {string} owner
 * @returns {Section}
 */
function propertySection(member, owner) {
  const called = calledOf(member, owner)
  return {
    name: `${owner}.${nameOf(member)}`,
    depth: 4,
    heading: `\`${called}\``,
    body: paragraphs(code(`${called}: ${typeOf(member)}`), described(member), tagsOf(member))
  }
}

/**
 * @param {TypeAliasDeclaration} declaration
 * @returns {Section}
 */
function typeSection(declaration) {
  const name = nameOf(declaration)
  const body = paragraphs(code(`type ${name} = ${flat(declaration.type)}`), described(declaration))
  return { name, depth: 3, heading: `\`${name}\``, body }
}

/**
 * @param {VariableStatement} statement
 * @returns {Section}
 */
function valueSection(statement) {
  const [declaration] = statement.declarationList.declarations
  const name = declaration.name.getText()
  const body = paragraphs(code(declaration.getText()), described(statement))
  return { name, depth: 3, heading: `\`${name}\``, body }
}

/**
 * Returns a comment's text, without its tags.
 *
 * @param {Node} node
 */
function described(node) {
  const comment = commentOf(node)?.comment
  return ts.getTextOfJSDocComment(comment)?.trim() ?? ''
}

/**
 * Returns a comment's tags as a list.
 *
 * @param {Node} node
 */
function tagsOf(node) {
  const lines = (commentOf(node)?.tags ?? []).map((tag) => {
    const text = (ts.getTextOfJSDocComment(tag.comment) ?? '').trim().replace(/\s*\n\s*/g, ' ')
    if (ts.isJSDocParameterTag(tag)) return `- ${code(tag.name.getText())}: ${text}`
    if (ts.isJSDocReturnTag(tag)) return `- returns: ${text}`
    if (ts.isJSDocThrowsTag(tag)) {
      const type = tag.typeExpression?.type.getText()
      return type === undefined ? `- throws ${text}` : `- throws ${code(type)}: ${text}`
    }
    throw new Error(`@${tag.tagName.text} is not in the reference yet`)
  })
  return lines.join('\n').replace(/\{(\w+Error)\}/g, '`$1`:')
}

/**
 * Returns a node's own comment, which is the last one before it.
 *
 * @param {Node} node
 */
function commentOf(node) {
  const comments = ts.getJSDocCommentsAndTags(node).filter(ts.isJSDoc)
  return comments.at(-1)
}

/**
 * Returns the expression that calls a function or reads a member.
 *
 * @param {Declaration} declaration
 * @param {string} owner the class of the member, or ''
 */
function calledOf(declaration, owner) {
  const name = nameOf(declaration)
  if (owner === '') return name
  const isStatic = ts.getCombinedModifierFlags(declaration) & ts.ModifierFlags.Static
  const receiver = isStatic ? owner : RECEIVERS[owner]
  return name.startsWith('[') ? `${receiver}${name}` : `${receiver}.${name}`
}

/** @param {Declaration & { name?: Node }} declaration */
function nameOf(declaration) {
  if (declaration.name === undefined) throw new Error('An export without a name')
  return declaration.name.getText()
}

/** @param {TypeElement} member */
function memberName(member) {
  const name = nameOf(member)
  if (ts.isMethodSignature(member)) return `${name}(${argumentNames(member.parameters)})`
  return member.questionToken === undefined ? name : `${name}?`
}

/**
 * Returns the type of a member, or of the result of its call.
 *
 * @param {Node} member
 */
function typeOf(member) {
  const { type } = /** @type {{ type?: Node }} */ (/** @type {unknown} */ (member))
  // The question mark already says that an option may be `undefined`.
  return type === undefined ? '' : flat(type).replace(/ \| undefined$/, '')
}

/** @param {NodeArray<ParameterDeclaration>} parameters */
function argumentNames(parameters) {
  return parameters
    .map(({ name, questionToken }) => `${name.getText()}${questionToken ? '?' : ''}`)
    .join(', ')
}

/**
 * Returns a node's text on one line, without its comments.
 *
 * @param {Node} node
 */
function flat(node) {
  const text = printer.printNode(ts.EmitHint.Unspecified, node, node.getSourceFile())
  return text.replace(/\s+/g, ' ').replaceAll('; }', ' }').trim()
}

/** @param {string} text */
function code(text) {
  return text === '' ? '' : `\`${text}\``
}

/** @param {string} text */
function cell(text) {
  return text.replace(/\s*\n\s*/g, ' ').replaceAll('|', '\\|')
}

/** @param {string[]} parts */
function paragraphs(...parts) {
  return parts.filter((part) => part !== '').join('\n\n')
}

module.exports = { reference }
