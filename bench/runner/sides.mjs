// A side is a name; it has a command for each role that it plays.
import path from 'path'
import { home, sides } from './flags.mjs'

export const bin = (name) => path.join(home, 'bin', name)
export const script = (name) => ['node', '--expose-gc', path.join(home, 'js', name)]

const js = Object.fromEntries(
  ['dhtrpc-node.js', 'dhtrpc-net.js', 'hd-net.js', 'hd-ops.js', 'hd-server.js', 'hd-client.js', 'hd-node.js', 'udx-server.js', 'udx-client.js', 'krpc-node.mjs', 'krpc-net.mjs']
    .map((name) => [name.replace(/\..*/, ''), script(name)])
)
const anacrolix = { 'krpc-node': [bin('anacrolix'), '--role', 'node'], 'krpc-net': [bin('anacrolix'), '--role', 'net'] }

// What warren's own program answers; other programs answer whatever they are
// asked for, or end at once.
export function command(side, role) {
  if (side === 'js') return js[role]
  if (side === 'anacrolix') return anacrolix[role]
  const program = process.env[side.toUpperCase() + '_BENCH'] || (side === 'warren' ? bin('warrenbench') : undefined)
  return program && [program, role]
}

// network is the JavaScript network that connections are found through.
export const network = js['hd-net']

// pairs lists all combinations of client and server.
export function pairs(clientRole, serverRole) {
  return sides.flatMap((client) => sides.filter((server) => command(client, clientRole) && command(server, serverRole)).map((server) => [client, server]))
}

export const pairName = (client, server) => (client === server ? client : `${client}>${server}`)
