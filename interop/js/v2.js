// A dht-rpc 2.3.0 peer, which speaks the wire of 1.x: the README's key-value
// store. Commands: the table at the end of this file.
const crypto = require('crypto')
const dgram = require('dgram')
const dht = require('dht-rpc-v2')
const { serve, emit, hex, Handles } = require('./lib')

const handles = new Handles()

// The README's store, command "values": an update stores under the SHA-256 of
// the value, a query reads. "echo" returns the value to queries and updates,
// "refuse" answers neither (the reference sends nothing after an error).
function answer(node) {
  node.store = new Map()
  node.on('query:values', (q, cb) => cb(null, node.store.get(q.target.toString('hex'))))
  node.on('update:values', (q, cb) => {
    if (q.value) node.store.set(crypto.createHash('sha256').update(q.value).digest('hex'), q.value)
    cb()
  })
  for (const kind of ['query', 'update']) {
    node.on(kind + ':echo', (q, cb) => cb(null, q.value))
    node.on(kind + ':refuse', (q, cb) => cb(new Error('refused')))
  }
}

// node {id, bootstrap: ["host:port"], ephemeral, port, concurrency, serveValues}
function create({ id, bootstrap = [], port = 0, serveValues = true, ...opts }) {
  // Its own listen cannot bind to one address, so it gets a bound socket.
  const socket = dgram.createSocket('udp4')
  const node = dht({ ...opts, id: hex(id) || undefined, bootstrap, socket })
  const handle = handles.add('node', node)
  if (serveValues) answer(node)
  node.on('holepunch', (from, to) => emit('holepunch', { node: handle, from, to }))
  return new Promise((resolve, reject) => {
    socket.on('error', reject)
    socket.bind(port, '127.0.0.1', () => node.ready(() => resolve({ node: handle, ...describe(node) })))
  })
}

const describe = (node) => ({
  host: '127.0.0.1',
  port: node.address().port,
  id: node.id,
  ephemeral: node.ephemeral,
  nodes: node.toArray().map(({ id, host, port }) => ({ id, host, port }))
})

// network {size}: the README's bootstrap node, which is ephemeral, and `size` others.
async function network({ size = 10 }) {
  const first = await create({ ephemeral: true, serveValues: false })
  const bootstrap = [`127.0.0.1:${first.port}`]
  const nodes = []
  for (let i = 0; i < size; i++) nodes.push(await create({ bootstrap }))
  return { bootstrap, nodes }
}

// run {node, command, target, value, opts: {query, verbose, holepunching, nodes}}
const run = (method) => ({ node, command, target, value, opts = {} }) =>
  new Promise((resolve, reject) => {
    const replies = []
    const stream = handles.get(node)[method]({ command, target: hex(target), value: hex(value) }, opts)
    stream.on('data', (r) => replies.push(r))
    stream.on('error', reject)
    stream.on('end', () => resolve({ replies, inflight: stream.inflight }))
  })

const call = (node, method, ...args) =>
  new Promise((resolve, reject) => handles.get(node)[method](...args, (err, ...r) => (err ? reject(err) : resolve(r))))

serve({
  network,
  node: create,
  'node.info': ({ node }) => describe(handles.get(node)),
  'node.stored': ({ node }) => [...handles.get(node).store.values()],
  'node.bootstrap': ({ node }) => call(node, 'bootstrap'),
  'node.destroy': ({ node }) => void handles.get(node).destroy(),
  query: run('query'),
  update: run('update'),
  // ping {node, peer: "host:port"} -> our address as the peer sees it, and the peer.
  ping: async ({ node, peer }) => {
    const [to, from] = await call(node, 'ping', peer)
    return { to, from }
  },
  holepunch: async ({ node, peer, referrer }) => void (await call(node, 'holepunch', peer, referrer))
})
