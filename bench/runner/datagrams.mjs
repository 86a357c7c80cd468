// W1, W2, W7, W8: requests to one node, networks in one process, ceilings.
import { ceilings, scaled as N, sides } from './flags.mjs'
import { measure } from './measure.mjs'
import { once, start } from './process.mjs'
import { bin, command, script } from './sides.mjs'

const SERVER_CPU = 0
const LOAD_CPU = 1

// load runs a generator against a server. Few in flight go over one socket.
const load = (generator) => (s, mode, n, extra = [], cpu = LOAD_CPU) =>
  once([bin(generator)], ['-to', `${s.info.host}:${s.info.port}`, '-mode', mode, '-n', n, '-s', n > 4 ? 4 : 1, '-d', `${N(4)}s`, '-pids', s.info.pid, ...extra], { cpu })

export async function W1(rep) {
  const rpc = load('rpcload')
  for (const side of sides) {
    const node = command(side, 'dhtrpc-node')
    if (!node) continue
    const m = (name, run) => measure('W1', name, side, rep, run)
    let s = await start(node, [], { cpu: SERVER_CPU })
    await m('ping n=1', () => rpc(s, 'ping', 1, ['-populate', 200]))
    await m('ping n=64', () => rpc(s, 'ping', 64))
    await m('ping n=1 one cpu', () => rpc(s, 'ping', 1, [], SERVER_CPU))
    await m('find n=64', () => rpc(s, 'find', 64, ['-populate', 20]))
    for (const rate of [10000, 40000]) await m(`find ${rate}/s`, () => rpc(s, 'find', 1, ['-populate', 20, '-rate', rate]))
    await m('find n=1 one cpu', () => rpc(s, 'find', 1, ['-populate', 20], SERVER_CPU))
    await s.stop()
    s = await start(node, ['--hyper'], { cpu: SERVER_CPU })
    await m('immget n=64', () => rpc(s, 'immget', 64, ['-populate', 200]))
    await s.stop()
  }
  if (!ceilings) return
  for (const kind of ['std', 'mmsg']) {
    for (const [mode, size] of [['ping', 42], ['find', 163]]) {
      const m = (name, run) => measure('W1', name, 'echo-' + kind, rep, run)
      const s = await start([bin('udpecho')], ['-kind', kind, '-size', size], { cpu: SERVER_CPU })
      await m(`${mode} n=64`, () => rpc(s, mode, 64, ['-lax']))
      await m(`${mode} n=1 one cpu`, () => rpc(s, mode, 1, ['-lax'], SERVER_CPU))
      if (mode === 'ping') await m('ping n=1', () => rpc(s, mode, 1, ['-lax']))
      else for (const rate of [10000, 40000]) await m(`find ${rate}/s`, () => rpc(s, mode, 1, ['-lax', '-rate', rate]))
      await s.stop()
    }
  }
}

export async function W2(rep) {
  for (const side of sides) {
    const net = command(side, 'dhtrpc-net')
    if (!net) continue
    for (const n of [100, 500]) await measure('W2', `n=${n}`, side, rep, () => once(net, ['--n', n, '--queries', N(1000)]))
    await measure('W2', 'n=100 conc=1', side, rep, () => once(net, ['--n', 100, '--conc', 1, '--queries', N(500)]))
  }
}

export async function W7(rep) {
  const krpc = load('krpcload')
  for (const side of [...sides, ...(ceilings ? ['anacrolix'] : [])]) {
    const node = command(side, 'krpc-node')
    if (!node) continue
    const m = (name, run) => measure('W7', name, side, rep, run)
    const s = await start(node, [], { cpu: SERVER_CPU })
    await m('ping n=64', () => krpc(s, 'ping', 64, ['-populate', 200]))
    await m('find 10000/s', () => krpc(s, 'find', 1, ['-populate', 40, '-rate', 10000]))
    for (const mode of ['find', 'peers', 'get']) await m(`${mode} n=64`, () => krpc(s, mode, 64, ['-populate', 40]))
    await s.stop()
    for (const c of [1, 16]) await m(`net put/get c=${c}`, () => once(command(side, 'krpc-net'), ['--n', 100, '--conc', c, '--count', N(200)]))
  }
  if (!ceilings) return
  for (const [size, mode] of [[47, 'ping'], [278, 'find']]) {
    const s = await start([bin('udpecho')], ['-krpc', '-kind', 'std', '-size', size], { cpu: SERVER_CPU })
    await measure('W7', `${mode} n=64`, 'echo-std', rep, () => krpc(s, mode, 64, ['-lax']))
    await s.stop()
  }
}

export async function W8(rep) {
  for (const [name, server, client] of [
    ['udp 1', [], []],
    ['udp mmsg 32', ['-batch', 32], ['-batch', 32]],
    ['udp gso+gro', ['-gro'], ['-gso']],
    ['udp 1 + chacha20poly1305', ['-seal'], ['-seal']],
    ['udp gso+gro + chacha20poly1305', ['-gro', '-seal'], ['-gso', '-seal']]
  ]) {
    const s = await start([bin('gsoperf')], ['-role', 'server', ...server])
    await measure('W8', name, 'ceiling', rep, () => once([bin('gsoperf')], ['-role', 'client', '-to', s.info.port, '-pids', s.info.pid, '-bytes', N(1 << 30), ...client]))
    await s.stop()
  }
  await measure('W8', 'crypto', 'go', rep, () => once([bin('cryptobench')], []))
  await measure('W8', 'crypto', 'js', rep, () => once(script('cryptobench.js'), []))
}
