package dhtrpc

import (
	"net/netip"
	"time"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/udp"
)

// A Reply is the answer to a request. It may be an error reply. Its slices are
// its own.
type Reply struct {
	From   netip.AddrPort // whence it came; another address than the one asked if it was relayed
	FromID *ID            // nil unless From is persistent and this is its address's id
	To     netip.AddrPort // our address as the peer sees it; do not trust a single one
	TID    uint16
	RTT    time.Duration // since the request was made, earlier transmissions included
	Conn   udp.Conn      // the socket it came in on
	Token  *[32]byte     // nil: absent
	Error  ErrorCode     // OK unless the peer refused
	Value  []byte        // nil: absent. Old peers read an empty value as absent

	closer   compact.Addrs
	withheld bool // there is a value, for those who show the token
}

// Err returns the error code as an error, nil if there is none.
func (r *Reply) Err() error {
	if r.Error == OK {
		return nil
	}
	return r.Error
}

// Closer returns the nodes that the peer named as closest to the request's
// target, nearest first by convention. They may be anything, unusable addresses
// included.
func (r *Reply) Closer() []netip.AddrPort {
	if r.closer.Len() == 0 {
		return nil
	}
	return r.closer.Append(make([]netip.AddrPort, 0, r.closer.Len()))
}

// Contact returns the peer as a contact; ok is false if it has not proved an
// id.
func (r *Reply) Contact() (c Contact, ok bool) {
	if r.FromID == nil {
		return Contact{}, false
	}
	return Contact{ID: *r.FromID, Addr: r.From}, true
}

// clone copies a borrowed reply, all its bytes into one piece.
func (r *Reply) clone() Reply {
	n := len(r.Value) + len(r.closer.Bytes())
	if r.FromID != nil {
		n += 32
	}
	if r.Token != nil {
		n += 32
	}
	c := *r
	buf := make([]byte, 0, n)
	take := func(v []byte) []byte {
		at := len(buf)
		buf = append(buf, v...)
		return buf[at:len(buf):len(buf)]
	}
	if r.FromID != nil {
		c.FromID = (*ID)(take(r.FromID[:]))
	}
	if r.Token != nil {
		c.Token = (*[32]byte)(take(r.Token[:]))
	}
	if r.Value != nil {
		c.Value = take(r.Value)
	}
	c.closer = compact.AddrsOf(take(r.closer.Bytes()))
	return c
}
