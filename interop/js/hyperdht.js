// A HyperDHT peer: networks, nodes, servers, connections and records.
// Command line: nothing. Commands: the table at the end of this file.
const DHT = require('hyperdht')
const { Server: RelayServer } = require('blind-relay')
const { serve, emit, hex, Handles, Wire, streamMethods } = require('./lib')

const handles = new Handles()

// Options that pass through to the constructor as they are. `seed` makes the
// default key pair; everything runs on loopback unless `host` says otherwise.
function makeNode({ seed, ...opts }) {
  return new DHT({ host: '127.0.0.1', ...opts, ...(seed ? { keyPair: keyPair(seed) } : {}) })
}

const keyPair = (seed) => DHT.keyPair(seed ? hex(seed) : undefined)

function describe(node) {
  const local = node.address()
  return {
    host: local.host,
    port: local.port,
    id: node.id,
    publicHost: node.host,
    publicPort: node.port,
    ephemeral: node.ephemeral,
    firewalled: node.firewalled,
    bootstrapped: node.bootstrapped,
    online: node.online,
    nodes: node.toArray(),
    publicKey: node.defaultKeyPair.publicKey
  }
}

const EVENTS = ['ready', 'persistent', 'ephemeral', 'nat-update', 'network-change', 'network-update', 'wakeup', 'close']

async function addNode(node) {
  const handle = handles.add('node', node)
  for (const name of EVENTS) node.on(name, () => emit('node', { node: handle, name }))
  await node.fullyBootstrapped()
  return { node: handle, ...describe(node) }
}

// A network of persistent nodes: the first is the bootstrap unless one is given.
async function testnet({ size = 10, bootstrap = [], ...opts }) {
  const known = [...bootstrap]
  const nodes = []
  for (let i = 0; i < size; i++) {
    const n = await addNode(makeNode({ ephemeral: false, firewalled: false, bootstrap: known, ...opts }))
    if (known.length === 0) known.push(`${n.host}:${n.port}`)
    nodes.push({ node: n.node, host: n.host, port: n.port, id: n.id })
  }
  return { bootstrap: known, nodes }
}

function describeConn(stream) {
  const raw = stream.rawStream
  return {
    publicKey: stream.publicKey,
    remotePublicKey: stream.remotePublicKey,
    handshakeHash: stream.handshakeHash,
    isInitiator: stream.isInitiator,
    remoteHost: raw ? raw.remoteHost : null,
    remotePort: raw ? raw.remotePort : 0,
    localPort: raw && raw.socket ? raw.socket.address().port : 0,
    mtu: raw ? raw.mtu : 0
  }
}

function addConn(stream, mode) {
  const wire = new Wire(stream, mode)
  return handles.add('conn', wire)
}

// listen {node, seed, mode: echo|sink|source, bytes, patternSeed, allow: [keys],
// options}: each connection becomes a handle, reported by the event
// "connection" and handed out by `server.accept`.
async function listen({ node, seed, mode, bytes, patternSeed, allow, options = {} }) {
  const accepted = []
  const waiting = []
  const opts = { ...options }
  if (allow) opts.firewall = (key) => !allow.includes(key.toString('hex'))
  if (opts.relayThrough) opts.relayThrough = hex(opts.relayThrough)
  const server = handles.get(node).createServer(opts)
  const handle = handles.add('server', server)
  server.accepted = () => (accepted.length ? accepted.shift() : new Promise((resolve) => waiting.push(resolve)))
  server.on('connection', (stream) => {
    const conn = addConn(stream, { mode, bytes, seed: patternSeed })
    const what = { server: handle, stream: conn, ...describeConn(stream) }
    emit('connection', what)
    if (waiting.length) waiting.shift()(what)
    else accepted.push(what)
  })
  const keys = keyPair(seed)
  await server.listen(keys)
  return { server: handle, publicKey: keys.publicKey, ...describeServer(server) }
}

const describeServer = (server) => ({ address: server.address(), relayAddresses: server.relayAddresses, nodes: server.nodes })

// connect {node, key, seed, mode, bytes, patternSeed, options}: returns at
// once; `stream.wait` open, then `conn.info`.
function connect({ node, key, seed, mode, bytes, patternSeed, options = {} }) {
  const opts = { ...options }
  if (seed) opts.keyPair = keyPair(seed)
  if (opts.relayThrough) opts.relayThrough = hex(opts.relayThrough)
  const stream = handles.get(node).connect(hex(key), opts)
  return { stream: addConn(stream, { mode, bytes, seed: patternSeed }) }
}

// relay {node, seed}: a blind relay, as a server of that key pair.
async function relay({ node, seed }) {
  const dht = handles.get(node)
  const blind = new RelayServer({ createStream: (opts) => dht.createRawStream({ ...opts, framed: true }) })
  const server = dht.createServer({ shareLocalAddress: false }, (stream) => {
    const session = blind.accept(stream, { id: stream.remotePublicKey })
    session.on('error', () => {})
    stream.on('error', () => {})
  })
  const keys = keyPair(seed)
  await server.listen(keys)
  server.blind = blind
  return { server: handles.add('server', server), publicKey: keys.publicKey, ...describeServer(server) }
}

async function collect(query, row) {
  const rows = []
  for await (const r of query) rows.push(row(r))
  return rows
}

const replyRow = (r) => ({ from: r.from, to: r.to, token: r.token, value: r.value, error: r.error })

const lookupRow = (r) => ({
  from: r.from,
  to: r.to,
  token: r.token,
  bump: r.bump,
  peers: r.peers.map((p) => ({ publicKey: p.publicKey, relayAddresses: p.relayAddresses }))
})

const record = (r) => r && { seq: r.seq, value: r.value, signature: r.signature, from: r.from, token: r.token }

serve({
  ...streamMethods(handles),

  testnet,
  node: (opts) => addNode(makeNode(opts)),
  bootstrapper: ({ port, host, ...opts }) => addNode(DHT.bootstrapper(port, host, { host: '127.0.0.1', ...opts })),
  'node.info': ({ node }) => describe(handles.get(node)),
  'node.stats': ({ node }) => handles.get(node).stats,
  'node.refresh': ({ node }) => handles.get(node).refresh(),
  'node.suspend': ({ node }) => handles.get(node).suspend(),
  'node.resume': ({ node }) => handles.get(node).resume(),
  'node.destroy': ({ node, force = false }) => handles.get(node).destroy({ force }),
  keyPair: ({ seed }) => {
    const k = keyPair(seed)
    return { publicKey: k.publicKey, secretKey: k.secretKey }
  },
  hash: ({ data }) => DHT.hash(hex(data)),

  listen,
  'server.accept': ({ server }) => handles.get(server).accepted(),
  'server.info': ({ server }) => describeServer(handles.get(server)),
  'server.refresh': ({ server }) => void handles.get(server).refresh(),
  'server.close': ({ server }) => handles.get(server).close(),
  relay,
  'relay.stats': ({ server }) => handles.get(server).blind.stats,
  connect,
  'conn.info': ({ stream }) => describeConn(handles.get(stream).stream),

  ping: ({ node, host, port }) => handles.get(node).ping({ host, port }),
  // findNode {node, target} -> closest nodes, nearest first.
  findNode: async ({ node, target }) => {
    const q = handles.get(node).findNode(hex(target))
    await q.finished()
    return q.closestNodes
  },
  findPeer: ({ node, key }) => collect(handles.get(node).findPeer(hex(key)), replyRow),
  lookup: ({ node, topic }) => collect(handles.get(node).lookup(hex(topic)), lookupRow),
  announce: async ({ node, topic, seed, relayAddresses = [], options = {} }) => {
    const keys = keyPair(seed)
    const q = handles.get(node).announce(hex(topic), keys, relayAddresses, options)
    await q.finished()
    return { publicKey: keys.publicKey, closest: q.closestNodes }
  },
  unannounce: ({ node, topic, seed }) => handles.get(node).unannounce(hex(topic), keyPair(seed)),
  immutablePut: async ({ node, value }) => {
    const { hash, closestNodes } = await handles.get(node).immutablePut(hex(value))
    return { hash, closest: closestNodes }
  },
  immutableGet: async ({ node, hash }) => record(await handles.get(node).immutableGet(hex(hash))),
  mutablePut: async ({ node, seed, value, seq }) => {
    const keys = keyPair(seed)
    const r = await handles.get(node).mutablePut(keys, hex(value), { seq })
    return { publicKey: r.publicKey, signature: r.signature, seq: r.seq, closest: r.closestNodes }
  },
  mutableGet: async ({ node, key, seq, latest }) => record(await handles.get(node).mutableGet(hex(key), { seq, latest }))
})
