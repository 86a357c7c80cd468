// A blind relay and its clients over TCP, with real UDX streams to be relayed.
// Commands: the table at the end of this file.
const net = require('net')
const SecretStream = require('@hyperswarm/secret-stream')
const BlindRelay = require('blind-relay')
const UDX = require('udx-native')
const { serve, emit, hex, Handles, Wire, streamMethods } = require('./lib')

const handles = new Handles()
const udx = new UDX()
const socket = udx.createSocket()
socket.bind(0, '127.0.0.1')

const server = new BlindRelay.Server({
  createStream: (opts) => {
    const id = 1 + Math.floor(Math.random() * 0xfffffffe)
    const stream = udx.createStream(id, opts)
    // The socket has to know that it may get packets for the stream.
    return stream
  }
})

// relay -> {port}: a relay for whoever connects.
function relay() {
  return new Promise((resolve, reject) => {
    const listener = net.createServer((raw) => {
      const stream = new SecretStream(false, raw)
      stream.on('error', () => {})
      stream.on('open', () => {
        const session = server.accept(stream, { id: stream.remotePublicKey })
        session.on('error', () => {})
        session.on('pair', (isInitiator, token, s, remoteId) => emit('pair', { isInitiator, token, id: s.id, remoteId }))
        session.on('close', () => emit('session-close', {}))
      })
    })
    listener.on('error', reject)
    listener.listen(0, '127.0.0.1', () => resolve({ port: listener.address().port, udp: socket.address().port }))
  })
}

// client {port, udp}: a client of the relay at a TCP and a UDP port.
function client({ port, udp }) {
  const stream = new SecretStream(true, net.connect(port, '127.0.0.1'))
  stream.on('error', () => {})
  return new Promise((resolve, reject) => {
    stream.on('close', () => reject(new Error('closed')))
    stream.on('open', () => {
      const client = new BlindRelay.Client(stream, { id: stream.publicKey })
      client.on('close', () => emit('client-close', {}))
      resolve({ client: handles.add('client', { client, stream, udp }) })
    })
  })
}

// pair {client, isInitiator, token} -> {stream}: connected through the relay.
function pair({ client, isInitiator, token }) {
  const c = handles.get(client)
  const stream = udx.createStream(1 + Math.floor(Math.random() * 0xfffffffe))
  return new Promise((resolve, reject) => {
    const request = c.client.pair(isInitiator, hex(token), stream)
    request.on('error', reject)
    request.on('data', (remoteId) => {
      stream.connect(socket, remoteId, c.udp, '127.0.0.1')
      resolve({ stream: handles.add('stream', new Wire(stream, {})), id: stream.id, remoteId })
    })
  })
}

serve({
  ...streamMethods(handles),
  relay,
  client,
  pair,
  unpair: ({ client, token }) => void handles.get(client).client.unpair(hex(token)),
  stats: () => JSON.parse(JSON.stringify(server.stats)),
  close: ({ client }) => void handles.get(client).client.destroy()
})
