// The runner: node run.mjs --w W1,W5 --reps 3 --sides js,warren --out results.jsonl
// README.md defines the workloads and how a side plugs in.
import { execFileSync } from 'child_process'
import os from 'os'
import * as flags from './runner/flags.mjs'
import * as connections from './runner/connections.mjs'
import * as fair from './runner/fair.mjs'
import * as datagrams from './runner/datagrams.mjs'
import { write } from './runner/measure.mjs'

const all = { ...datagrams, ...connections, ...fair }
for (const w of flags.workloads) {
  if (!all[w]) {
    console.error(`no workload ${w}; there are ${Object.keys(all).join(', ')}`)
    process.exit(2)
  }
}
write({
  machine: {
    cpus: os.cpus().length,
    model: os.cpus()[0].model,
    mem_gb: +(os.totalmem() / 2 ** 30).toFixed(1),
    kernel: os.release(),
    node: process.version,
    go: execFileSync('go', ['version']).toString().trim()
  },
  args: process.argv.slice(2).join(' '),
  at: new Date().toISOString()
})
let failed = false
for (let rep = 0; rep < flags.reps; rep++) {
  for (const w of flags.workloads) {
    try {
      await all[w](rep)
    } catch (err) { // a server did not start: the other workloads go on
      console.error(`${w}: ${err.message}`)
      failed = true
    }
  }
}
process.exit(failed ? 1 : 0)
