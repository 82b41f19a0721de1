'use strict'

/** Lets the reader save the data that the page carries. */
function offerDownload() {
  const link = document.getElementById('download')
  const text = JSON.stringify(JSON.parse(document.getElementById('result').textContent), null, 2)
  link.href = URL.createObjectURL(new Blob([`${text}\n`], { type: 'application/json' }))
  link.hidden = false
}

module.exports = { offerDownload }
