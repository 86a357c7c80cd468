// What every JS role shares. The peers' packages come from $PEERS (a folder
// that holds node_modules); without it, from interop/.
const fs = require('fs')
const path = require('path')
const { createRequire } = require('module')
const { pathToFileURL } = require('url')

const base = process.env.PEERS || path.join(__dirname, '..', '..', 'interop')
const peer = createRequire(path.join(base, 'node_modules', '_.js'))
exports.peer = peer
exports.importPeer = (name) => { // an ES module: its entry, read from its package.json
  const dir = path.join(base, 'node_modules', name)
  const x = JSON.parse(fs.readFileSync(path.join(dir, 'package.json'))).exports
  const e = typeof x === 'string' ? x : x.import || x.default || x['.'].import || x['.'].default
  return import(pathToFileURL(path.join(dir, e)))
}

exports.out = (o) => fs.writeSync(1, JSON.stringify(o) + '\n')

exports.args = (defaults) => {
  const a = { ...defaults }
  const v = process.argv.slice(2)
  for (let i = 0; i < v.length; i++) {
    const k = v[i].replace(/^--?/, '')
    if (!(k in defaults)) throw new Error('unknown flag ' + v[i])
    if (typeof defaults[k] === 'boolean') a[k] = true
    else a[k] = typeof defaults[k] === 'number' ? Number(v[++i]) : v[++i]
  }
  return a
}

exports.pids = (s) => String(s || '').split(',').map(Number).filter((n) => n > 0)

exports.cpu = (pid) => {
  try {
    const s = fs.readFileSync(`/proc/${pid}/stat`, 'latin1')
    const f = s.slice(s.lastIndexOf(')') + 2).split(' ')
    return (Number(f[11]) + Number(f[12])) / 100
  } catch {
    return 0
  }
}
exports.cpus = (pids) => pids.reduce((t, p) => t + exports.cpu(p), 0)

exports.rss = (pid = process.pid) => {
  const m = /VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, 'latin1'))
  return m ? Number(m[1]) * 1024 : 0
}

exports.gc = () => {
  if (global.gc) {
    global.gc()
    global.gc()
  }
}

exports.now = () => Number(process.hrtime.bigint())

exports.lat = (ns) => {
  const s = Float64Array.from(ns).sort()
  const q = (p) => s[Math.min(s.length - 1, Math.floor(p * s.length))] / 1e3
  let sum = 0
  for (const v of s) sum += v
  if (!s.length) return { n: 0 }
  return { n: s.length, mean_us: sum / s.length / 1e3, p50_us: q(0.5), p90_us: q(0.9), p99_us: q(0.99), p999_us: q(0.999), max_us: s[s.length - 1] / 1e3 }
}

exports.sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

// run fn(i) for i < n, at most c at once
exports.pool = async (n, c, fn) => {
  let i = 0
  await Promise.all(Array.from({ length: Math.min(c, n) }, async () => {
    while (i < n) await fn(i++)
  }))
}

// the role loop: ready line, then lines on stdin until quit or end of input
exports.serve = (ready) => {
  exports.out({ ready: true, pid: process.pid, ...ready })
  let buf = ''
  process.stdin.on('data', async (d) => {
    buf += d
    for (let i; (i = buf.indexOf('\n')) >= 0; buf = buf.slice(i + 1)) {
      const cmd = buf.slice(0, i).trim()
      if (cmd === 'gc') {
        exports.gc()
        await exports.sleep(200)
        exports.gc()
        exports.out({ gc: true, rss: exports.rss() })
      } else if (cmd === 'quit') process.exit(0)
    }
  })
  process.stdin.on('end', () => process.exit(0))
}
