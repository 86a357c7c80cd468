// A bittorrent-dht peer: nodes, lookups, announces and BEP 44 items.
// Commands: the table at the end of this file.
const crypto = require('crypto')
const { serve, emit, hex, Handles } = require('./lib')

const handles = new Handles()
const loaded = import('bittorrent-dht')

// Ed25519 of node's own, in the shape that bittorrent-dht asks for.
const spki = Buffer.from('302a300506032b6570032100', 'hex')
const pkcs8 = Buffer.from('302e020100300506032b657004220420', 'hex')

function verify(signature, message, key) {
  const publicKey = crypto.createPublicKey({ key: Buffer.concat([spki, key]), format: 'der', type: 'spki' })
  return crypto.verify(null, message, publicKey, signature)
}

function keyPair(seed) {
  const privateKey = crypto.createPrivateKey({ key: Buffer.concat([pkcs8, hex(seed)]), format: 'der', type: 'pkcs8' })
  const publicKey = crypto.createPublicKey(privateKey).export({ format: 'der', type: 'spki' }).subarray(-32)
  return { publicKey, sign: (message) => crypto.sign(null, message, privateKey) }
}

// node {bootstrap: ["host:port"], nodeId, host, port, concurrency}
async function create({ bootstrap = [], nodeId, port = 0, ...opts }) {
  const { default: DHT } = await loaded
  const node = new DHT({ ...opts, nodeId, verify, bootstrap: bootstrap.length ? bootstrap : false })
  const handle = handles.add('node', node)
  node.on('warning', (err) => emit('warning', { node: handle, message: err.message }))
  node.on('announce', (peer, infoHash) => emit('announce', { node: handle, peer, infoHash }))
  await new Promise((resolve, reject) => {
    node.on('error', reject)
    node.on('ready', resolve)
    node.listen(port, '127.0.0.1')
  })
  return { node: handle, ...describe(node) }
}

const describe = (node) => ({ host: '127.0.0.1', port: node.address().port, id: hex(node.nodeId.toString('hex')), nodes: node.toJSON().nodes })

async function network({ size = 10 }) {
  const nodes = []
  const bootstrap = []
  for (let i = 0; i < size; i++) {
    nodes.push(await create({ bootstrap }))
    if (i === 0) bootstrap.push(`127.0.0.1:${nodes[0].port}`)
  }
  return { bootstrap, nodes }
}

const call = (node, method, ...args) =>
  new Promise((resolve, reject) => handles.get(node)[method](...args, (err, ...r) => (err ? reject(err) : resolve(r))))

async function lookup({ node, infoHash }) {
  const peers = []
  const onpeer = (peer, hash, from) => {
    if (hash.toString('hex') === infoHash) peers.push({ host: peer.host, port: peer.port, from })
  }
  handles.get(node).on('peer', onpeer)
  try {
    const [n] = await call(node, 'lookup', infoHash)
    return { peers, n }
  } finally {
    handles.get(node).off('peer', onpeer)
  }
}

// put {node, value, seed, seq, salt, cas}: mutable with a seed. The value is a
// byte string; the answer is its target and how many nodes took it.
async function put({ node, value, seed, seq, salt, cas }) {
  const opts = { v: hex(value) }
  if (seed) {
    const k = keyPair(seed)
    Object.assign(opts, { k: k.publicKey, sign: k.sign, seq, cas })
    if (salt) opts.salt = hex(salt)
  }
  const [target, stored] = await call(node, 'put', opts)
  return { target, stored, publicKey: opts.k }
}

async function get({ node, target, salt, cache = false }) {
  const [r] = await call(node, 'get', target, { cache, salt: hex(salt) || undefined })
  return r && { value: r.v, seq: r.seq, publicKey: r.k, signature: r.sig, salt: r.salt, id: r.id }
}

serve({
  network,
  node: create,
  'node.info': ({ node }) => describe(handles.get(node)),
  'node.toJSON': ({ node }) => handles.get(node).toJSON(),
  'node.addNode': ({ node, host, port }) => void handles.get(node).addNode({ host, port }),
  'node.destroy': ({ node }) => call(node, 'destroy'),
  lookup,
  announce: ({ node, infoHash, port }) => call(node, 'announce', infoHash, ...(port ? [port] : [])).then(() => null),
  put,
  get,
  // query {node, host, port, q, a}: one raw KRPC query, byte strings of `a` in
  // hex; the answer is the bencoded dictionary's fields.
  query: ({ node, host, port, q, a = {} }) =>
    new Promise((resolve, reject) => {
      const rpc = handles.get(node)._rpc
      const args = Object.fromEntries(Object.entries(a).map(([k, v]) => [k, typeof v === 'string' ? hex(v) : v]))
      rpc.query({ host, port }, { q, a: { id: rpc.id, ...args } }, (err, reply) => (err ? reject(err) : resolve(reply.r)))
    })
})
