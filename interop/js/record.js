// The recorder of vectors: from the inputs that stand in testdata/, what do the
// reference implementations compute today? `record {file}` reads
// ../testdata/<file>, computes each section that is listed below anew and
// returns {sections: {name: {recorded, computed}}, rewritten}, where rewritten
// is the whole file with the computed sections in place. Conversations that
// were captured (datagrams with ports and times) are not computed anew.
const fs = require('fs')
const path = require('path')
const { createRequire } = require('module')
const { serve, hex } = require('./lib')

// from requires what a package itself requires.
const from = (name) => createRequire(require.resolve(name))
const sodium = from('hyperdht')('sodium-universal')
const c = from('dht-rpc')('compact-encoding')
const NatSampler = from('dht-rpc')('nat-sampler')
const Noise = from('hyperdht')('noise-handshake')
const curve = from('hyperdht')('noise-curve-ed')
const crypto = from('hyperdht')('hypercore-crypto')
const z32 = from('hyperdht-address')('z32')
const peer = require('dht-rpc/lib/peer')
const { hkdf } = from('hyperdht')('noise-handshake/hkdf')
const hmac = from('hyperdht')('noise-handshake/hmac')

const text = (b) => Buffer.from(b).toString('hex')

function hash(data, bytes = 32, key) {
  const out = Buffer.alloc(bytes)
  if (key) sodium.crypto_generichash(out, data, key)
  else sodium.crypto_generichash(out, data)
  return out
}

const encode = (encoding, value) => text(c.encode(encoding, value))

function decodeUint(v) {
  const state = { start: 0, end: v.hex.length / 2, buffer: hex(v.hex) }
  try {
    const value = c.uint.decode(state)
    return { hex: v.hex, value, consumed: state.start }
  } catch {
    return v // the kinds of errors are warren's own words
  }
}

// A step of the sampler: its state after a sample.
function sample(run) {
  const s = new NatSampler()
  return {
    ...run,
    steps: run.steps.map(({ add, ...rest }) => {
      s.add(add.host, add.port)
      return { add, ...rest, host: s.host, port: s.port, size: s.size, threshold: s._threshold }
    })
  }
}

const pair = (seed) => curve.generateKeyPair(hex(seed))

function keyPairOf({ seed }) {
  const { publicKey, secretKey } = pair(seed)
  const scalar = Buffer.alloc(64)
  sodium.crypto_hash_sha512(scalar, secretKey.subarray(0, 32))
  scalar[0] &= 248
  scalar[31] = (scalar[31] & 127) | 64
  return {
    seed,
    public_key: text(publicKey),
    secret_key: text(secretKey),
    dh_scalar: text(scalar.subarray(0, 32)),
    blake2b_256_of_public_key: text(hash(publicKey)),
    discovery_key: text(crypto.discoveryKey(publicKey)),
    z32: z32.encode(publicKey)
  }
}

function dhRejected(v) {
  try {
    curve.dh(hex(v.public_key), pair('01'.repeat(32)))
  } catch {
    return v
  }
  return { ...v, why: 'accepted by the reference' }
}

function hashOf(v) {
  const bytes = v.what.includes('512') ? 64 : 32
  return { ...v, out: text(hash(hex(v.data), bytes, v.key === null ? undefined : hex(v.key))) }
}

const mac = (key, data) => {
  const out = Buffer.alloc(64)
  hmac(out, data, key)
  return out
}

const state = (n) => ({ h: text(n.digest), ck: text(n.chainingKey), k: n.key ? text(n.key) : null, n: n.nonce })

// A whole handshake from its seeds and payloads.
function handshake(v) {
  const side = (who, initiator) => {
    const n = new Noise(v.pattern, initiator, pair(v[who].static_seed), { curve })
    n.initialise(hex(v.prologue), initiator && v.pattern === 'IK' ? pair(v.responder.static_seed).publicKey : undefined)
    n.e = pair(v[who].ephemeral_seed)
    return n
  }
  const sides = { initiator: side('initiator', true), responder: side('responder', false) }
  const keys = (who) => ({
    static_seed: v[who].static_seed,
    static_public: text(sides[who].s.publicKey),
    ephemeral_seed: v[who].ephemeral_seed,
    ephemeral_public: text(sides[who].e.publicKey)
  })
  const computed = { ...v, protocol: sides.initiator.protocol.toString(), initiator: keys('initiator'), responder: keys('responder'), after_initialise: state(sides.initiator) }
  computed.messages = v.messages.map((m) => {
    const a = sides[m.from]
    const b = m.from === 'initiator' ? sides.responder : sides.initiator
    const message = a.send(hex(m.payload))
    const out = { from: m.from, payload: m.payload, message: text(message) }
    if (text(b.recv(message)) !== m.payload) throw new Error('the reference does not understand itself')
    if (!a.complete) out.after = state(a)
    return out
  })
  computed.initiator_tx = text(sides.initiator.tx)
  computed.initiator_rx = text(sides.initiator.rx)
  computed.handshake_hash = text(sides.initiator.hash)
  computed.responder_sees_static = text(sides.responder.rs)
  return computed
}

function firstMessage(v) {
  const n = new Noise(v.pattern, false, pair(v.responder_static_seed), { curve })
  n.initialise(hex(v.prologue))
  try {
    return { ...v, accepted: true, payload: text(n.recv(hex(v.message))) }
  } catch {
    return { ...v, accepted: false, payload: null }
  }
}

// One run of a secretstream. A pusher that starts from a recorded header is a
// puller's state: the two are the same.
function secretstream(v) {
  const s = Buffer.alloc(sodium.crypto_secretstream_xchacha20poly1305_STATEBYTES)
  sodium.crypto_secretstream_xchacha20poly1305_init_pull(s, hex(v.header), hex(v.key))
  if (v.name.includes('wraps')) hex(v.initial_nonce).copy(s, 32) // the run starts at a counter of its own
  const subkey = () => text(s.subarray(0, 32))
  const nonce = () => text(s.subarray(32, 44))
  const initial = { initial_subkey: subkey(), initial_nonce: nonce() }
  return {
    ...v,
    ...initial,
    messages: v.messages.map(({ tag, plaintext }) => {
      const out = Buffer.alloc(plaintext.length / 2 + sodium.crypto_secretstream_xchacha20poly1305_ABYTES)
      sodium.crypto_secretstream_xchacha20poly1305_push(s, out, hex(plaintext), null, tag)
      return { tag, plaintext, ciphertext: text(out), subkey_after: subkey(), nonce_after: nonce() }
    })
  }
}

const each = (f) => (list) => list.map(f)

// The sections, by file and dotted name.
const sections = {
  'dht-rpc.json': {
    'uint.encode': each(({ value }) => ({ value, hex: encode(c.uint, value) })),
    'uint.decode': each(decodeUint),
    ipv4_address: each(({ host, port }) => ({ host, port, hex: encode(c.ipv4Address, { host, port }) })),
    ids: each(({ host, port }) => ({ host, port, input: encode(c.ipv4Address, { host, port }), id: text(peer.id(host, port)) })),
    'tokens.derive': each(({ host, secret }) => ({ host, secret, token: text(hash(Buffer.from(host), 32, hex(secret))) })),
    nat_sampler: each(sample)
  },
  'noise.json': {
    key_pairs: each(keyPairOf),
    dh: each((v) => ({ ...v, shared: text(curve.dh(hex(v.public_key), pair(v.secret_seed))) })),
    dh_scalar: each((v) => ({ ...v, shared: text(curve.dh(hex(v.public_key), { scalar: hex(v.scalar) })) })),
    dh_rejected: each(dhRejected),
    hashes: each(hashOf),
    hmac: each((v) => ({ ...v, out: text(mac(hex(v.key), hex(v.data))) })),
    hkdf: each((v) => ({ ...v, outputs: hkdf(hex(v.chaining_key), hex(v.input), '', v.outputs.length * 64).map(text) })),
    namespaces: each((v) => ({ ...v, out: crypto.namespace(v.name, v.ids).map(text) })),
    handshakes: each(handshake),
    first_messages: each(firstMessage)
  },
  'secretstream.json': {
    secretstream: each(secretstream)
  },
  'hyperdht-records.json': {
    immutables: each((v) => ({ ...v, target: text(hash(hex(v.value))) }))
  }
}

serve({
  files: () => Object.keys(sections),
  record: ({ file }) => {
    const recorded = JSON.parse(fs.readFileSync(path.join(__dirname, '..', '..', 'testdata', file), 'utf8'))
    const result = {}
    for (const [name, compute] of Object.entries(sections[file])) {
      const keys = name.split('.')
      const last = keys.pop()
      const holder = keys.reduce((o, k) => o[k], recorded)
      const before = holder[last]
      holder[last] = compute(before)
      result[name] = { recorded: before, computed: holder[last] }
    }
    return { sections: result, rewritten: JSON.stringify(recorded, null, 1) + '\n' }
  }
})
