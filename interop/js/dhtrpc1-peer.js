// A dht-rpc 2.3.0 node for the NAT laboratory: bound to every address, with the
// command "echo". Prints {"id", "port"} once it is ready, then answers each line
// of JSON on stdin with one on stdout:
//
//   {"ping": "host:port"}                        -> {"host", "port"} as seen there
//   {"holepunch": peer, "referrer": referrer}    -> {"ok"}
//   {"query": peer, "referrer": referrer}        -> {"value"} of an echo
//
// Arguments: the bootstrap nodes. EPHEMERAL=1 keeps the id to itself.
const readline = require('readline')
const dht = require('dht-rpc-v2')

const node = dht({ bootstrap: process.argv.slice(2), ephemeral: !!process.env.EPHEMERAL })
node.on('query:echo', (q, cb) => cb(null, q.value))
node.on('update:echo', (q, cb) => cb(null, q.value))

const say = (o) => process.stdout.write(JSON.stringify(o) + '\n')
const parse = (addr) => ({ host: addr.split(':')[0], port: Number(addr.split(':')[1]) })

function answer(m) {
  if (m.ping) return node.ping(m.ping, (err, seen) => say(err ? { error: err.message } : seen))
  if (m.holepunch) {
    // Version 2 does not open its own NAT towards the peer: a ping does.
    node.ping(m.holepunch, () => {})
    return node.holepunch(m.holepunch, m.referrer, (err) => say(err ? { error: err.message } : { ok: true }))
  }
  const peer = { ...parse(m.query), referrer: parse(m.referrer) }
  const query = { command: 'echo', target: Buffer.alloc(32, 7), value: Buffer.from('through the NATs') }
  node.query(query, { nodes: [peer] }, (err, replies) => {
    if (err || !replies.length) say({ error: err ? err.message : 'no reply' })
    else say({ value: replies[0].value.toString() })
  })
}

node.listen(0, () => {
  node.ready(() => say({ id: node.id.toString('hex'), port: node.address().port }))
})
const input = readline.createInterface({ input: process.stdin })
input.on('line', (line) => answer(JSON.parse(line)))
input.on('close', () => process.exit(0))
