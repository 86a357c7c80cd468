// One measurement: wait until the machine is quiet, run, and write down the
// result with how busy others were around it.
import { appendFileSync, readFileSync, readdirSync } from 'fs'
import os from 'os'
import { only, out } from './flags.mjs'

const QUIET = 0.12 // cores that others may use
const PATIENCE = 80 // looks, about 0.7 s each

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

const ticks = () => readFileSync('/proc/stat', 'latin1').split('\n')[0].split(/\s+/).slice(1, 9).map(Number)

// foreign is how many cores are busy now; the runner itself sleeps meanwhile.
async function foreign(ms = 400) {
  const before = ticks()
  await sleep(ms)
  const d = ticks().map((v, i) => v - before[i])
  const total = d.reduce((sum, v) => sum + v, 0)
  return total ? ((total - d[3] - d[4]) / total) * os.cpus().length : 0
}

async function quiet() {
  let busy = await foreign()
  for (let i = 0; i < PATIENCE && busy > QUIET; i++) {
    await sleep(300)
    busy = await foreign()
  }
  return busy
}

// schedCPU is the CPU time of a process in seconds, from nanosecond counters.
export function schedCPU(pid) {
  let sum = 0
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    try {
      sum += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'latin1').split(' ')[0]) / 1e9
    } catch {} // the thread has ended
  }
  return sum
}

export const write = (o) => appendFileSync(out, JSON.stringify(o) + '\n')

export async function measure(wl, name, side, rep, run) {
  if (only && !name.match(only)) return
  const before = await quiet()
  let result
  try {
    result = await run()
  } catch (err) {
    result = { error: String(err.message || err) }
  }
  const o = { wl, case: name, side, rep, foreign_pre: +before.toFixed(2), foreign_post: +(await foreign(200)).toFixed(2), ...result }
  write(o)
  const line = JSON.stringify(o)
  console.log(line.length > 300 ? line.slice(0, 300) + '…' : line)
}
