package udx

import (
	"encoding/binary"
	"errors"

	"github.com/warren-dht/warren/internal/seq"
)

// A packet is one UDP payload (docs/spec/udx.md §1.1; integers little-endian):
//
//	0      1      2      3        4        8       12     16     20
//	+------+------+------+--------+--------+-------+------+------+--------------+---------
//	| 0xff | 0x01 |flags | offset | stream | rwnd  | seq  | ack  | SACK blocks, | payload
//	|      |      |      |        | id     | bytes |      |      | padding      |
//	+------+------+------+--------+--------+-------+------+------+--------------+---------
//	                                                              <- offset  ->
//
// The stream id is the receiver's. There is no length field: the datagram is
// the packet.
const (
	headerSize = 20
	magicByte  = 0xff
	version    = 0x01

	offFlags = 2
	offPad   = 3
	offID    = 4
	offRwnd  = 8
	offSeq   = 12
	offAck   = 16
)

// flags is the bit set in a packet's third byte (§1.2). 0 is a plain ACK.
// Unknown bits are ignored.
type flags uint8

const (
	flagData      flags = 0x01 // ordered payload; takes a sequence number
	flagEnd       flags = 0x02 // TCP's FIN; takes a number, its own or its data's
	flagSACK      flags = 0x04 // blocks of numbers follow the header
	flagMessage   flags = 0x08 // unordered payload; takes no number
	flagDestroy   flags = 0x10 // TCP's RST
	flagHeartbeat flags = 0x20 // keep-alive or probe: "send an ACK"; hides all else
)

// sackBlockSize is the size of a block: first number, number after the last.
const sackBlockSize = 8

// maxSACKBlocks is how many blocks a packet of ours carries at most, as the
// reference does (§1.5).
const maxSACKBlocks = 50

// A header is the fixed part of a packet.
type header struct {
	flags    flags
	offset   uint8 // bytes between header and payload
	streamID uint32
	rwnd     uint32 // free receive buffer of the packet's sender, in bytes
	seq      seq.Number
	ack      seq.Number
}

// A packet is a parsed datagram. Its slices are borrowed from it.
type packet struct {
	header
	sacks   []byte // whole blocks; see sackBlock
	payload []byte

	elsewhere bool // it came by another path than the stream's
}

var (
	errNotPacket  = errors.New("udx: not a packet")
	errBadPadding = errors.New("udx: padding exceeds the packet")
)

// looksLikePacket reports whether b can be a packet of this protocol, to tell
// streams from the other datagrams of a socket (§1.6, steps 1 and 2).
func looksLikePacket(b []byte) bool {
	return len(b) >= headerSize && b[0] == magicByte && b[1] == version
}

// packetStreamID returns the stream id of b, which must look like a packet.
func packetStreamID(b []byte) uint32 {
	return binary.LittleEndian.Uint32(b[offID:])
}

// parsePacket reads a datagram. It accepts any flag bits. Payload is present
// whatever the flags say; which of them deliver it is the stream's affair.
func parsePacket(b []byte) (packet, error) {
	if !looksLikePacket(b) {
		return packet{}, errNotPacket
	}
	p := packet{header: header{
		flags:    flags(b[offFlags]),
		offset:   b[offPad],
		streamID: packetStreamID(b),
		rwnd:     binary.LittleEndian.Uint32(b[offRwnd:]),
		seq:      seq.Number(binary.LittleEndian.Uint32(b[offSeq:])),
		ack:      seq.Number(binary.LittleEndian.Uint32(b[offAck:])),
	}}
	rest := b[headerSize:]
	if int(p.offset) > len(rest) {
		return p, errBadPadding
	}
	if p.flags&flagSACK != 0 {
		// §1.5: without an offset the blocks reach to the end; with one that
		// equals the rest it makes no difference.
		region := len(rest)
		if p.offset > 0 {
			region = int(p.offset)
		}
		p.sacks = rest[:region-region%sackBlockSize]
	}
	p.payload = rest[p.offset:]
	return p, nil
}

// sackBlock returns the i-th block as it stands, which may be nonsense.
func (p *packet) sackBlock(i int) seq.Range {
	b := p.sacks[i*sackBlockSize:]
	return seq.Range{
		Start: seq.Number(binary.LittleEndian.Uint32(b)),
		End:   seq.Number(binary.LittleEndian.Uint32(b[4:])),
	}
}

// sackBlocks returns how many blocks the packet carries.
func (p *packet) sackBlocks() int { return len(p.sacks) / sackBlockSize }

// put writes the header into b, which must have room for it.
func (h *header) put(b []byte) {
	_ = b[headerSize-1]
	b[0], b[1] = magicByte, version
	b[offFlags] = byte(h.flags)
	b[offPad] = h.offset
	binary.LittleEndian.PutUint32(b[offID:], h.streamID)
	binary.LittleEndian.PutUint32(b[offRwnd:], h.rwnd)
	binary.LittleEndian.PutUint32(b[offSeq:], uint32(h.seq))
	binary.LittleEndian.PutUint32(b[offAck:], uint32(h.ack))
}

// Append writes the header behind b.
func (h *header) Append(b []byte) []byte {
	var buf [headerSize]byte
	h.put(buf[:])
	return append(b, buf[:]...)
}

// Append writes the packet behind b: header, blocks, padding up to the
// header's offset, payload. Blocks without an offset are the payload as well,
// as they are when parsed, and are not written twice.
func (p *packet) Append(b []byte) []byte {
	b = p.header.Append(b)
	if p.offset > 0 || len(p.payload) == 0 {
		b = append(b, p.sacks...)
	}
	for range int(p.offset) - len(p.sacks) {
		b = append(b, 0)
	}
	return append(b, p.payload...)
}

// appendSACKBlock writes one block behind b.
func appendSACKBlock(b []byte, r seq.Range) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(r.Start))
	return binary.LittleEndian.AppendUint32(b, uint32(r.End))
}

// setStreamID rewrites the stream id in place, as a relay does (§2.9).
func setStreamID(b []byte, id uint32) {
	binary.LittleEndian.PutUint32(b[offID:], id)
}

// String names the bits, for tests and debugging.
func (f flags) String() string {
	if f == 0 {
		return "ACK"
	}
	s := ""
	for i, name := range [...]string{"DATA", "END", "SACK", "MESSAGE", "DESTROY", "HEARTBEAT", "0x40", "0x80"} {
		if f&(1<<i) != 0 {
			if s != "" {
				s += "|"
			}
			s += name
		}
	}
	return s
}
