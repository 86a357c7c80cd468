package mainline

import (
	"bytes"
	"errors"

	"github.com/warren-dht/warren/bencode"
)

// The methods of a query.
const (
	methodPing     = "ping"
	methodFindNode = "find_node"
	methodGetPeers = "get_peers"
	methodAnnounce = "announce_peer"
	methodGet      = "get"
	methodPut      = "put"
	methodSample   = "sample_infohashes"
)

// maxTransaction is the longest transaction id that is echoed.
const maxTransaction = 64

// A message is a datagram that was read. Its byte strings are borrowed from
// the datagram.
//
//	key  in               meaning
//	t    all              transaction id, echoed
//	y    all              q, r or e
//	q    query            method
//	a    query            arguments
//	r    response         results
//	e    error            list of code and text
//	ip   response, error  the querier's address as the replier sees it (BEP 42)
//	ro   query            the sender is read-only (BEP 43)
//	v    all              client
type message struct {
	kind   byte // 'q', 'r' or 'e'
	t      []byte
	method []byte
	ip     []byte
	client []byte
	ro     bool
	code   Code
	text   []byte
	body   body
	isDict bool // of a query or response: a or r is a dictionary
}

// A body is what stands in a or r: the arguments of a query or its results.
type body struct {
	has   fields // keys present with a value of the right type
	wrong fields // keys present with a value of another type

	id, target, infoHash   []byte
	token, key, sig, salt  []byte
	value                  bencode.Raw
	nodes, nodes6, samples []byte
	values                 bencode.Raw // a list
	bloomSeeds, bloomPeers []byte
	port, seq, cas, num    int64
	interval               int64
	implied, seed          bool
	noSeed, scrape         bool
	want4, want6           bool
}

// fields is a set of keys of a body.
type fields uint32

const (
	hasID fields = 1 << iota
	hasTarget
	hasInfoHash
	hasToken
	hasKey
	hasSig
	hasSalt
	hasValue
	hasSeq
	hasCAS
	hasPort
	hasWant
	hasNodes
	hasNodes6
	hasValues
	hasSamples
	hasNum
	hasInterval
	hasBloomSeeds
	hasBloomPeers
	hasFlags // implied_port, seed, noseed, scrape
)

func (b *body) any(f fields) bool { return b.has&f != 0 }

var errMessage = errors.New("not a KRPC message")

// looksLike is the cheap test for a shared socket: a dictionary begins with
// 'd', and nothing that uTP sends does.
func looksLike(b []byte) bool { return len(b) > 2 && b[0] == 'd' }

// parse reads a datagram into m. Keys may come in any order, the last of two
// equal ones counts, unknown ones and bytes after the dictionary are ignored
// (docs/spec/mainline.md §2). An error means that the datagram is to be
// dropped: it is no dictionary, or lacks y or t, or carries a topic (BEP 50).
func (m *message) parse(b []byte) error {
	*m = message{}
	r := bencode.NewReader(b)
	if !r.Dict() {
		return errMessage
	}
	var args, results, fault bencode.Raw
	var hasT, topic bool
	for r.More() {
		switch string(r.Key()) {
		case "a":
			args = r.Raw()
		case "c":
			topic = true
			r.Skip()
		case "e":
			fault = r.Raw()
		case "ip":
			m.ip, _ = r.Bytes()
		case "q":
			m.method, _ = r.Bytes()
		case "r":
			results = r.Raw()
		case "ro":
			n, _ := r.Int()
			m.ro = n != 0
		case "t":
			m.t, hasT = r.Bytes()
		case "v":
			m.client, _ = r.Bytes()
		case "y":
			m.kind = 0
			if y, _ := r.Bytes(); len(y) == 1 {
				m.kind = y[0]
			}
		default:
			r.Skip()
		}
	}
	if r.Err() != nil || !hasT || len(m.t) > maxTransaction || topic {
		return errMessage
	}
	// What counts is y: libtorrent's errors carry an r as well.
	switch m.kind {
	case 'q':
		m.isDict = m.body.parse(args)
	case 'r':
		m.isDict = m.body.parse(results)
	case 'e':
		m.parseError(fault)
	default:
		return errMessage
	}
	return nil
}

// parseError reads the list of a code and a text; what is not such a list is
// code 0 (docs/spec/mainline.md §3).
func (m *message) parseError(b []byte) {
	r := bencode.NewReader(b)
	if len(b) == 0 || !r.List() || !r.More() {
		return
	}
	n, _ := r.Int()
	m.code = Code(n)
	if r.More() {
		m.text, _ = r.Bytes()
	}
}

// parse reads a dictionary of arguments or results, which is known to be
// well-formed, and reports whether it is one.
func (a *body) parse(b []byte) bool {
	r := bencode.NewReader(b)
	if len(b) == 0 || !r.Dict() {
		return false
	}
	for r.More() {
		switch string(r.Key()) {
		case "BFpe":
			a.bytes(&r, &a.bloomPeers, hasBloomPeers)
		case "BFsd":
			a.bytes(&r, &a.bloomSeeds, hasBloomSeeds)
		case "cas":
			a.int(&r, &a.cas, hasCAS)
		case "id":
			a.bytes(&r, &a.id, hasID)
		case "implied_port":
			a.flag(&r, &a.implied)
		case "info_hash":
			a.bytes(&r, &a.infoHash, hasInfoHash)
		case "interval":
			a.int(&r, &a.interval, hasInterval)
		case "k":
			a.bytes(&r, &a.key, hasKey)
		case "nodes":
			a.bytes(&r, &a.nodes, hasNodes)
		case "nodes6":
			a.bytes(&r, &a.nodes6, hasNodes6)
		case "noseed":
			a.flag(&r, &a.noSeed)
		case "num":
			a.int(&r, &a.num, hasNum)
		case "port":
			a.int(&r, &a.port, hasPort)
		case "salt":
			a.bytes(&r, &a.salt, hasSalt)
		case "samples":
			a.bytes(&r, &a.samples, hasSamples)
		case "scrape":
			a.flag(&r, &a.scrape)
		case "seed":
			a.flag(&r, &a.seed)
		case "seq":
			a.int(&r, &a.seq, hasSeq)
		case "sig":
			a.bytes(&r, &a.sig, hasSig)
		case "target":
			a.bytes(&r, &a.target, hasTarget)
		case "token":
			a.bytes(&r, &a.token, hasToken)
		case "v":
			a.value = r.Raw()
			a.mark(hasValue, true)
		case "values":
			isList := r.Kind() == bencode.List
			a.values = r.Raw()
			a.mark(hasValues, isList)
		case "want":
			a.want(&r)
		default:
			r.Skip()
		}
	}
	return r.Err() == nil
}

func (a *body) mark(f fields, ok bool) {
	a.has &^= f
	a.wrong &^= f
	if ok {
		a.has |= f
	} else {
		a.wrong |= f
	}
}

func (a *body) bytes(r *bencode.Reader, to *[]byte, f fields) {
	b, ok := r.Bytes()
	*to = b
	a.mark(f, ok)
}

func (a *body) int(r *bencode.Reader, to *int64, f fields) {
	n, ok := r.Int()
	*to = n
	a.mark(f, ok)
}

func (a *body) flag(r *bencode.Reader, to *bool) {
	n, _ := r.Int()
	*to = n != 0
}

// want reads the list of n4 and n6 (BEP 32); other strings are ignored.
func (a *body) want(r *bencode.Reader) {
	if !r.List() {
		return
	}
	a.mark(hasWant, true)
	for r.More() {
		switch s, _ := r.Bytes(); {
		case bytes.Equal(s, []byte("n4")):
			a.want4 = true
		case bytes.Equal(s, []byte("n6")):
			a.want6 = true
		}
	}
}
