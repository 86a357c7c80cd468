// A dht-rpc 6.x peer: nodes, requests, queries and the README's key-value
// store. Commands: the table at the end of this file.
const crypto = require('crypto')
const DHT = require('dht-rpc')
const { serve, emit, hex, Handles } = require('./lib')

const handles = new Handles()

// The README's store: command 0, target = SHA-256 of the value. A request with
// a verified token stores, every other one reads. Commands 1 to 4 serve tests:
// 1 echoes the value, 2 answers with the error code in the value's first byte,
// 3 never answers, 4 tells whether the token held.
const VALUES = 0
const ECHO = 1
const FAIL = 2
const SILENT = 3
const TOKEN = 4

function answer(store, req) {
  switch (req.command) {
    case VALUES: {
      if (req.token && req.value) {
        store.set(crypto.createHash('sha256').update(req.value).digest('hex'), req.value)
        return req.reply(null)
      }
      return req.reply(req.target ? store.get(req.target.toString('hex')) || null : null)
    }
    case ECHO:
      return req.reply(req.value)
    case FAIL:
      return req.error(req.value ? req.value[0] : 0)
    case SILENT:
      return undefined
    case TOKEN:
      return req.reply(Buffer.from([req.token ? 1 : 0]))
    default:
      return req.sendReply(1, null, false, true) // unknown command
  }
}

const EVENTS = ['ready', 'persistent', 'ephemeral', 'nat-update', 'network-change', 'network-update', 'wake-up', 'wakeup', 'close']

async function addNode(node, { serveValues = true } = {}) {
  const handle = handles.add('node', node)
  node.store = new Map()
  for (const name of EVENTS) node.on(name, () => emit('node', { node: handle, name }))
  if (serveValues) {
    node.on('request', (req) => {
      emit('request', { node: handle, command: req.command, target: req.target, value: req.value, from: req.from, token: !!req.token })
      answer(node.store, req)
    })
  }
  await node.fullyBootstrapped()
  return { node: handle, ...describe(node) }
}

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
    nodes: node.toArray()
  }
}

const makeNode = (opts) => new DHT({ host: '127.0.0.1', ...opts })

async function network({ size = 10, bootstrap = [], ...opts }) {
  const known = [...bootstrap]
  const nodes = []
  for (let i = 0; i < size; i++) {
    const n = await addNode(makeNode({ ephemeral: false, firewalled: false, bootstrap: known, ...opts }))
    if (known.length === 0) known.push(`${n.host}:${n.port}`)
    nodes.push({ node: n.node, host: n.host, port: n.port, id: n.id })
  }
  return { bootstrap: known, nodes }
}

const reply = (r) => ({ from: r.from, to: r.to, id: r.from.id, token: r.token, closerNodes: r.closerNodes, error: r.error, value: r.value, rtt: r.rtt })

async function query({ node, target, command, value, commit = false, ...opts }) {
  const q = handles.get(node).query({ target: hex(target), command, value: hex(value) }, { ...opts, commit })
  const replies = []
  for await (const r of q) replies.push(reply(r))
  return { replies, closestNodes: q.closestNodes, closestReplies: q.closestReplies.map(reply), successes: q.successes, errors: q.errors }
}

serve({
  network,
  node: ({ serveValues, ...opts }) => addNode(makeNode(opts), { serveValues }),
  bootstrapper: ({ port, host, ...opts }) => addNode(DHT.bootstrapper(port, host, { host: '127.0.0.1', ...opts })),
  'node.info': ({ node }) => describe(handles.get(node)),
  'node.stats': ({ node }) => handles.get(node).stats,
  'node.stored': ({ node }) => [...handles.get(node).store.values()],
  'node.addNode': ({ node, host, port }) => void handles.get(node).addNode({ host, port }),
  'node.refresh': ({ node }) => handles.get(node).refresh(),
  'node.suspend': ({ node }) => handles.get(node).suspend(),
  'node.resume': ({ node }) => handles.get(node).resume(),
  'node.destroy': ({ node }) => handles.get(node).destroy(),
  ping: async ({ node, host, port, size }) => reply(await handles.get(node).ping({ host, port }, { size })),
  delayedPing: async ({ node, host, port, delayMs }) => reply(await handles.get(node).delayedPing({ host, port }, delayMs)),
  request: async ({ node, host, port, target, command, value, token, ...opts }) =>
    reply(await handles.get(node).request({ target: hex(target), command, value: hex(value), token: hex(token) }, { host, port }, opts)),
  query,
  findNode: async ({ node, target }) => {
    const q = handles.get(node).findNode(hex(target))
    await q.finished()
    return { closestNodes: q.closestNodes, closestReplies: q.closestReplies.map(reply) }
  },
  // put and get: the README's program.
  put: async ({ node, value }) => {
    const key = crypto.createHash('sha256').update(hex(value)).digest()
    const q = handles.get(node).query({ target: key, command: VALUES, value: hex(value) }, { commit: true })
    await q.finished()
    return { key, closestNodes: q.closestNodes }
  },
  get: async ({ node, key }) => {
    for await (const r of handles.get(node).query({ target: hex(key), command: VALUES })) {
      if (r.value && crypto.createHash('sha256').update(r.value).digest('hex') === key) return { value: r.value, from: r.from }
    }
    return null
  }
})
