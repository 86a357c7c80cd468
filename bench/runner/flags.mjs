// The command line of the runner, see README.md.
import path from 'path'
import { fileURLToPath } from 'url'

export const home = path.join(path.dirname(fileURLToPath(import.meta.url)), '..')

const given = (name) => process.argv.includes('--' + name)
const value = (name, otherwise) => (given(name) ? process.argv[process.argv.indexOf('--' + name) + 1] : otherwise)

export const workloads = value('w', 'W1').split(',')
export const reps = Number(value('reps', 3))
export const sides = value('sides', 'js').split(',')
export const out = value('out', path.join(home, 'results.jsonl'))
export const only = value('only', '')
export const ceilings = !given('no-ceilings')

// scaled shrinks a count by --scale.
const scale = Number(value('scale', 1))
export const scaled = (n) => Math.max(1, Math.round(n * scale))
