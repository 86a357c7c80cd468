// W3 to W6 and W10: records, connecting, streams, being idle, bad links.
import { ceilings, scaled as N, sides } from './flags.mjs'
import { measure, schedCPU, sleep } from './measure.mjs'
import { once, start } from './process.mjs'
import { bin, command, network, pairName, pairs } from './sides.mjs'

const BULK = 512 << 20

export async function W3(rep) {
  for (const [client, server] of pairs('hd-ops', 'hd-net')) {
    const net = await start(command(server, 'hd-net'), ['--n', 50])
    const ops = (...args) => once(command(client, 'hd-ops'), ['--bootstrap', net.info.bootstrap, '--pids', net.info.pid, ...args])
    const m = (name, run) => measure('W3', name, pairName(client, server), rep, run)
    for (const [conc, count] of [[1, 200], [8, 200], [32, 100]]) await m(`c=${conc}`, () => ops('--conc', conc, '--count', N(count)))
    if (client === 'js') await m('c=32 window off', () => ops('--conc', 32, '--count', N(400), '--window', 1000000))
    await net.stop()
  }
}

// withServer runs body(run, server) against an hd-server on a fresh network;
// run(...args) is one client, and cpu pins both.
async function withServer([client, server], args, body, cpu) {
  const net = await start(network, ['--n', 20])
  const s = await start(command(server, 'hd-server'), ['--bootstrap', net.info.bootstrap, ...args], { cpu })
  const to = ['--bootstrap', net.info.bootstrap, '--key', s.info.key, '--pids', s.info.pid, '--net', net.info.pid]
  await body((...more) => once(command(client, 'hd-client'), [...to, ...more], { cpu }), s)
  await s.stop()
  await net.stop()
}

// reference runs body(run, protocol) against other transports.
async function reference(protocols, body, cpu) {
  if (!ceilings) return
  for (const protocol of protocols) {
    const s = await start([bin('streamperf')], ['-role', 'server', '-proto', protocol], { cpu })
    const to = ['-role', 'client', '-proto', protocol, '-to', s.info.addr, '-pids', s.info.pid]
    await body((...more) => once([bin('streamperf')], [...to, ...more], { cpu }), protocol)
    await s.stop()
  }
}

export async function W4(rep) {
  for (const pair of pairs('hd-client', 'hd-server')) {
    const m = (name, run) => measure('W4', name, pairName(...pair), rep, run)
    await withServer(pair, [], async (c) => {
      await m('connect', () => c('--test', 'connect', '--count', N(200)))
      await m('cold', () => c('--test', 'cold', '--count', N(30)))
      await m('burst100', () => c('--test', 'burst', '--conns', 100, '--rounds', N(5)))
    })
    await withServer(pair, ['--punch'], async (c) => {
      await m('connect punched', () => c('--test', 'connect', '--count', N(30), '--punch'))
    })
  }
  await reference(['tls', 'quic'], async (c, protocol) => {
    await measure('W4', 'connect', protocol, rep, () => c('-test', 'connect', '-count', N(200)))
    await measure('W4', 'burst100', protocol, rep, () => c('-test', 'burst', '-conns', 100, '-rounds', N(5)))
  })
}

export async function W5(rep) {
  for (const pair of pairs('hd-client', 'hd-server')) {
    const m = (name, run) => measure('W5', name, pairName(...pair), rep, run)
    await withServer(pair, [], async (c) => {
      await m('bulk', () => c('--test', 'bulk', '--bytes', N(BULK)))
      await m('rtt', () => c('--test', 'rtt', '--count', N(10000)))
      await m('bulk x100', () => c('--test', 'bulk', '--conns', 100, '--bytes', N(BULK / 2)))
      await m('rtt under load', () => c('--test', 'load', '--count', N(500)))
    })
    await withServer(pair, [], (c) => m('rtt one cpu', () => c('--test', 'rtt', '--count', N(10000))), 0)
  }
  for (const [client, server] of pairs('udx-client', 'udx-server')) {
    const bulk = (conns, bytes) => ['--test', 'bulk', '--conns', conns, '--bytes', N(bytes)]
    const rtt = ['--test', 'rtt', '--count', N(10000)]
    for (const [name, conns, args, cpu] of [
      ['udx bulk', 1, bulk(1, BULK)],
      ['udx rtt', 1, rtt],
      ['udx rtt one cpu', 1, rtt, 0],
      ['udx bulk x100', 100, bulk(100, BULK / 2)]
    ]) {
      const s = await start(command(server, 'udx-server'), ['--conns', conns], { cpu })
      await measure('W5', name, pairName(client, server), rep, () => once(command(client, 'udx-client'), ['--to', `${s.info.host}:${s.info.port}`, '--pids', s.info.pid, ...args], { cpu }))
      await s.stop()
    }
  }
  await reference(['tcp', 'tls', 'quic'], async (c, protocol) => {
    const m = (name, run) => measure('W5', name, protocol, rep, run)
    await m('bulk', () => c('-test', 'bulk', '-bytes', N(BULK)))
    await m('rtt', () => c('-test', 'rtt', '-count', N(10000)))
    await m('bulk x100', () => c('-test', 'bulk', '-conns', 100, '-bytes', N(BULK / 2)))
    await m('rtt under load', () => c('-test', 'load', '-count', N(500)))
    if (protocol === 'quic') await m('bulk x100 mux', () => c('-test', 'bulk', '-mux', '-conns', 100, '-bytes', N(BULK / 2)))
  })
  await reference(['tcp', 'tls', 'quic'], (c, protocol) => measure('W5', 'rtt one cpu', protocol, rep, () => c('-test', 'rtt', '-count', N(10000))), 0)
}

// idleNode measures one persistent node of a running network.
async function idleNode(side, bootstrap) {
  const t0 = performance.now()
  const node = await start(command(side, 'hd-node'), ['--bootstrap', bootstrap])
  const startMs = performance.now() - t0
  await sleep(8000)
  const { rss } = await node.gc()
  const before = schedCPU(node.info.pid)
  const seconds = N(30)
  await sleep(seconds * 1000)
  const used = schedCPU(node.info.pid) - before
  await node.stop()
  return { rss_mb: rss / 1e6, rss0_mb: (node.info.rss0 || 0) / 1e6, cpu_pct: (used / seconds) * 100, boot_ms: node.info.boot_ms, start_ms: startMs, persistent: node.info.persistent }
}

// held opens 1000 connections; the server's size is the largest of several,
// each after a collection, while they are open.
async function held(c, server) {
  await sleep(3000)
  const { rss: before } = await server.gc()
  let after = 0
  let asked = Promise.resolve()
  const ask = setInterval(() => {
    asked = server.gc().then(({ rss }) => { after = Math.max(after, rss) }, () => {})
  }, 4000)
  const r = await c('--test', 'hold', '--conns', N(1000), '--idle', 20)
  clearInterval(ask)
  await asked
  return { ...r, srv_rss_kb_per_conn: (after - before) / r.conns / 1024, srv_rss_before_mb: before / 1e6, srv_rss_held_mb: after / 1e6 }
}

export async function W6(rep) {
  for (const side of sides) {
    if (!command(side, 'hd-node')) continue
    const net = await start(network, ['--n', 50])
    await measure('W6', 'idle node', side, rep, () => idleNode(side, net.info.bootstrap))
    await net.stop()
  }
  for (const pair of pairs('hd-client', 'hd-server')) {
    await withServer(pair, [], (c, server) => measure('W6', '1000 connections', pairName(...pair), rep, () => held(c, server)))
  }
  await reference(['tls', 'quic'], (c, protocol) => measure('W6', '1000 connections', protocol, rep, () => c('-test', 'hold', '-conns', N(1000), '-idle', 20)))
}

const LINKS = [
  ['50 Mbit/s 40 ms', ['-mbit', 50, '-rtt', '40ms', '-queue', 250000], 40e6],
  ['50 Mbit/s 40 ms 1% loss', ['-mbit', 50, '-rtt', '40ms', '-queue', 250000, '-loss', '0.01'], 25e6],
  ['10 Mbit/s 100 ms shallow queue', ['-mbit', 10, '-rtt', '100ms', '-queue', 30000], 8e6]
]

export async function W10(rep) {
  for (const [name, link, bytes] of LINKS) {
    // through starts a link before a server and stops both after the client.
    const through = async (s, to, client) => {
      const proxy = await start([bin('wanproxy')], ['-to', to, ...link])
      try {
        return await client(`${proxy.info.host}:${proxy.info.port}`)
      } finally {
        await proxy.stop()
        await s.stop()
      }
    }
    for (const [client, server] of pairs('udx-client', 'udx-server')) {
      await measure('W10', name, pairName(client, server), rep, async () => {
        const s = await start(command(server, 'udx-server'), ['--conns', 1])
        return through(s, `${s.info.host}:${s.info.port}`, (to) => once(command(client, 'udx-client'), ['--to', to, '--pids', s.info.pid, '--test', 'bulk', '--bytes', N(bytes)], { limit: 120 }))
      })
    }
    if (!ceilings) continue
    await measure('W10', name, 'quic', rep, async () => {
      const s = await start([bin('streamperf')], ['-role', 'server', '-proto', 'quic'])
      const size = name.includes('loss') ? 6e6 : bytes // it crawls there
      return through(s, s.info.addr, (to) => once([bin('streamperf')], ['-role', 'client', '-proto', 'quic', '-to', to, '-pids', s.info.pid, '-test', 'bulk', '-bytes', N(size)], { limit: 120 }))
    })
  }
}
