// What every script here shares: the loop of commands on standard input, the
// table of handles, and streams as the tests drive them.
//
// A command is one line {"id", "method", "params"}; the answer is one line
// {"id", "result"} or {"id", "error": {"message", "code"}}. Commands run
// concurrently. A line {"event", "data"} may come at any time. Byte strings
// are hex in both directions.
const crypto = require('crypto')
const readline = require('readline')

const hex = (s) => (s === undefined || s === null ? null : Buffer.from(s, 'hex'))
exports.hex = hex

function line(o) {
  // The replacer sees a Buffer only after its toJSON, so it asks the holder.
  process.stdout.write(
    JSON.stringify(o, function (key, value) {
      const raw = this[key]
      if (raw instanceof Uint8Array) return Buffer.from(raw).toString('hex')
      return typeof value === 'bigint' ? Number(value) : value
    }) + '\n'
  )
}

exports.emit = (event, data) => line({ event, data })

// serve answers commands with methods[name](params) until the input ends.
exports.serve = (methods) => {
  const input = readline.createInterface({ input: process.stdin })
  input.on('line', async (text) => {
    const { id, method, params } = JSON.parse(text)
    try {
      if (!Object.hasOwn(methods, method)) throw new Error('no such method: ' + method)
      line({ id, result: (await methods[method](params || {})) ?? null })
    } catch (err) {
      line({ id, error: { message: err.message || String(err), code: err.code === undefined ? '' : String(err.code) } })
    }
  })
  input.on('close', () => process.exit(0))
  line({ event: 'ready', data: { pid: process.pid, node: process.version } })
}

// A Handles table names objects for the other side: "conn1", "conn2", ...
exports.Handles = class Handles {
  constructor() {
    this.last = 0
    this.all = new Map()
  }

  add(kind, value) {
    const handle = kind + ++this.last
    this.all.set(handle, value)
    return handle
  }

  get(handle) {
    if (!this.all.has(handle)) throw new Error('no such handle: ' + handle)
    return this.all.get(handle)
  }

  delete(handle) {
    this.all.delete(handle)
  }
}

// pattern(seed) is an endless, reproducible byte source: the keystream of
// AES-256 in counter mode under SHA-256 of the seed. Go's side is interop.Pattern.
function pattern(seed) {
  const key = crypto.createHash('sha256').update(String(seed)).digest()
  const cipher = crypto.createCipheriv('aes-256-ctr', key, Buffer.alloc(16))
  return (n) => cipher.update(Buffer.alloc(n))
}
exports.pattern = pattern

// A Wire is one duplex stream under test. It counts and hashes what arrives.
class Wire {
  constructor(stream, mode) {
    this.stream = stream
    this.rest = null
    this.bytes = 0
    this.sum = crypto.createHash('sha256')
    this.error = null
    this.state = { open: false, end: false, close: false }
    this.waiting = new Set()
    const reached = (what) => () => {
      this.state[what] = true
      this.wake()
    }
    stream.on('open', reached('open'))
    stream.on('connect', reached('open'))
    stream.on('end', reached('end'))
    stream.on('close', reached('close'))
    stream.on('readable', () => this.wake())
    stream.on('drain', () => this.wake())
    stream.on('error', (err) => {
      this.error = err
      this.wake()
    })
    const fail = (err) => {
      this.error ||= err
      this.wake()
    }
    if (mode.mode === 'echo') this.echo().catch(fail)
    else if (mode.mode === 'sink') this.receive(Infinity).catch(fail)
    else if (mode.mode === 'source') this.send(mode.seed, mode.bytes).then(() => stream.end()).catch(fail)
    else if (mode.mode) throw new Error('no such mode: ' + mode.mode)
  }

  wake() {
    for (const done of this.waiting) done()
    this.waiting.clear()
  }

  change() {
    return new Promise((resolve) => this.waiting.add(resolve))
  }

  // next takes what has arrived, at most max bytes; null is the end.
  async next(max) {
    for (;;) {
      let d = this.rest || this.stream.read()
      this.rest = null
      if (d !== null && d !== undefined) {
        if (d.length > max) {
          this.rest = d.subarray(max)
          d = d.subarray(0, max)
        }
        this.bytes += d.length
        this.sum.update(d)
        return d
      }
      if (this.state.end || this.state.close) return null
      await this.change()
    }
  }

  async write(d) {
    if (this.state.close || this.stream.destroyed) throw this.error || new Error('stream is closed')
    if (this.stream.write(d) !== false) return
    let drained = false
    this.stream.once('drain', () => {
      drained = true
    })
    while (!drained && !this.state.close) await this.change()
  }

  async echo() {
    for (let d; (d = await this.next(Infinity)) !== null; ) await this.write(Buffer.from(d))
    this.stream.end()
  }

  async send(seed, bytes, chunk = 65536) {
    const take = pattern(seed)
    for (let left = bytes; left > 0; left -= chunk) await this.write(take(Math.min(left, chunk)))
  }

  async receive(bytes) {
    const before = this.bytes
    while (this.bytes - before < bytes) {
      if ((await this.next(bytes - (this.bytes - before))) === null) break
    }
    return this.report()
  }

  async read(bytes) {
    const parts = []
    let n = 0
    while (n < bytes) {
      const d = await this.next(bytes - n)
      if (d === null) break
      parts.push(d)
      n += d.length
    }
    return Buffer.concat(parts)
  }

  async wait(what) {
    while (!this.state[what] && !this.state.close) await this.change()
    const report = this.report()
    if (!this.state[what] && what === 'open') throw this.error || new Error('closed before it was open')
    return report
  }

  report() {
    const code = this.error ? String(this.error.code || this.error.message) : ''
    return { bytes: this.bytes, sha256: this.sum.copy().digest(), ...this.state, error: code }
  }
}
exports.Wire = Wire

// streamMethods are the commands on streams that a script has given a handle.
exports.streamMethods = (handles) => ({
  // write {stream, data}: resolves when the stream wants more.
  'stream.write': ({ stream, data }) => handles.get(stream).write(hex(data)),
  // read {stream, bytes} -> hex, shorter only at the end.
  'stream.read': ({ stream, bytes }) => handles.get(stream).read(bytes),
  // send {stream, seed, bytes, chunk}: the pattern, with backpressure honoured.
  'stream.send': ({ stream, seed, bytes, chunk }) => handles.get(stream).send(seed, bytes, chunk),
  // receive {stream, bytes} -> report; without bytes until the end.
  'stream.receive': ({ stream, bytes }) => handles.get(stream).receive(bytes === undefined ? Infinity : bytes),
  // wait {stream, what: open|end|close} -> report of all bytes so far.
  'stream.wait': ({ stream, what }) => handles.get(stream).wait(what),
  'stream.report': ({ stream }) => handles.get(stream).report(),
  'stream.end': ({ stream }) => void handles.get(stream).stream.end(),
  'stream.destroy': ({ stream, error }) => void handles.get(stream).stream.destroy(error ? new Error(error) : undefined)
})
