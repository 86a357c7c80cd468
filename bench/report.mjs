// node report.mjs results.jsonl [page.md]
// Prints medians [min..max] of every field by workload, case and side. With a
// page, writes the machine, the table of the bars and the medians of the main
// fields between its two markers, and leaves the rest of the page alone.
import { existsSync, readFileSync, writeFileSync } from 'fs'
import { bars } from './bars.mjs'

const BEGIN = '<!-- measured: written by make bench-peers -->'
const END = '<!-- end of measured -->'

const lines = readFileSync(process.argv[2], 'utf8').trim().split('\n').map((l) => JSON.parse(l))
let runs = 0
for (const r of lines) {
  if (r.machine) runs++
  r.turn = `${runs} ${r.rep}` // which repetition of which run it belongs to
}
const rows = lines.filter((r) => r.wl)
const good = (wl, name, side) => rows.filter((r) => r.wl === wl && r.case === name && r.side === side && !r.error)

function median(values) {
  const v = [...values].sort((a, b) => a - b)
  const half = v.length >> 1
  return v.length % 2 ? v[half] : (v[half - 1] + v[half]) / 2
}

const text = (v) => (v === 0 ? '0' : Math.abs(v) >= 1000 ? v.toFixed(0) : Math.abs(v) >= 10 ? v.toFixed(1) : v.toPrecision(3))

// figures are the values of a field, by repetition.
function figures(wl, name, side, field) {
  const read = typeof field === 'function' ? field : (r) => field.split('.').reduce((o, k) => o?.[k], r)
  return new Map(good(wl, name, side).map((r) => [r.turn, read(r)]).filter(([, v]) => Number.isFinite(v)))
}

function barRow([wl, name, what, field, sign, limit, { side = 'warren', peers = ['js'], peerCase = name, abs = false } = {}]) {
  const ours = figures(wl, name, side, field)
  // Of several peers the better one counts, in each repetition.
  const peer = new Map()
  for (const p of peers) {
    for (const [turn, v] of figures(wl, peerCase, p, field)) {
      peer.set(turn, !peer.has(turn) ? v : sign === '≥' ? Math.max(v, peer.get(turn)) : Math.min(v, peer.get(turn)))
    }
  }
  // The machine is not equally fast all the time: each repetition has its own ratio.
  const ratios = [...ours].filter(([turn]) => peer.get(turn) > 0).map(([turn, v]) => v / peer.get(turn))
  if (!ours.size || (!abs && !ratios.length)) return null
  const compared = abs ? median(ours.values()) : median(ratios)
  const holds = sign === '≥' ? compared >= limit : compared <= limit
  const spread = ratios.length > 1 ? ` (${text(Math.min(...ratios))} to ${text(Math.max(...ratios))})` : ''
  const cells = [
    wl, name, what, peer.size ? text(median(peer.values())) : '', text(median(ours.values())),
    ratios.length ? `${text(median(ratios))} ×${spread}` : '', `${sign} ${limit}${abs ? '' : ' ×'}`, holds ? 'yes' : '**no**'
  ]
  return `| ${cells.join(' | ')} |`
}

// fields flattens a result to numbers by dotted name.
function fields(o, prefix = '', flat = {}) {
  for (const [k, v] of Object.entries(o)) {
    if (v && typeof v === 'object') fields(v, prefix + k + '.', flat)
    else if (typeof v === 'number') flat[prefix + k] = v
  }
  return flat
}

const DULL = /(^|\.)(rep|n|p90_us|p999_us|max_us|mean_us|conc|count|window|bytes|seconds|seg|batch|win|foreign_pre|foreign_post|size|inflight|sockets|wall|wall_s|rounds|conns|queries|par|idle_s|bad)$/
const MAIN = /^(rps|srv_cpu_s_per_100k|qps|query_cpu_ms|boot_s|rss_per_node_kb|mb_s|cpu_s_per_gb|conn_s|echo\.p50_us|rtt\.p50_us|lat\.p50_us|rss_mb|cpu_pct|start_ms|(srv|cli)_rss_kb_per_conn|ops\.\w+\.ops_s|own_mb_s|other_mb_s)$/

function groups() {
  const all = new Map()
  for (const r of rows) {
    const key = [r.wl, r.case, r.side].join(' | ')
    all.set(key, [...(all.get(key) || []), r])
  }
  return [...all].sort((a, b) => a[0].localeCompare(b[0], 'en', { numeric: true }))
}

function summary(wanted) {
  return groups().map(([key, rs]) => {
    const flat = rs.filter((r) => !r.error).map((r) => fields(r))
    const names = [...new Set(flat.flatMap(Object.keys))].filter(wanted)
    const values = names.map((name) => {
      const v = flat.map((f) => f[name]).filter((x) => x !== undefined)
      return [name, text(median(v)), text(Math.min(...v)), text(Math.max(...v))]
    })
    const busy = Math.max(...rs.map((r) => Math.max(r.foreign_pre, r.foreign_post)))
    return { key, runs: flat.length, errors: rs.filter((r) => r.error).map((r) => r.error), busy, values }
  })
}

for (const { key, runs, errors, busy, values } of summary((name) => !DULL.test(name))) {
  console.log(`${key}  (${runs} runs, others used ${text(busy)} cores${errors.length ? '; errors: ' + errors.join('; ').slice(0, 200) : ''})`)
  for (const [name, mid, low, high] of values) console.log(`    ${name} ${mid} [${low}..${high}]`)
}

function measured() {
  const machines = lines.filter((r) => r.machine)
  const { machine: m } = machines.at(-1)
  const table = bars.map(barRow).filter((row) => row)
  const medians = summary((name) => MAIN.test(name)).map(
    ({ key, runs, busy, values }) => `| ${key} | ${values.map(([name, mid, low, high]) => `${name} ${mid} [${low}..${high}]`).join('; ')} | ${runs} | ${text(busy)} |`
  )
  return `${BEGIN}

Machine: ${m.cpus} × ${m.model}, ${m.mem_gb} GB, Linux ${m.kernel.split('-')[0]}, ${m.go}, node ${m.node}.
Measured ${machines[0].at.slice(0, 10)} with

\`\`\`text
${machines.map((r) => `node run.mjs ${r.args.replace(/ --out \S+/, '')}`).join('\n')}
\`\`\`

### The bars

Medians; × is warren's figure by its peer's in the same repetition, with the least and the greatest.

| | case | what | peer | warren | ratio | bar | holds |
| --- | --- | --- | --- | --- | --- | --- | --- |
${table.join('\n')}

### Everything that was measured

Medians [least..most] of the main figures; "busy" is how many cores other processes used at worst.

| workload, case, side | figures | runs | busy |
| --- | --- | --- | --- |
${medians.join('\n')}

${END}`
}

const page = process.argv[3]
if (page) {
  const old = existsSync(page) ? readFileSync(page, 'utf8') : `# Speed\n\n${BEGIN}\n${END}\n`
  const from = old.indexOf(BEGIN)
  const to = old.indexOf(END)
  if (from < 0 || to < from) {
    console.error(`${page} lacks the markers\n${BEGIN}\n${END}`)
    process.exit(1)
  }
  writeFileSync(page, old.slice(0, from) + measured() + old.slice(to + END.length))
}
