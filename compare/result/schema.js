'use strict'

const { OUTCOMES } = require('../analysis/verdict')

/** The version of the JSON that this program writes and reads. */
const SCHEMA = 1

/**
 * @param {unknown} result parsed JSON
 * @returns {object} the same, checked
 * @throws {Error} whose message completes "it is no result: …"
 */
function checkResult(result) {
  expect(isObject(result), 'it holds no object')
  expect(
    result.schema === SCHEMA,
    `its schema is ${JSON.stringify(result.schema)}, and this version reads ${SCHEMA}`
  )
  expect(isObject(result.meta), 'it has no meta')
  expect(Array.isArray(result.experiments), 'it has no experiments')
  result.experiments.forEach(checkExperiment)
  return result
}

function checkExperiment(experiment, index) {
  const place = `experiments[${index}]`
  expect(isObject(experiment), `${place} is no object`)
  expect(typeof experiment.name === 'string', `${place} has no name`)
  expect(typeof experiment.baseline === 'string', `${place} has no baseline`)
  expect(typeof experiment.verdict === 'string', `${place} has no verdict`)
  expect(OUTCOMES.includes(experiment.outcome), `${place} has no outcome`)
  expect(isListOf(experiment.arms, isObject), `${place} has no arms`)
  expect(isOptional(experiment.warnings, isString), `${place} has wrong warnings`)
  expect(isOptional(experiment.tuned, isHeat), `${place} has a wrong list of heats`)
  expect(isOptional(experiment.evidence, isTable), `${place} has wrong evidence`)
  expect(isAbsentOr(experiment.roles, isObject), `${place} has wrong roles`)
  expect(isAbsentOr(experiment.ratios, isRatioTable), `${place} has wrong ratios`)
  expect(isAbsentOr(experiment.control, isControl), `${place} has a wrong control`)
  experiment.arms.forEach((arm, position) => {
    checkArm(arm, `${place}.arms[${position}]`)
  })
}

function checkArm(arm, place) {
  expect(typeof arm.name === 'string', `${place} has no name`)
  expect(isListOf(arm.runs, isObject), `${place} has no runs`)
  expect(isObject(arm.median), `${place} has no median`)
  expect(
    Object.values(arm.median).every(Number.isFinite),
    `${place} has a median that is no number`
  )
  expect(isObject(arm.ratio), `${place} has no ratio`)
  expect(Object.values(arm.ratio).every(isRatio), `${place} has a wrong ratio`)
  arm.runs.forEach((run, position) => {
    checkRun(run, `${place}.runs[${position}]`)
  })
}

/** Checks the optional parts of a run, besides its metrics. */
function checkRun({ series, latency, pauses }, place) {
  expect(isAbsentOr(series, isSeries), `${place} has a wrong series`)
  expect(isAbsentOr(latency, isHistogram), `${place} has a wrong latency`)
  expect(isOptional(pauses, isPause), `${place} has wrong pauses`)
}

function isSeries(series) {
  return isObject(series) && Object.values(series).every(isNumbers) && isNumbers(series.atMs)
}

function isHistogram(latency) {
  return isObject(latency) && isNumbers(latency.edgesMs) && isNumbers(latency.counts)
}

function isPause(pause) {
  return isObject(pause) && Number.isFinite(pause.ms) && isString(pause.kind)
}

function isTable(table) {
  return (
    isObject(table) &&
    isString(table.title) &&
    isListOf(table.columns, isString) &&
    isListOf(table.rows, (row) => isListOf(row, isCell))
  )
}

function isRatioTable(ratios) {
  return (
    isObject(ratios) &&
    Object.values(ratios).every((table) => isObject(table) && Object.values(table).every(isRatio))
  )
}

function isControl(control) {
  return isObject(control) && isRatio(control.ratio)
}

function isRatio(ratio) {
  return isObject(ratio) && [ratio.value, ratio.low, ratio.high].every(Number.isFinite)
}

function isCell(value) {
  return isString(value) || Number.isFinite(value)
}

function isHeat(heat) {
  return isObject(heat) && isString(heat.settings)
}

function isString(value) {
  return typeof value === 'string'
}

function isOptional(list, isMember) {
  return isAbsentOr(list, (value) => isListOf(value, isMember))
}

function isAbsentOr(value, isRight) {
  return value === undefined || isRight(value)
}

function isNumbers(list) {
  return isListOf(list, Number.isFinite)
}

function isListOf(list, isMember) {
  return Array.isArray(list) && list.every(isMember)
}

function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function expect(condition, problem) {
  if (!condition) throw new Error(problem)
}

module.exports = { checkResult, SCHEMA }
