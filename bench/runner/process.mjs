// Processes that speak lines of JSON: servers that stay until they are stopped,
// and clients that print one line.
import { spawn } from 'child_process'
import { home } from './flags.mjs'

const live = new Set()
process.on('exit', () => live.forEach((p) => p.kill('SIGKILL')))
process.on('SIGINT', () => process.exit(1))
process.on('SIGTERM', () => process.exit(1))

// launch starts a command, pinned to a CPU if one is given.
function launch(command, args, { cpu } = {}) {
  const argv = [...(cpu === undefined ? [] : ['taskset', '-c', String(cpu)]), ...command, ...args.map(String)]
  const p = spawn(argv[0], argv.slice(1), { stdio: ['pipe', 'pipe', 'inherit'], cwd: home })
  live.add(p)
  p.stdin.on('error', () => {}) // it has ended: its exit says so
  const lines = []
  const waiting = []
  let ended = null
  const settle = () => {
    while (waiting.length && (lines.length || ended)) {
      const { resolve, reject } = waiting.shift()
      if (lines.length) resolve(lines.shift())
      else reject(ended)
    }
  }
  const end = (why) => {
    live.delete(p)
    ended ||= new Error(`${argv.join(' ')}: ${why}`)
    settle()
  }
  let rest = ''
  p.stdout.setEncoding('utf8')
  p.stdout.on('data', (text) => {
    const parts = (rest + text).split('\n')
    rest = parts.pop()
    for (const part of parts) {
      if (part.startsWith('{')) lines.push(JSON.parse(part))
    }
    settle()
  })
  p.exited = new Promise((resolve) => {
    p.on('error', (err) => { end(err.message); resolve() })
    p.on('close', (code, signal) => { end(`ended with ${signal || code}`); resolve() })
  })
  p.line = () => new Promise((resolve, reject) => { waiting.push({ resolve, reject }); settle() })
  return p
}

// start starts a server role and waits for its ready line, which is `info`.
export async function start(command, args, options) {
  const p = launch(command, args, options)
  const info = await p.line()
  return {
    info,
    // gc has it collect and answers with {rss}.
    gc: () => { p.stdin.write('gc\n'); return p.line() },
    stop: async () => {
      p.stdin.end('quit\n')
      const kill = setTimeout(() => p.kill('SIGKILL'), 2000)
      await p.exited
      clearTimeout(kill)
    }
  }
}

// once runs a client role and returns its line.
export async function once(command, args, { limit = 90, ...options } = {}) {
  const p = launch(command, args, options)
  const kill = setTimeout(() => p.kill('SIGKILL'), limit * 1000)
  try {
    return await p.line()
  } finally {
    clearTimeout(kill)
    p.stdin.end()
    const linger = setTimeout(() => p.kill('SIGKILL'), 3000)
    await p.exited
    clearTimeout(linger)
  }
}
