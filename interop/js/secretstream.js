// A secret-stream peer over TCP: both Noise patterns, either side, protomux.
// Commands: the table at the end of this file.
const net = require('net')
const SecretStream = require('@hyperswarm/secret-stream')
const Protomux = require('protomux')
const c = require('compact-encoding')
const { serve, emit, hex, Handles, Wire, streamMethods } = require('./lib')

const handles = new Handles()
const keyPair = (seed) => SecretStream.keyPair(seed ? hex(seed) : undefined)

function options({ seed, pattern, remotePublicKey, keepAlive }) {
  return { keyPair: keyPair(seed), pattern, remotePublicKey: hex(remotePublicKey), keepAlive }
}

function track(stream, mode) {
  const handle = handles.add('stream', mode.mode === 'mux' ? { stream, mux: new Protomux(stream) } : new Wire(stream, mode))
  stream.on('error', () => {})
  stream.on('open', () => emit('open', { stream: handle, ...describe(stream) }))
  stream.on('close', () => emit('close', { stream: handle }))
  stream.on('message', (data) => emit('stream-message', { stream: handle, data }))
  return handle
}

const describe = (s) => ({
  publicKey: s.publicKey,
  remotePublicKey: s.remotePublicKey,
  handshakeHash: s.handshakeHash,
  isInitiator: s.isInitiator,
  rawBytesWritten: s.rawBytesWritten,
  rawBytesRead: s.rawBytesRead
})

// listen {seed, pattern, mode: echo|sink|source|mux, bytes, patternSeed}: each
// TCP connection is the responder of a stream, reported by the event
// "connection".
function listen({ mode, bytes, patternSeed, ...opts }) {
  return new Promise((resolve, reject) => {
    const server = net.createServer((socket) => {
      socket.setNoDelay(true)
      emit('connection', { stream: track(new SecretStream(false, socket, options(opts)), { mode, bytes, seed: patternSeed }) })
    })
    server.on('error', reject)
    server.listen(0, '127.0.0.1', () => resolve({ port: server.address().port, publicKey: keyPair(opts.seed).publicKey }))
  })
}

// connect {port, seed, pattern, remotePublicKey, mode, bytes, patternSeed}
function connect({ port, mode, bytes, patternSeed, ...opts }) {
  const socket = net.connect(port, '127.0.0.1')
  socket.setNoDelay(true)
  return { stream: track(new SecretStream(true, socket, options(opts)), { mode, bytes, seed: patternSeed }) }
}

const raw = ({ stream }) => handles.get(stream).stream

// A channel of a stream in mode "mux": its messages are raw byte strings, and
// all that happens to it is an event "channel" with a name.
function open({ stream, protocol, id, handshake, messages = 1, aliases = [] }) {
  const { mux } = handles.get(stream)
  const say = (name, data) => emit('channel', { channel: handle, name, ...data })
  const channel = mux.createChannel({
    protocol,
    aliases,
    id: hex(id),
    handshake: handshake === undefined ? null : c.raw,
    onopen: (data) => say('open', { handshake: data }),
    onclose: (isRemote) => say('close', { isRemote }),
    ondestroy: () => say('destroy'),
    ondrain: () => say('drain')
  })
  const handle = handles.add('channel', channel)
  if (channel === null) throw new Error('the channel is open already')
  channel.sent = []
  for (let i = 0; i < messages; i++) {
    channel.sent.push(channel.addMessage({ encoding: c.raw, onmessage: (data) => say('message', { type: i, data }) }))
  }
  channel.open(handshake === undefined ? undefined : hex(handshake))
  return { channel: handle }
}

serve({
  ...streamMethods(handles),

  keyPair: ({ seed }) => keyPair(seed),
  listen,
  connect,
  'stream.info': ({ stream }) => describe(raw({ stream })),
  'stream.keepAlive': ({ stream, ms }) => void raw({ stream }).setKeepAlive(ms),
  'stream.timeout': ({ stream, ms }) => void raw({ stream }).setTimeout(ms),
  'channel.open': open,
  // pair {stream, protocol, id}: the event "pair" when the other side opens it first.
  'mux.pair': ({ stream, protocol, id }) =>
    void handles.get(stream).mux.pair({ protocol, id: hex(id) }, (theirs) => emit('pair', { stream, protocol, id: theirs })),
  // mux.cork {stream}: opens and messages wait, for one batch, until mux.uncork.
  'mux.cork': ({ stream }) => void handles.get(stream).mux.cork(),
  'mux.uncork': ({ stream }) => void handles.get(stream).mux.uncork(),
  'channel.send': ({ channel, type = 0, data }) => handles.get(channel).sent[type].send(hex(data)),
  'channel.close': ({ channel }) => void handles.get(channel).close()
})
