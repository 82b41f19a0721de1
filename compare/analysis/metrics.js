'use strict'

/**
 * What is measured in each run, under its name in the JSON. Totals and peaks are over the measured
 * window; the server's own window and the client's differ by the time a message takes.
 */
const METRICS = [
  /** Replies with status 200 per second, counted by the load client. */
  'requestsPerSecond',
  /** Of a plain loop, which serves no requests. */
  'nsPerOperation',
  /** Bytes of Buffers that were taken, filled and let go per second. Not bytes on the wire. */
  'bytesPerSecond',
  'latencyP50Ms',
  'latencyP99Ms',
  /** Resident memory of the server process. */
  'rssMeanBytes',
  'rssPeakBytes',
  /** The same, with what is shared with other processes divided among them, when the window closes. */
  'pssBytes',
  /** Memory outside the heap that V8 knows of. */
  'externalPeakBytes',
  /** V8's heap in use. */
  'heapPeakBytes',
  /** Collections of any kind, and the time in which they held up the server. */
  'gcCount',
  'gcTimeMs',
  'gcMaxPauseMs',
  /** Processor time of the server, all of its threads, per request. */
  'cpuMicrosPerRequest',
  'cpuUserMicrosPerRequest',
  'cpuSystemMicrosPerRequest',
  /** How late the server's event loop came round to its timers. */
  'eventLoopDelayP50Ms',
  'eventLoopDelayP99Ms',
  /** By the scheduler, wanted or not. */
  'contextSwitches',
  /** First touches of pages that the kernel had to supply. */
  'minorPageFaults',
  /** Bytes of Buffers handed out. */
  'allocBytes',
  /** Bytes not yet back when the window closes: leases of a pool, ArrayBuffers of V8. */
  'inUseBytes',
  /** Requests that failed: another status, a short reply, a lost connection. */
  'errors',
  /** Processor time over wall time: 1 is one core. */
  'clientCpuShare',
  'serverCpuShare',
  /** What the server's own sampling of its memory took. */
  'samplingShare'
]

module.exports = { METRICS }
