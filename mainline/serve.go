package mainline

import (
	"bytes"
	"crypto/ed25519"
	"net/netip"
	"time"

	"github.com/warren-dht/warren/bencode"
	"github.com/warren-dht/warren/udp"
)

// The size of replies (BEP 32), see the package comment.
const (
	maxReply      = 1024
	maxValueReply = 1280 // of a get: with a value of 1000 bytes, key and signature 1024 are not enough
	maxValues4    = 50
	maxValues6    = 25
)

// serve answers a query. A well-formed one with bad arguments is answered with
// an error, whatever the arguments are (docs/spec/mainline.md §25).
func (s *socket) serve(now time.Time, out *outbox, m *message, from netip.AddrPort) {
	n := s.node
	if n.cfg.ReadOnly { // BEP 43
		n.stats.Dropped.ReadOnly++
		return
	}
	if !usable(from) {
		n.stats.Dropped.Malformed++
		return
	}
	a := &m.body
	refuse := func(code Code, text string) {
		n.stats.Errors.count(code)
		start := len(out.buf)
		out.add(appendError(out.buf, from, m.t, code, text), start, from)
	}
	switch {
	case !m.isDict:
		refuse(CodeProtocol, "missing arguments")
		return
	case len(a.id) != n.idLen:
		refuse(CodeProtocol, "missing or bad id")
		return
	case len(m.method) == 0:
		refuse(CodeProtocol, "missing method")
		return
	}
	start := len(out.buf)
	b := beginResponse(out.buf, from, s.id[:n.idLen])
	var code Code
	var text string
	switch string(m.method) {
	case methodPing:
		n.stats.Served.Ping++
	case methodFindNode:
		b, code, text = s.serveFindNode(b, a, from)
	case methodGetPeers:
		b, code, text = s.serveGetPeers(now, b, start, m, from)
	case methodAnnounce:
		code, text = s.serveAnnounce(now, a, from)
	case methodGet:
		b, code, text = s.serveGet(now, b, start, m, from)
	case methodPut:
		code, text = s.servePut(now, a, from)
	case methodSample:
		b, code, text = s.serveSample(now, b, start, m, from)
	default:
		// As libtorrent: whatever is about a target is a find_node (§5.5).
		if len(a.target) == n.idLen || len(a.infoHash) == n.idLen {
			b, code, text = s.serveFindNode(b, a, from)
		} else {
			code, text = CodeUnknownMethod, "Method Unknown"
		}
	}
	switch {
	case code != 0:
		refuse(code, text)
	case n.journal != nil && (string(m.method) == methodAnnounce || string(m.method) == methodPut):
		s.replyWhenDurable(endResponse(b, m.t)[start:], m.t, from)
	default:
		out.add(endResponse(b, m.t), start, from)
	}
	if !m.ro {
		s.queried(now, out, point{ID: toKey(a.id), Addr: from})
	}
}

// replyWhenDurable sends a response once the durable store has what it promises.
func (s *socket) replyWhenDurable(response, t []byte, to netip.AddrPort) {
	d := []udp.Datagram{{Payload: bytes.Clone(response), Peer: to}}
	failure := appendError(nil, to, t, CodeServer, "cannot store")
	s.node.journal.wait(func(err error) {
		if err != nil {
			d[0].Payload = failure
		}
		s.conn.WriteBatch(d)
	})
}

func (s *socket) serveFindNode(b []byte, a *body, from netip.AddrPort) ([]byte, Code, string) {
	target := a.target
	if len(target) != s.node.idLen {
		target = a.infoHash
	}
	if len(target) != s.node.idLen {
		return b, CodeProtocol, "`find_node` missing required `a.target` field"
	}
	s.node.stats.Served.FindNode++
	return s.appendNodes(b, a, toKey(target), from), 0, ""
}

func (s *socket) serveGetPeers(now time.Time, b []byte, start int, m *message, from netip.AddrPort) ([]byte, Code, string) {
	n, a := s.node, &m.body
	if len(a.infoHash) != n.idLen {
		return b, CodeProtocol, "`get_peers` missing required `a.info_hash` field"
	}
	n.stats.Served.GetPeers++
	infoHash := toKey(a.infoHash)
	known := n.peers[family(s.is6)]
	stored := n.clock.Now(now)
	size := known.size(stored, infoHash)
	if size > 0 && a.scrape {
		f := known.scrape(stored, infoHash)
		// They sort before the id that has been written already.
		at := start + len("d2:ip6:") + peer4Size
		if s.is6 {
			at = start + len("d2:ip18:") + peer6Size
		}
		b = append(b[:at], "1:rd4:BFpe"...)
		b = bencode.AppendString(b, f.peers[:])
		b = append(b, "4:BFsd"...)
		b = bencode.AppendString(b, f.seeds[:])
		b = append(b, "2:id"...)
		b = bencode.AppendString(b, s.id[:n.idLen])
	}
	b = s.appendNodesIn(b, a, infoHash, from, maxReply-(len(b)-start)-tailSize(m.t)-len("5:token20:")-tokenSize)
	b = s.appendToken(now, b, from.Addr())
	if size > 0 {
		b = s.appendValues(now, b, maxReply-(len(b)-start)-tailSize(m.t), infoHash, a.noSeed)
	}
	return b, 0, ""
}

// tailSize is what endResponse adds.
func tailSize(t []byte) int { return len("e1:t64:1:v4:1:y1:re") + len(client) + len(t) }

// appendValues writes as many peers as fit into room, drawn at random.
func (s *socket) appendValues(now time.Time, b []byte, room int, infoHash key, noSeed bool) []byte {
	n := s.node
	size, most := peer4Size+len("6:"), maxValues4
	if s.is6 {
		size, most = peer6Size+len("18:"), maxValues6
	}
	most = min(most, (room-len("6:valuesle"))/size)
	n.scratch = n.peers[family(s.is6)].sample(n.scratch[:0], n.clock.Now(now), infoHash, max(most, 0), noSeed, n.rnd)
	if len(n.scratch) == 0 {
		return b
	}
	b = append(b, "6:valuesl"...)
	for _, p := range n.scratch {
		b = appendEndpoint(b, p)
	}
	return append(b, 'e')
}

func (s *socket) serveAnnounce(now time.Time, a *body, from netip.AddrPort) (Code, string) {
	n := s.node
	port := a.port
	if a.implied {
		port = int64(from.Port())
	}
	infoHash := toKey(a.infoHash)
	switch {
	case len(a.infoHash) != n.idLen || infoHash == key{}:
		return CodeProtocol, "`announce_peer` missing required `a.info_hash` field"
	case !a.implied && !a.any(hasPort) || port < 1 || port > 65535:
		return CodeProtocol, "`announce_peer` missing required `a.port` field"
	case !s.tokens.Valid(now, from.Addr(), a.token):
		return CodeProtocol, "cannot `announce_peer` with bad token"
	case n.journal.full():
		return CodeServer, "busy"
	}
	n.stats.Served.Announce++
	n.announced(now, infoHash, netip.AddrPortFrom(from.Addr(), uint16(port)), a.seed, from)
	return 0, ""
}

func (s *socket) serveGet(now time.Time, b []byte, start int, m *message, from netip.AddrPort) ([]byte, Code, string) {
	n, a := s.node, &m.body
	if len(a.target) != n.idLen || a.wrong&hasSeq != 0 {
		return b, CodeProtocol, "`get` missing required `a.target` field"
	}
	n.stats.Served.Get++
	target := toKey(a.target)
	item := n.items.get(n.clock.Now(now), target)
	if item == nil {
		b = s.appendNodes(b, a, target, from)
		return s.appendToken(now, b, from.Addr()), 0, ""
	}
	// A seq in the query asks only for a value that is newer.
	send := !item.Mutable() || !a.any(hasSeq) || item.Seq > a.seq
	room := maxReply - (len(b) - start) - tailSize(m.t) - len("5:token20:") - tokenSize
	if item.Mutable() {
		room -= len("3:seqi-9223372036854775808e")
		if send {
			room -= len("1:k32:3:sig64:") + ed25519.PublicKeySize + ed25519.SignatureSize
		}
	}
	if send {
		room -= len("1:v") + len(item.Value)
		room += maxValueReply - maxReply
		if item.Mutable() {
			b = append(b, "1:k"...)
			b = bencode.AppendString(b, item.Key)
		}
	}
	b = s.appendNodesIn(b, a, target, from, room)
	if item.Mutable() {
		b = append(b, "3:seq"...)
		b = bencode.AppendInt(b, item.Seq)
		if send {
			b = append(b, "3:sig"...)
			b = bencode.AppendString(b, item.Signature)
		}
	}
	b = s.appendToken(now, b, from.Addr())
	if send {
		b = append(b, "1:v"...)
		b = append(b, item.Value...)
	}
	return b, 0, ""
}

// servePut checks in the order of BEP 44: token, size, salt, signature, and at
// last cas and seq against what is held. What has a key, a signature or a salt
// is a mutable put, and has to be a complete one.
func (s *socket) servePut(now time.Time, a *body, from netip.AddrPort) (Code, string) {
	n := s.node
	const mutable = hasKey | hasSig | hasSalt
	wants := (a.has|a.wrong)&mutable != 0
	switch {
	case !a.any(hasValue):
		return CodeProtocol, "`put` missing required `a.v` field"
	case !s.tokens.Valid(now, from.Addr(), a.token):
		return CodeProtocol, "cannot `put` with bad token"
	case len(a.value) > MaxValue:
		return CodeValueTooBig, "data payload too large"
	case bencode.Check(a.value) != nil:
		return CodeProtocol, "`a.v` is not canonical bencode"
	case a.wrong&(mutable|hasSeq|hasCAS) != 0:
		return CodeProtocol, "an argument is of the wrong type"
	case wants && (!a.any(hasKey) || len(a.key) != ed25519.PublicKeySize):
		return CodeProtocol, "missing or bad `a.k`"
	case wants && (!a.any(hasSig) || len(a.sig) != ed25519.SignatureSize):
		return CodeProtocol, "missing or bad `a.sig`"
	case wants && (!a.any(hasSeq) || a.seq < 0):
		return CodeProtocol, "missing or negative `a.seq`"
	case len(a.salt) > MaxSalt:
		return CodeSaltTooBig, "salt too big"
	case n.journal.full():
		return CodeServer, "busy"
	}
	item := &Item{Value: bytes.Clone(a.value)}
	var cas *int64
	if wants {
		item.Key, item.Signature, item.Seq = bytes.Clone(a.key), bytes.Clone(a.sig), a.seq
		item.Salt = bytes.Clone(a.salt)
		if a.any(hasCAS) {
			v := a.cas
			cas = &v
		}
	}
	// The signature costs 50 µs and is no business of the node's state. The
	// message is not looked at again: it may be overwritten meanwhile.
	n.mu.Unlock()
	good := !wants || n.cfg.Verify(item.Signature, appendSigned(nil, item.Salt, item.Seq, item.Value), item.Key)
	target := item.target(n.cfg.Hash)
	n.mu.Lock()
	if !good {
		return CodeBadSignature, "invalid signature"
	}
	switch code := n.keepItem(now, target, item, cas, from.Addr()); code {
	case CodeCASMismatch:
		return code, "CAS mismatch, re-read and try again"
	case CodeSeqTooLow:
		return code, "sequence number less than current"
	}
	n.stats.Served.Put++
	return 0, ""
}

func (s *socket) serveSample(now time.Time, b []byte, start int, m *message, from netip.AddrPort) ([]byte, Code, string) {
	n, a := s.node, &m.body
	if len(a.target) != n.idLen {
		return b, CodeProtocol, "`sample_infohashes` missing required `a.target` field"
	}
	n.stats.Served.Sample++
	samples, num, interval := n.peers[family(s.is6)].sampleHashes(n.clock.Now(now), n.idLen, n.rnd)
	b = append(b, "8:interval"...)
	b = bencode.AppendInt(b, int64(interval/time.Second))
	b = s.appendNodes(b, a, toKey(a.target), from)
	b = append(b, "3:num"...)
	b = bencode.AppendInt(b, num)
	b = append(b, "7:samples"...)
	room := maxReply - (len(b) - start) - tailSize(m.t) - len("640:")
	return bencode.AppendString(b, samples[:min(len(samples), room/n.idLen*n.idLen)]), 0, ""
}

// tokenSize is the length of our tokens.
const tokenSize = 20

func (s *socket) appendToken(now time.Time, b []byte, ip netip.Addr) []byte {
	t := s.tokens.Issue(now, ip)
	b = append(b, "5:token20:"...)
	return append(b, t[:tokenSize]...)
}

// appendNodes writes the K nodes nearest to a target, nodes, nodes6 or both as
// the query wants (BEP 32).
func (s *socket) appendNodes(b []byte, a *body, target key, from netip.AddrPort) []byte {
	return s.appendNodesIn(b, a, target, from, maxReply)
}

// appendNodesIn is appendNodes with as many nodes as fit into room.
func (s *socket) appendNodesIn(b []byte, a *body, target key, from netip.AddrPort, room int) []byte {
	want4, want6 := !s.is6, s.is6
	if a.any(hasWant) && (a.want4 || a.want6) {
		want4, want6 = a.want4, a.want6
	}
	if want4 {
		before := len(b)
		b = s.node.appendNearest(b, s, "5:nodes", target, from, false, room)
		room -= len(b) - before
	}
	if want6 {
		b = s.node.appendNearest(b, s, "6:nodes6", target, from, true, room)
	}
	return b
}

// appendNearest writes one list of nodes of a family, out of the table of the
// asked socket if it is of that family, else of the first one that is. The
// querier is left out, and whoever is in doubt.
func (n *Node) appendNearest(b []byte, asked *socket, name string, target key, from netip.AddrPort, is6 bool, room int) []byte {
	s := asked
	if s.is6 != is6 {
		s = n.byFamily[family(is6)]
	}
	var list []*known
	size := n.idLen + peer4Size
	if is6 {
		size = n.idLen + peer6Size
	}
	most := min(K, (room-len(name)-len("304:"))/size)
	if s != nil && most > 0 {
		list = s.routes.near(target, most+3)
	}
	use := list[:0]
	for _, x := range list {
		if len(use) < most && x.Addr != from && !x.Data.failed {
			use = append(use, x)
		}
	}
	if most <= 0 {
		return b
	}
	b = append(b, name...)
	b = appendLength(b, len(use)*size)
	for _, x := range use {
		b = append(b, x.ID[:n.idLen]...)
		b = appendAddr(b, x.Addr)
	}
	return b
}
