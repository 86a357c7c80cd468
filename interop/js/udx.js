// A libudx peer: sockets and bare streams.
// Command line: the package, "udx-native" (default), "udx-native-1183" or
// "udx-native-1207". Commands: the table at the end of this file.
const UDX = require(process.argv[2] || 'udx-native')
const { serve, emit, hex, Handles, Wire, streamMethods } = require('./lib')

const handles = new Handles()
const udx = new UDX()

function bind({ port = 0, host = '127.0.0.1', receiveBuffer } = {}) {
  const socket = udx.createSocket()
  socket.bind(port, host)
  if (receiveBuffer) socket.setRecvBufferSize(receiveBuffer)
  const handle = handles.add('socket', socket)
  socket.on('message', (data, from) => emit('message', { socket: handle, data, host: from.host, port: from.port }))
  return { socket: handle, host, port: socket.address().port }
}

// A Wire is a stream of lib.js; beside the bytes it counts ends that came
// with code and keeps unordered messages as the event "stream-message".
function track(stream, mode) {
  const wire = new Wire(stream, mode)
  const handle = handles.add('stream', wire)
  stream.on('message', (data) => emit('stream-message', { stream: handle, data }))
  stream.on('remote-changed', () => emit('remote-changed', { stream: handle }))
  return handle
}

// create {id, seq, framed, socket, remoteId, port, host, mode, bytes, seed}:
// a stream connected to an address; without a port it waits until `connect`.
function create({ id, seq, framed = false, socket, remoteId, port, host = '127.0.0.1', mode, bytes, seed }) {
  const stream = udx.createStream(id, { seq, framed })
  if (port) stream.connect(handles.get(socket), remoteId, port, host)
  return { stream: track(stream, { mode, bytes, seed }) }
}

// accept {id, remoteId, mode, bytes, seed}: a stream that connects itself to
// whoever sends its first packet.
function accept({ id, remoteId, mode, bytes, seed }) {
  const stream = udx.createStream(id, {
    firewall(socket, port, host) {
      stream.connect(socket, remoteId, port, host)
      return false
    }
  })
  return { stream: track(stream, { mode, bytes, seed }) }
}

const raw = ({ stream }) => handles.get(stream).stream

serve({
  ...streamMethods(handles),

  bind,
  'socket.send': ({ socket, data, port, host = '127.0.0.1', ttl }) => void handles.get(socket).trySend(hex(data), port, host, ttl),
  'socket.close': ({ socket }) => handles.get(socket).close(),
  create,
  accept,
  'stream.connect': ({ stream, socket, remoteId, port, host = '127.0.0.1', ack }) => void raw({ stream }).connect(handles.get(socket), remoteId, port, host, { ack }),
  'stream.changeRemote': ({ stream, socket, remoteId, port, host = '127.0.0.1' }) => raw({ stream }).changeRemote(handles.get(socket), remoteId, port, host),
  'stream.relayTo': ({ stream, to }) => void raw({ stream }).relayTo(raw({ stream: to })),
  'stream.message': ({ stream, data }) => void raw({ stream }).trySend(hex(data)),
  'stream.keepalive': ({ stream, ms }) => void raw({ stream }).setKeepalive(ms),
  'stream.flush': ({ stream }) => raw({ stream }).flush(),
  'stream.stats': ({ stream }) => {
    const s = raw({ stream })
    return {
      mtu: s.mtu,
      rtt: s.rtt,
      cwnd: s.cwnd,
      inflight: s.inflight,
      retransmits: s.retransmits,
      fastRecoveries: s.fastRecoveries,
      rtoCount: s.rtoCount,
      bytesTransmitted: s.bytesTransmitted,
      packetsTransmitted: s.packetsTransmitted,
      bytesReceived: s.bytesReceived,
      packetsReceived: s.packetsReceived,
      remoteHost: s.remoteHost,
      remotePort: s.remotePort,
      remoteId: s.remoteId
    }
  }
})
