package dhtrpc

import (
	"errors"
	"net/netip"

	"github.com/warren-dht/warren/compact"
)

// The first byte of a datagram: type in the high nibble, version 3 in the low
// one (docs/spec/dht-rpc.md §1.1).
const (
	requestByte = 0x03
	replyByte   = 0x13
)

// Flags of a request and of a reply (docs/spec/dht-rpc.md §1.3, §1.4).
const (
	flagID       = 1 << 0
	flagToken    = 1 << 1
	flagInternal = 1 << 2 // of a request
	flagCloser   = 1 << 2 // of a reply
	flagTarget   = 1 << 3 // of a request
	flagError    = 1 << 3 // of a reply
	flagValue    = 1 << 4
	// flagWithheld, of a reply, is ours: there is a value, for those who show the
	// token. It is far from the reference's flags, which it ignores.
	flagWithheld = 1 << 15
)

// Internal commands (docs/spec/dht-rpc.md §4).
const (
	cmdPing        = 0
	cmdPingNAT     = 1
	cmdFindNode    = 2
	cmdDownHint    = 3
	cmdDelayedPing = 4
)

// headerSize is the size of a datagram's fixed part: type, flags, tid, to.
const headerSize = 1 + 1 + 2 + compact.AddrSize

var errMalformed = errors.New("dhtrpc: malformed datagram")

// A request asks for a command. Pointers and slices of a parsed one alias the
// datagram.
//
//	03 | flags | tid (2) | to (6) | id (32)? | token (32)? | command | target (32)? | value?
//
// docs/spec/dht-rpc.md §1.3.
type request struct {
	tid      uint16
	to       netip.AddrPort // the receiver's address as the sender sees it
	id       *ID
	token    *[32]byte
	internal bool
	command  uint64
	target   *ID
	value    []byte // nil: absent
}

// append writes the request.
func (m *request) append(b []byte) []byte {
	var flags byte
	if m.id != nil {
		flags |= flagID
	}
	if m.token != nil {
		flags |= flagToken
	}
	if m.internal {
		flags |= flagInternal
	}
	if m.target != nil {
		flags |= flagTarget
	}
	if m.value != nil {
		flags |= flagValue
	}
	b = append(b, requestByte, flags, byte(m.tid), byte(m.tid>>8))
	b = compact.AppendAddr(b, m.to)
	if m.id != nil {
		b = append(b, m.id[:]...)
	}
	if m.token != nil {
		b = append(b, m.token[:]...)
	}
	b = compact.AppendUint(b, m.command)
	if m.target != nil {
		b = append(b, m.target[:]...)
	}
	if m.value != nil {
		b = compact.AppendBuffer(b, m.value)
	}
	return b
}

// size is the number of bytes that append appends.
func (m *request) size() int {
	n := headerSize + compact.SizeUint(m.command)
	if m.id != nil {
		n += 32
	}
	if m.token != nil {
		n += 32
	}
	if m.target != nil {
		n += 32
	}
	if m.value != nil {
		n += compact.SizeBuffer(len(m.value))
	}
	return n
}

// parseRequest reads a request. As the reference does, it accepts flags of any
// length and unknown ones, and ignores what follows the last field.
func parseRequest(b []byte) (request, error) {
	r := compact.NewReader(b)
	if r.Uint8() != requestByte {
		return request{}, errMalformed
	}
	flags := r.Uint()
	m := request{tid: r.Uint16(), to: r.Addr(), internal: flags&flagInternal != 0}
	if flags&flagID != 0 {
		m.id = (*ID)(r.Fixed32())
	}
	if flags&flagToken != 0 {
		m.token = r.Fixed32()
	}
	m.command = r.Uint()
	if flags&flagTarget != 0 {
		m.target = (*ID)(r.Fixed32())
	}
	if flags&flagValue != 0 {
		m.value = r.Buffer()
	}
	if r.Err() != nil {
		return request{}, errMalformed
	}
	return m, nil
}

// A reply answers a request. Pointers and slices of a parsed one alias the
// datagram.
//
//	13 | flags | tid (2) | to (6) | id (32)? | token (32)? | closer nodes (6 each)? | error? | value?
//
// docs/spec/dht-rpc.md §1.4.
type reply struct {
	tid    uint16
	to     netip.AddrPort // the requester's address as the responder sees it
	id     *ID
	token  *[32]byte
	closer compact.Addrs
	code   uint64
	value  []byte // nil: absent

	withheld bool // there is a value, for those who show the token
}

// append writes the reply in the reference's form: no empty list, no error 0.
func (m *reply) append(b []byte) []byte {
	var flags byte
	if m.id != nil {
		flags |= flagID
	}
	if m.token != nil {
		flags |= flagToken
	}
	if m.closer.Len() > 0 {
		flags |= flagCloser
	}
	if m.code != 0 {
		flags |= flagError
	}
	if m.value != nil {
		flags |= flagValue
	}
	if b = append(b, replyByte); m.withheld {
		b = compact.AppendUint(b, flagWithheld|uint64(flags))
	} else {
		b = append(b, flags)
	}
	b = append(b, byte(m.tid), byte(m.tid>>8))
	b = compact.AppendAddr(b, m.to)
	if m.id != nil {
		b = append(b, m.id[:]...)
	}
	if m.token != nil {
		b = append(b, m.token[:]...)
	}
	if n := m.closer.Len(); n > 0 {
		b = compact.AppendUint(b, uint64(n))
		b = append(b, m.closer.Bytes()...)
	}
	if m.code != 0 {
		b = compact.AppendUint(b, m.code)
	}
	if m.value != nil {
		b = compact.AppendBuffer(b, m.value)
	}
	return b
}

// size is the number of bytes that append appends.
func (m *reply) size() int {
	n := headerSize
	if m.withheld {
		n += compact.SizeUint(flagWithheld) - 1
	}
	if m.id != nil {
		n += 32
	}
	if m.token != nil {
		n += 32
	}
	if c := m.closer.Len(); c > 0 {
		n += compact.SizeUint(uint64(c)) + compact.AddrSize*c
	}
	if m.code != 0 {
		n += compact.SizeUint(m.code)
	}
	if m.value != nil {
		n += compact.SizeBuffer(len(m.value))
	}
	return n
}

// parseReply reads a reply, as leniently as parseRequest. An explicit error 0
// and an empty list of nodes are read as if they were absent.
func parseReply(b []byte) (reply, error) {
	r := compact.NewReader(b)
	if r.Uint8() != replyByte {
		return reply{}, errMalformed
	}
	flags := r.Uint()
	m := reply{tid: r.Uint16(), to: r.Addr(), withheld: flags&flagWithheld != 0}
	if flags&flagID != 0 {
		m.id = (*ID)(r.Fixed32())
	}
	if flags&flagToken != 0 {
		m.token = r.Fixed32()
	}
	if flags&flagCloser != 0 {
		m.closer = r.Addrs()
	}
	if flags&flagError != 0 {
		m.code = r.Uint()
	}
	if flags&flagValue != 0 {
		m.value = r.Buffer()
	}
	if r.Err() != nil {
		return reply{}, errMalformed
	}
	return m, nil
}
