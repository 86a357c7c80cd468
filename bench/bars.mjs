// The bars: what warren has to reach against its peers in the same run.
// Each: workload, case, what, field, the bar (≥ or ≤ a multiple of the peer's
// figure, or with "abs" a figure), and where the two sides are not warren and
// js: which. A field may be a function of a result.
// The network between the two is the same program on both sides.
const ends = (r) => r.cpu_ms.cli + r.cpu_ms.srv
// Packets beside the least that could carry the bytes in full datagrams: 1472
// bytes less 20 of header.
const packets = (r) => r.packets / (r.bytes / r.conns / 1452)
const resent = (r) => r.retransmits / r.packets

const requests = [['ping', 1.6, 0.62], ['find', 1.8, 0.55], ['immget', 2, 0.5]].flatMap(([mode, rate, cpu]) => [
  ['W1', `${mode} n=64`, 'replies a second', 'rps', '≥', rate],
  ['W1', `${mode} n=64`, 'CPU s per 100k', 'srv_cpu_s_per_100k', '≤', cpu]
])

const networks = [[100, 0.3, 5, 0.25, 0.3], [500, 0.25, 6, 0.2, 0.3]].flatMap(([n, boot, rate, cpu, memory]) => [
  ['W2', `n=${n}`, 'start, s', 'boot_s', '≤', boot],
  ['W2', `n=${n}`, 'queries a second', 'qps', '≥', rate],
  ['W2', `n=${n}`, 'CPU ms a query', 'query_cpu_ms', '≤', cpu],
  ['W2', `n=${n}`, 'memory a node, KB', 'rss_per_node_kb', '≤', memory]
])

const records = [['immput', 3, 0.3, 4], ['immget', 3, 0.3, 4], ['mutput', 2, 0.5, 2.5], ['mutget', 2, 0.5, 2.5], ['announce', 1.8, 0.5, 2.5], ['lookup', 3, 0.3, 4]].flatMap(([op, rate, cpu, window]) => [
  ['W3', 'c=1', `${op} a second`, `ops.${op}.ops_s`, '≥', rate],
  ['W3', 'c=1', `${op} CPU ms`, `ops.${op}.cli_cpu_ms`, '≤', cpu],
  ...(op.startsWith('imm') ? [['W3', 'c=32', `${op} a second`, `ops.${op}.ops_s`, '≥', 25]] : []),
  ['W3', 'c=32', `${op} a second, peer without its window`, `ops.${op}.ops_s`, '≥', window, { peerCase: 'c=32 window off' }]
])

const mainline = [['ping', 4], ['find', 6], ['peers', 5.5], ['get', 4]].flatMap(([mode, rate]) => [
  ['W7', `${mode} n=64`, 'replies a second', 'rps', '≥', rate, { peers: ['js', 'anacrolix'] }],
  ['W7', `${mode} n=64`, 'CPU s per 100k', 'srv_cpu_s_per_100k', '≤', 0.25, { peers: ['js', 'anacrolix'] }]
])

const links = [['50 Mbit/s 40 ms', 0.98, 0.5], ['50 Mbit/s 40 ms 1% loss', 0.97, 0.5], ['10 Mbit/s 100 ms shallow queue', 1.05, 0.3]].flatMap(([link, rate, resends]) => [
  ['W10', link, 'MB/s', 'mb_s', '≥', rate],
  ['W10', link, 'resent share', resent, '≤', resends]
])

export const bars = [
  ...requests,
  ...networks,
  ['W2', 'n=100', 'p99, µs', 'lat.p99_us', '≤', 0.2],
  ['W2', 'n=100', 'requests a query', 'reqs_per_query', '≤', 1.05],
  ...records,
  ['W4', 'connect', 'to the first echo, p50 µs', 'echo.p50_us', '≤', 0.4],
  ['W4', 'connect', 'CPU ms, both ends', ends, '≤', 0.3],
  ['W4', 'cold', 'to the first echo, p50 µs', 'echo.p50_us', '≤', 0.35],
  ['W4', 'burst100', 'connections a second', 'conn_s', '≥', 6],
  ['W4', 'connect punched', 'to the first echo, p50 µs', 'echo.p50_us', '≤', 0.4],
  ['W5', 'bulk', 'MB/s', 'mb_s', '≥', 3],
  ['W5', 'bulk', 'CPU s per GB', 'cpu_s_per_gb', '≤', 0.3],
  ['W5', 'bulk', 'MB/s, beside quic-go', 'mb_s', '≥', 2, { peers: ['quic'] }],
  ['W5', 'bulk x100', 'MB/s', 'mb_s', '≥', 4],
  ['W5', 'bulk x100', 'CPU s per GB', 'cpu_s_per_gb', '≤', 0.3],
  ['W5', 'udx bulk', 'MB/s', 'mb_s', '≥', 4],
  ['W5', 'udx bulk', 'CPU s per GB', 'cpu_s_per_gb', '≤', 0.2],
  ['W5', 'udx bulk', 'packets, least = 1', packets, '≤', 1.05, { abs: true }],
  ['W5', 'udx bulk x100', 'MB/s', 'mb_s', '≥', 6],
  ['W5', 'udx bulk x100', 'CPU s per GB', 'cpu_s_per_gb', '≤', 0.25],
  ['W5', 'udx bulk', 'MB/s, warren to libudx', 'mb_s', '≥', 0.95, { side: 'warren>js' }],
  ['W5', 'udx bulk', 'MB/s, libudx to warren', 'mb_s', '≥', 0.95, { side: 'js>warren' }],
  ['W5', 'rtt one cpu', 'p50 µs', 'rtt.p50_us', '≤', 0.65],
  ['W5', 'udx rtt one cpu', 'p50 µs', 'rtt.p50_us', '≤', 0.65],
  ['W5', 'rtt under load', 'p50 µs', 'rtt.p50_us', '≤', 0.15],
  ['W6', 'idle node', 'memory, MB', 'rss_mb', '≤', 0.3],
  ['W6', 'idle node', 'memory, MB', 'rss_mb', '≤', 17, { abs: true }],
  ['W6', 'idle node', 'CPU, % of a core', 'cpu_pct', '≤', 0.5],
  ['W6', 'idle node', 'CPU, % of a core', 'cpu_pct', '≤', 0.07, { abs: true }],
  ['W6', 'idle node', 'started, ms', 'start_ms', '≤', 0.25],
  ['W6', 'idle node', 'started, ms', 'start_ms', '≤', 40, { abs: true }],
  ['W6', '1000 connections', 'server KB each', 'srv_rss_kb_per_conn', '≤', 20, { abs: true }],
  ['W6', '1000 connections', 'client KB each', 'cli_rss_kb_per_conn', '≤', 35, { abs: true }],
  ['W6', '1000 connections', 'CPU %, both', (r) => r.cli_cpu_pct + r.srv_cpu_pct, '≤', 0.4],
  ...mainline,
  ['W7', 'net put/get c=16', 'puts a second', 'ops.put.ops_s', '≥', 6],
  ['W7', 'net put/get c=16', 'gets a second', 'ops.get.ops_s', '≥', 4],
  ['W7', 'net put/get c=16', 'failed', (r) => r.ops.put.failed + r.ops.get.failed, '≤', 0, { abs: true }],
  ...links,
  ['W11', 'beside js', 'least share', 'least_share', '≥', 0.25, { abs: true }],
  ['W11', 'beside tcp', 'least share', 'least_share', '≥', 0.25, { abs: true }]
]
