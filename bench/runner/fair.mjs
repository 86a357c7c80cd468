// W11: two flows share one bottleneck between two network namespaces. Needs
// root and ip.
import { execFileSync } from 'child_process'
import { scaled as N } from './flags.mjs'
import { measure } from './measure.mjs'
import { once, start } from './process.mjs'
import { bin, command } from './sides.mjs'

const MBIT = 50
const RTT_MS = 40
const QUEUE = (MBIT * 1e6 * RTT_MS) / 8 / 1000 // one bandwidth-delay product, in bytes
const CLIENT = '10.99.0.1'
const SERVER = '10.99.0.2'

function run(...args) {
  try {
    execFileSync(args[0], args.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] })
  } catch (err) {
    throw new Error(`${args.join(' ')}: ${err.stderr?.toString().trim() || err.message}`)
  }
}

// A bottleneck between two namespaces; remove() takes everything away.
async function bottleneck() {
  const client = `wb${process.pid}c`
  const server = `wb${process.pid}s`
  let link = null
  const remove = async () => {
    if (link) await link.stop()
    for (const ns of [client, server]) {
      try { run('ip', 'netns', 'del', ns) } catch {} // it was not made
    }
  }
  try {
    for (const ns of [client, server]) run('ip', 'netns', 'add', ns)
    link = await start([bin('tunlink')], ['-a', client, '-b', server, '-mbit', MBIT, '-rtt', RTT_MS + 'ms', '-queue', QUEUE])
    for (const [ns, addr] of [[client, CLIENT], [server, SERVER]]) {
      run('ip', '-n', ns, 'addr', 'add', addr + '/24', 'dev', 'wan')
      run('ip', '-n', ns, 'link', 'set', 'wan', 'mtu', '1500', 'txqueuelen', '1000', 'up')
      run('ip', '-n', ns, 'link', 'set', 'lo', 'up')
    }
  } catch (err) {
    await remove()
    throw err
  }
  const inside = (ns) => (argv) => ['ip', 'netns', 'exec', ns, ...argv]
  return { remove, atClient: inside(client), atServer: inside(server) }
}

// flow starts a server of a side and returns a function that runs its client.
async function flow(net, side, seconds) {
  if (side === 'tcp') {
    const s = await start(net.atServer([bin('streamperf')]), ['-role', 'server', '-proto', 'tcp', '-host', SERVER])
    return { s, run: () => once(net.atClient([bin('streamperf')]), ['-role', 'client', '-proto', 'tcp', '-to', s.info.addr, '-test', 'flow', '-idle', seconds], { limit: seconds + 60 }) }
  }
  const s = await start(net.atServer(command(side, 'udx-server')), ['--conns', 1, '--host', SERVER])
  return { s, run: () => once(net.atClient(command(side, 'udx-client')), ['--to', `${SERVER}:${s.info.port}`, '--host', CLIENT, '--test', 'flow', '--idle', seconds], { limit: seconds + 60 }) }
}

export async function W11(rep) {
  const seconds = N(60)
  for (const [a, b] of [['warren', 'js'], ['warren', 'tcp'], ['warren', 'warren'], ['js', 'tcp']]) {
    await measure('W11', `beside ${b}`, a, rep, async () => {
      const net = await bottleneck()
      const servers = []
      try {
        const one = await flow(net, a, seconds)
        servers.push(one.s)
        const two = await flow(net, b, seconds)
        servers.push(two.s)
        const [x, y] = await Promise.all([one.run(), two.run()])
        return { own_mb_s: x.mb_s, other_mb_s: y.mb_s, least_share: Math.min(x.mb_s, y.mb_s) / (x.mb_s + y.mb_s), seconds }
      } finally {
        for (const s of servers) await s.stop()
        await net.remove()
      }
    })
  }
}
