// libtorrent's DHT, through its Python binding (Debian: python3-libtorrent).
// This file only starts mainline-libtorrent.py, which speaks to the tests.
import { spawn } from 'child_process'
import { fileURLToPath } from 'url'

const script = fileURLToPath(new URL('mainline-libtorrent.py', import.meta.url))
const child = spawn('/usr/bin/python3', ['-u', script], { stdio: 'inherit' })
child.on('exit', (code) => process.exit(code ?? 1))
