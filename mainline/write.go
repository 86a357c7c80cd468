package mainline

import (
	"net/netip"
	"strconv"

	"github.com/warren-dht/warren/bencode"
)

// What every datagram of ours ends with: our client and version (§3).
const client = "WN\x00\x01"

// A request is a query that we send. Everything that goes into it has a type of
// its own, so a query without arguments, or with a token, target or key that is
// not a byte string, cannot be written: such kill deployed nodes
// (docs/spec/mainline.md §25).
type request struct {
	method string
	target key // of find_node, get, sample_infohashes; info_hash of get_peers, announce_peer
	want4  bool
	want6  bool
	noSeed bool // get_peers (BEP 33)
	scrape bool // get_peers (BEP 33)

	token   []byte // announce_peer, put
	port    uint16 // announce_peer
	implied bool   // announce_peer
	seed    bool   // announce_peer (BEP 33)

	item   *Item  // put
	cas    *int64 // put
	minSeq *int64 // get: only a value with a greater seq is wanted
}

// appendQuery writes a query from the node with the given id, in canonical
// order: jech/dht finds the parts by searching for their exact bytes.
func appendQuery(b []byte, q *request, id []byte, idLen int, readOnly bool, tid uint16) []byte {
	b = append(b, "d1:ad"...)
	if q.cas != nil {
		b = append(b, "3:cas"...)
		b = bencode.AppendInt(b, *q.cas)
	}
	b = append(b, "2:id"...)
	b = bencode.AppendString(b, id)
	switch q.method {
	case methodFindNode, methodSample:
		b = append(b, "6:target"...)
		b = bencode.AppendString(b, q.target[:idLen])
	case methodGet:
		if q.minSeq != nil {
			b = append(b, "3:seq"...)
			b = bencode.AppendInt(b, *q.minSeq)
		}
		b = append(b, "6:target"...)
		b = bencode.AppendString(b, q.target[:idLen])
	case methodGetPeers:
		b = append(b, "9:info_hash"...)
		b = bencode.AppendString(b, q.target[:idLen])
		if q.noSeed {
			b = append(b, "6:noseedi1e"...)
		}
		if q.scrape {
			b = append(b, "6:scrapei1e"...)
		}
	case methodAnnounce:
		// libtorrent demands port even if it is implied, and bittorrent-dht and
		// libtorrent always send implied_port (§5.4).
		b = append(b, "12:implied_port"...)
		b = appendFlag(b, q.implied)
		b = append(b, "9:info_hash"...)
		b = bencode.AppendString(b, q.target[:idLen])
		b = append(b, "4:port"...)
		b = bencode.AppendInt(b, q.port)
		b = append(b, "4:seed"...)
		b = appendFlag(b, q.seed)
		b = append(b, "5:token"...)
		b = bencode.AppendString(b, q.token)
	case methodPut:
		b = q.appendPut(b)
	}
	if q.want4 || q.want6 {
		b = append(b, "4:wantl"...)
		if q.want4 {
			b = append(b, "2:n4"...)
		}
		if q.want6 {
			b = append(b, "2:n6"...)
		}
		b = append(b, 'e')
	}
	b = append(b, "e1:q"...)
	b = bencode.AppendString(b, q.method)
	if readOnly {
		b = append(b, "2:roi1e"...)
	}
	b = append(b, "1:t2:"...)
	b = append(b, byte(tid>>8), byte(tid))
	return append(b, "1:v4:"+client+"1:y1:qe"...)
}

// appendPut writes the arguments of put. An immutable one carries seq 0, which
// anacrolix/dht requires and nobody minds (§15.3).
func (q *request) appendPut(b []byte) []byte {
	i := q.item
	if i.Mutable() {
		b = append(b, "1:k"...)
		b = bencode.AppendString(b, i.Key)
		if len(i.Salt) > 0 {
			b = append(b, "4:salt"...)
			b = bencode.AppendString(b, i.Salt)
		}
	}
	b = append(b, "3:seq"...)
	b = bencode.AppendInt(b, i.Seq)
	if i.Mutable() {
		b = append(b, "3:sig"...)
		b = bencode.AppendString(b, i.Signature)
	}
	b = append(b, "5:token"...)
	b = bencode.AppendString(b, q.token)
	b = append(b, "1:v"...)
	return append(b, i.Value...)
}

func appendFlag(b []byte, set bool) []byte {
	if set {
		return append(b, "i1e"...)
	}
	return append(b, "i0e"...)
}

// beginResponse writes a response up to and including our id; its other
// results, sorted, and endResponse follow.
func beginResponse(b []byte, to netip.AddrPort, id []byte) []byte {
	b = append(b, "d2:ip"...)
	b = appendEndpoint(b, to)
	b = append(b, "1:rd2:id"...)
	return bencode.AppendString(b, id)
}

func endResponse(b, t []byte) []byte {
	b = append(b, "e1:t"...)
	b = bencode.AppendString(b, t)
	return append(b, "1:v4:"+client+"1:y1:re"...)
}

// appendError writes an error.
func appendError(b []byte, to netip.AddrPort, t []byte, code Code, text string) []byte {
	b = append(b, "d1:el"...)
	b = bencode.AppendInt(b, code)
	b = bencode.AppendString(b, text)
	b = append(b, "e2:ip"...)
	b = appendEndpoint(b, to)
	b = append(b, "1:t"...)
	b = bencode.AppendString(b, t)
	return append(b, "1:v4:"+client+"1:y1:ee"...)
}

// appendEndpoint writes a compact address as a byte string.
func appendEndpoint(b []byte, a netip.AddrPort) []byte {
	if a.Addr().Is4() {
		b = append(b, "6:"...)
	} else {
		b = append(b, "18:"...)
	}
	return appendAddr(b, a)
}

// appendLength writes the head of a byte string whose bytes follow.
func appendLength(b []byte, n int) []byte {
	b = strconv.AppendInt(b, int64(n), 10)
	return append(b, ':')
}
